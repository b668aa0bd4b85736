"""Laws of values: a Scalar is a number, a schedule or an expression, and each row may have its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....core.errors import StrategyError
from ....core.expression import Constant, Function, Read
from ....core.loader import registry
from ....core.scalar import Ramp
from ....core.stage import Schedule, Signal, Stage
from ..cases import Case, ordinary
from ..law import ROWS, Breach, law
from ..outcome import apart, outcome, pick, same, shown
from ..subjects import numbers, siblings, with_value


def another(vocab: int) -> Case:
    """Ordinary rows of other numbers."""
    return ordinary(vocab, 3)


def variants(stage: Stage, field: str) -> dict[str, Any]:
    """Other ways to say one value of a Scalar field: a flat schedule, an expression."""
    value = getattr(stage, field)
    entry = registry().schedule("linear")
    shape, entropy = entry.load()() if entry is not None else None, registry().stage("entropy")
    assert isinstance(shape, Schedule)
    assert isinstance(entropy, Signal)
    flat = Constant(float(value))
    return {
        f"{value:g} -> {value:g} over 4": Ramp(value, value, 4, shape),
        f"clamp(entropy, {value:g}, {value:g})": Function("clamp", (Read(entropy), flat, flat)),
    }


@law(ROWS, another)
def values(stage: Stage, case: Case) -> Breach | None:
    """A value may be written as a number, a schedule or an expression."""
    plain = None
    for field, value in numbers(stage).items():
        if 0 < abs(value) < 1e-20:
            continue  # float32 rounds it
        for written, other in variants(stage, field).items():
            try:
                twin = with_value(stage, field, other)
            except StrategyError:  # refused together with another field, a dialect for instance
                continue
            plain = outcome(stage, case) if plain is None else plain
            got = outcome(twin, case)
            row = apart(got, plain)
            if row is not None:
                return Breach(f"{field} = {value:g} gives {shown(plain, row)}, {written} gives {shown(got, row)}", row)
    return None


@law(ROWS, another)
def stacked(stage: Stage, case: Case) -> Breach | None:
    """Rows with values of their own may run in one call."""
    if stage.kind == "combinator":
        return None  # the core stacks its children
    others = siblings(stage)
    for first in range(0, len(others), max(1, case.rows - 1)):
        chosen = [stage, *others[first : first + max(1, case.rows - 1)]]
        breach = together(chosen, case)
        if breach is not None:
            return breach
    return None


def together(stages: Sequence[Stage], case: Case) -> Breach | None:
    """Stages of one class that differ in their Scalars, a row for each (in turn), against each for all rows."""
    chosen = [stages[row % len(stages)] for row in range(case.rows)]
    found = outcome(chosen, case)
    for row, mine in enumerate(chosen):
        alone = outcome(mine, case)
        if not same(pick(found, [row]), pick(alone, [row])):
            return Breach(
                f"beside {_others(chosen, row)} the row of {mine!r} gets {shown(found, row)}, "
                f"where all rows have its value {shown(alone, row)}",
                row,
            )
    return None


def _others(chosen: Sequence[Stage], row: int) -> str:
    return ", ".join(dict.fromkeys(repr(stage) for i, stage in enumerate(chosen) if i != row)) or "itself"


__all__ = ["stacked", "together", "values", "variants"]
