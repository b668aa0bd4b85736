"""A strategy as a plain list, for peers that know nothing else: stages in a row, one sampler, criteria joined by or."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...core.dsl.write import stage_text, test_text
from ...core.expression import Expression
from ...core.patch import patched
from ...core.scalar import Ramp
from ...core.stage import Stage, StoppingCriterion
from ...core.strategy import AllOf, AnyOf, Not, Strategy, Test
from .assembly import listed
from .conversion import LeftOut

#: writes a stage's values where the peer has them; returns why it cannot, or None
Writer = Callable[[Any], str | None]

_ADDITIVE = frozenset({"bias", "presence", "frequency"})
_WHY_NOT = {
    "mix": "knows one pipeline, and no mixture of several",
    "product": "knows one pipeline, and no product of several",
    "when": "has no conditions",
    "phases": "has no phases",
}


class Outline:
    """What a strategy says, in the order in which it says it, and what a peer cannot be told of it."""

    def __init__(self, peer: str, strategy: Strategy) -> None:
        self.peer = peer
        strategy = patched(strategy)
        self.left_out: list[LeftOut] = []
        steps = [step.stage for step in strategy.pipeline]
        self.sampler: Stage | None = steps.pop() if steps and steps[-1].kind in ("sampler", "search") else None
        self.stages = steps
        self.stop = strategy.stop
        self.tests: list[Test] = _alternatives(strategy.stop)

    # -- what cannot be said -------------------------------------------------------------------------------------------

    def lose(self, stage: Stage, why: str) -> None:
        """Say that a stage cannot be carried over, or not as it is. ``why`` goes on from the peer's name."""
        self.left_out.append(LeftOut(stage.stage_name, stage_text(stage), f"{self.peer} {why}"))

    def lose_end(self, test: Test | None, why: str) -> None:
        """Say that a stop test (None: that there is none) cannot be carried over."""
        what = "no until" if test is None else f"until {test_text(test)}"
        self.left_out.append(LeftOut("until", what, f"{self.peer} {why}"))

    def differs(self, stage: Any, how: str, *dialects: str) -> None:
        """Say that a stage is carried over though it is in another dialect than the peer's, which has ``dialects``."""
        if getattr(stage, "dialect", None) not in (None, *dialects):
            self.lose(stage, f'{how}; carried over all the same (exact with dialect="{dialects[0]}")')

    # -- the pipeline --------------------------------------------------------------------------------------------------

    def write(
        self,
        writers: Mapping[str, Writer],
        order: Sequence[str] | None = None,
        name_of: Callable[[Stage], str] = lambda stage: stage.stage_name,
    ) -> list[str]:
        """Hand every stage to the writer of its name; returns the names of those written, in order.

        ``order``: the names in the order in which the peer always runs them; None where the order is free.
        """
        done: list[tuple[str, Stage]] = []
        for stage in self.stages:
            name = name_of(stage)
            if stage.is_identity():
                continue
            if name not in writers:
                self.lose(stage, _WHY_NOT.get(name, "has no such stage"))
                continue
            why = (
                self._not_plain(stage)
                or _keeps(stage)
                or _out_of_order(stage, name, done, order)
                or writers[name](stage)
            )
            if why is None:
                done.append((name, stage))
            else:
                self.lose(stage, why)
        return [name for name, _ in done]

    @staticmethod
    def _not_plain(stage: Stage) -> str | None:
        for name in type(stage).scalars:
            value = getattr(stage, name)
            if isinstance(value, Ramp | Expression):
                what = "schedule" if isinstance(value, Ramp) else "expression of signals"
                return f"takes a number for {name}, and no {what}"
        return None

    # -- the end -------------------------------------------------------------------------------------------------------

    def take(self, name: str) -> list[Any]:
        """The criteria of a name, which are then accounted for."""
        found = [test for test in self.tests if isinstance(test, StoppingCriterion) and test.stage_name == name]
        plain = [criterion for criterion in found if self._not_plain(criterion) is None]
        self.tests = [test for test in self.tests if not any(test is one for one in plain)]
        return plain

    def bound(self, name: str, field: str = "n") -> Any:
        """The least bound among the criteria of a name, or None."""
        return min((getattr(criterion, field) for criterion in self.take(name)), default=None)

    def texts(self, name: str = "stop") -> tuple[list[str], set[bool]]:
        """All strings at which the text ends, and whether they stay in it."""
        found = self.take(name)
        return [text for criterion in found for text in criterion.strings], {one.include for one in found}

    def finish(self) -> list[LeftOut]:
        """All that is left out. Tests that nobody took are."""
        for test in self.tests:
            plain = isinstance(test, StoppingCriterion)
            self.lose_end(test, f"has no such {'criterion' if plain else 'test'}")
        return self.left_out


class Writing:
    """A document in the making: what the writers of several peers share."""

    def __init__(self, outline: Outline) -> None:
        self.outline = outline
        self.fields: dict[str, Any] = {}

    def put(self, field: str, value: Any) -> str | None:
        """Write a field; returns why not, where it is taken by another stage."""
        if field in self.fields:
            return f"has one {field}, and that is taken"
        self.fields[field] = value
        return None

    def agrees(self, field: str, value: Any) -> bool:
        """Write a field that several stages share; False where another one wants something else."""
        return bool(self.fields.setdefault(field, value) == value)

    def ranged(self, field: str, value: float, low: float, high: float) -> str | None:
        """Write a number that the peer takes from ``low`` to ``high``."""
        return self.put(field, value) if low <= value <= high else f"takes {field} from {low} to {high}"

    def simple(self, field: str, value: str, *dialects: str, how: str = "") -> Writer:
        """A writer of one value. ``how``: what the peer does that is different in any dialect but these."""

        def write(stage: Any) -> str | None:
            why = self.put(field, getattr(stage, value))
            if why is None and how:
                self.outline.differs(stage, how, *dialects)
            return why

        return write

    def sampler(self, *names: str) -> Any:
        """The sampler, where it is one of ``names``; any other, and none, is said."""
        found = self.outline.sampler
        if found is not None and found.stage_name not in names:
            self.outline.lose(found, f"ends in nothing like it: it has {listed(names)}")
        return found if found is None or found.stage_name in names else None


def _keeps(stage: Any) -> str | None:
    return "keeps one token at least, and has no min_keep" if getattr(stage, "min_keep", 1) > 1 else None


def _out_of_order(
    stage: Stage, name: str, done: Sequence[tuple[str, Stage]], order: Sequence[str] | None
) -> str | None:
    if order is None:
        return None
    for earlier, other in done:
        if order.index(earlier) > order.index(name) and not _commute(stage, other):
            return f"always runs {stage.stage_name} before {other.stage_name}"
    return None


def _commute(one: Stage, other: Stage) -> bool:
    """Whether two stages give the same in either order."""
    if one.stage_name in _ADDITIVE and other.stage_name in _ADDITIVE:
        return True
    if one.ranks_only or other.ranks_only:  # what keeps the order of all logits does not change who is among the best
        scaled = other if one.ranks_only else one
        return scaled.monotone and scaled.pointwise and not scaled.masks_only
    return one.pointwise and other.pointwise and (one.masks_only or other.masks_only)


def _alternatives(test: Test | None) -> list[Test]:
    if test is None:
        return []
    if isinstance(test, AnyOf) and not isinstance(test, AllOf | Not):
        return list(test.tests)
    return [test]


__all__ = ["Outline", "Writer", "Writing"]
