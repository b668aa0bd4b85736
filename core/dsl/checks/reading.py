"""What the checks look at: a strategy with its patches applied, where its parts were written, and what is known of the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ...errors import Where
from ...expression import Expression
from ...patch import patched
from ...scalar import Ramp
from ...stage import Combinator, LogitsProcessor, Search, Stage
from ...strategy import Patch, Step, Strategy, Test, expressions, leaves
from ...vocab import Vocab
from ..marks import Marks

#: end-of-sequence tokens as well-known models write them, for where no tokenizer is given
EOS_TEXTS = frozenset(
    "</s> <eos> <|end|> <|endoftext|> <|end_of_text|> <|im_end|> <|eot_id|> <|eom_id|> <end_of_turn> <|return|>".split()
)


@dataclass(frozen=True)
class Pipe:
    """A pipeline in a strategy. ``outer``: the steps that every row has been through when it comes to it."""

    strategy: Strategy
    outer: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Reading:
    """A strategy as it will run, and the document that it was written as."""

    written: Strategy
    vocab: Vocab | None = None
    eos: frozenset[str] = EOS_TEXTS

    @cached_property
    def strategy(self) -> Strategy:
        return patched(self.written)

    @cached_property
    def pipes(self) -> tuple[Pipe, ...]:
        """Every pipeline, the blocks of stages behind what holds them."""
        return tuple(_pipes(self.strategy, ()))

    # -- places --------------------------------------------------------------------------------------------------------

    def at(self, step: Step, field: str | None = None, item: int | None = None) -> Where | None:
        """Where a step was written, or one of its arguments, or what a patch put there."""
        patch = self._patch(step, field)
        if patch is not None:
            return patch.where
        stage = self._stages.get(step.where, step.stage) if self._patches else step.stage
        return self._marks.of(stage, field, item) if field is not None else step.where

    def at_test(
        self, test: Test, strategy: Strategy, field: str | None = None, item: int | None = None
    ) -> Where | None:
        """Where a part of a strategy's stop test was written."""
        return self._marks.of(test, field, item) or self._until(strategy) or strategy.where

    def at_expression(self, expression: Expression, otherwise: Where | None) -> Where | None:
        """Where an expression was written."""
        return self._marks.of(expression) or otherwise

    def at_part(self, part: object, field: str, otherwise: Where | None) -> Where | None:
        """Where an argument of anything was written."""
        return self._marks.of(part, field) or otherwise

    def _until(self, strategy: Strategy) -> Where | None:
        return None if strategy.stop is None else self._marks.of(strategy.stop)

    @cached_property
    def _marks(self) -> Marks:
        return self.written.marks or Marks()

    @cached_property
    def _patches(self) -> list[Patch]:
        return [patch for strategy in _strategies(self.written) for patch in strategy.patches]

    @cached_property
    def _stages(self) -> dict[Where | None, Stage]:
        """By its place, each stage as it was before patches."""
        return {step.where: step.stage for step in self.written.steps() if step.where is not None}

    def _patch(self, step: Step, field: str | None) -> Patch | None:
        names = (step.label, step.stage.stage_name)
        found = (p for p in self._patches if p.path[-1] == field and ".".join(p.path[:-1]) in names and p.where)
        return next(found, None)


def _strategies(strategy: Strategy) -> Iterator[Strategy]:
    yield strategy
    for child in strategy.children():
        yield from _strategies(child)


def _pipes(strategy: Strategy, outer: tuple[Step, ...]) -> Iterator[Pipe]:
    yield Pipe(strategy, outer)
    for position, step in enumerate(strategy.pipeline):
        if isinstance(step.stage, Combinator | Search):
            before = (*outer, *strategy.pipeline[:position])
            for child in step.stage.children():
                yield from _pipes(child, before)


def everything(strategy: Strategy) -> Iterator[tuple[Step | None, Stage | Expression]]:
    """Each stage of one pipeline with its step, the criteria and expressions of its stop test without one, and the
    signals that any of them reads.
    """
    for step in strategy.pipeline:
        yield step, step.stage
        yield from ((step, read.signal) for held in expressions(step.stage) for read in held.reads())
    for leaf in leaves(strategy.stop):
        if isinstance(leaf, Expression):
            yield from ((None, read.signal) for read in leaf.reads())
        else:
            yield None, leaf
            yield from ((None, read.signal) for held in expressions(leaf) for read in held.reads())


def constant(value: object) -> float | None:
    """A number that was written as one, else None."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def least(value: object) -> float | None:
    """The least value of a number or a schedule, else None."""
    return min(value.start, value.end) if isinstance(value, Ramp) else constant(value)


def leaves_one(stage: Stage) -> bool:
    """Whether one token is left behind it, whatever it is given."""
    if not isinstance(stage, LogitsProcessor) or getattr(stage, "dialect", "logitmill") != "logitmill":
        return False  # what ties with the best may stay there
    name = stage.stage_name
    return (
        (name == "top_k" and constant(getattr(stage, "k", None)) == 1)
        or (name == "temperature" and constant(getattr(stage, "value", None)) == 0)
        or (name == "top_p" and constant(getattr(stage, "p", None)) == 0 and getattr(stage, "min_keep", 0) == 1)
    )


__all__ = ["EOS_TEXTS", "Pipe", "Reading", "constant", "everything", "least", "leaves_one"]
