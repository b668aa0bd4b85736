"""Putting a strategy together from what a reading found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, get_args

from ...core.errors import Path, StrategyError
from ...core.expression import Comparison, Constant, Expression, Read
from ...core.loader import registry
from ...core.stage import Signal, Stage
from ...core.strategy import Step, Strategy, Test, any_of
from .reading import Reading, written


@cache
def dialects_of(stage: type[Stage]) -> tuple[str, ...]:
    """The dialects of a stage, () where it has none."""
    field = stage.model_fields.get("dialect")
    return () if field is None else get_args(field.annotation)


def reads(signal: str, op: str, value: int) -> Comparison:
    """A condition on a signal that takes no arguments: ``step == 0``."""
    read = registry().stage(signal)
    assert isinstance(read, Signal)  # the names asked for are signals
    return Comparison(op, Read(read), Constant(value))


class Assembly:
    """A pipeline and its stop test in the making. ``dialects``: the peer's own, the first that a stage has counts."""

    def __init__(self, reading: Reading, *dialects: str) -> None:
        self.reading, self.dialects = reading, dialects
        self.steps: list[Step] = []
        self.tests: list[Test] = []

    def stage(self, field: str, name: str, *args: Any, **fields: Any) -> Stage:
        """A stage in the peer's dialect. Raises StrategyError at ``field`` for a value that it refuses."""
        entry = registry().find(name)
        dialect = next((d for d in self.dialects if entry is not None and d in dialects_of(entry.load())), None)
        if dialect is not None and "dialect" not in fields:
            fields["dialect"] = dialect
        try:
            return registry().stage(name, *args, **fields)
        except StrategyError as error:
            what = written(field, self.reading.get(field))
            raise StrategyError(
                f"{self.reading.peer}: {what}: {error.message}", Path(field, self.reading.file), code="range"
            ) from None

    def add(self, field: str, name: str, *args: Any, when: Expression | None = None, **fields: Any) -> None:
        """A stage at the end of the pipeline, for the rows in which ``when`` holds; none where it would do nothing."""
        stage = self.stage(field, name, *args, **fields)
        if stage.is_identity():
            return
        if when is not None:
            stage = registry().stage("when", when, Strategy((Step(stage),)))
        self.steps.append(Step(stage))

    def end(self, field: str, name: str, *args: Any, **fields: Any) -> None:
        """A stopping criterion, one of those that end a row."""
        criterion = self.stage(field, name, *args, **fields)
        self.tests.append(criterion)  # type: ignore[arg-type]  # the names asked for are criteria

    def strategy(self) -> Strategy:
        """What has come together."""
        return Strategy(tuple(self.steps), any_of(*self.tests) if self.tests else None)


def listed(values: Sequence[Any]) -> str:
    """``a, b and c``."""
    words = [str(value) for value in values]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


__all__ = ["Assembly", "dialects_of", "listed", "reads"]
