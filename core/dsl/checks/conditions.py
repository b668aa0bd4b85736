"""Conditions that always hold or never do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import Where
from ...expression import Expression, Inverse, Logic
from ...stage import Combinator, LogitsProcessor, Search
from ...strategy import AllOf, AnyOf, Not, Strategy, Test
from ..write import test_text
from .intervals import Facts, Interval, Known, of_vocabulary
from .reading import Reading
from .warning import Found, StrategyWarning

#: what to say of a test that never holds, and of one that always does
Hints = tuple[str, str]
_BLOCKS: Hints = ("its block never runs", "the 'when' can go, and what stands in 'else' never runs")
_ENDS: Hints = ("it ends no row", "write max_tokens(1) if one token is meant")
_PART: Hints = ("this part can go", "this part can go")
#: behind a token, as a stop test finds it
_BEHIND = {"step": Interval(1.0), "position": Interval(1.0), "last": Interval(0.0)}


def conditions(reading: Reading) -> Found:
    """The tests of ``when`` and ``until``."""
    walk = _Walk(reading, of_vocabulary(reading.vocab))
    yield from walk.pipeline(reading.strategy, Facts())


@dataclass(frozen=True)
class _Walk:
    reading: Reading
    ranges: dict[str, Interval]

    def pipeline(self, strategy: Strategy, facts: Facts) -> Found:
        """A pipeline that begins where ``facts`` hold."""
        for step in strategy.pipeline:
            stage: Any = step.stage
            test = getattr(stage, "test", None)
            if stage.stage_name == "when" and isinstance(test, Expression):
                where = self.reading.at(step, "test")
                yield from self.test(test, Known(facts, self.ranges), where, _BLOCKS)
                for block, holds in zip(stage.children(), (True, False), strict=False):
                    yield from self.pipeline(block, facts.given(test, holds))
            elif isinstance(stage, Combinator | Search):
                for block in stage.children():
                    yield from self.pipeline(block, Facts() if getattr(stage, "sequential", False) else facts)
            if isinstance(stage, LogitsProcessor | Combinator):
                facts = facts.behind_a_stage()
        if strategy.stop is not None:
            yield from self.until(strategy.stop, strategy, _ENDS)

    def until(self, stop: Test, strategy: Strategy, hints: Hints) -> Found:
        where = self.reading.at_test(stop, strategy)
        if isinstance(stop, Expression):
            narrowed = {name: self.ranges.get(name, Interval()) & low for name, low in _BEHIND.items()}
            yield from self.test(stop, Known(ranges={**self.ranges, **narrowed}), where, hints)
        elif isinstance(stop, AnyOf):
            if not isinstance(stop, Not) and any(Not((part,)) in stop.tests for part in stop.tests):
                yield _said(not isinstance(stop, AllOf), "this test", where, hints)
                return
            for part in stop.tests:
                yield from self.until(part, strategy, _PART if isinstance(stop, AllOf | Not) else hints)

    def test(self, node: Expression, known: Known, otherwise: Where | None, hints: Hints) -> Found:
        """The outermost parts of a condition that hold always or never. What reads no signal is said on purpose."""
        if not node.reads():
            return
        where = self.reading.at_expression(node, otherwise)
        truth = known.truth(node)
        if truth is not None:
            yield _said(truth, f"'{test_text(node)}'", where, hints)
        elif isinstance(node, Inverse):
            yield from self.test(node.of, known, where, _PART)
        elif isinstance(node, Logic):
            for item in node.items:
                yield from self.test(item, known, where, _PART)


def _said(holds: bool, what: str, where: Where | None, hints: Hints) -> StrategyWarning:
    message = f"{what} {'always' if holds else 'never'} holds"
    return StrategyWarning("constant-test", message, where, hints[holds])


__all__ = ["conditions"]
