"""Laws of columns: behind a truncation there are fewer of them, and the result is the same."""

from __future__ import annotations

import torch

from ....core.dist import Dist
from ....core.expression import Expression
from ....core.stage import Stage
from ..cases import INF, Case, ordinary, repetitive
from ..law import DISTS, PIPED, Breach, law
from ..outcome import apart, outcome, pick, same, shown


@law(DISTS | {"signal"}, ordinary, repetitive)
def narrowed(stage: Stage, case: Case) -> Breach | None:
    """Columns cut off are the same to it as columns removed."""
    few = max(1, min(9, case.vocab - 1))
    cut, dense = outcome(stage, case, case.dist().narrow(few)), outcome(stage, case, case.dist().narrow(few).dense())
    row = apart(cut, dense)
    if row is None:
        return None
    return Breach(
        f"of the {few} best tokens it gives {shown(cut, row)} on {few} columns, {shown(dense, row)} on all", row
    )


@law(PIPED, ordinary, repetitive)
def pointwise(stage: Stage, case: Case) -> Breach | None:
    """pointwise = True: on some of the columns it gives what it gives there on all."""
    if not stage.pointwise or reads_the_rest(stage):
        return None
    whole = outcome(stage, case)
    after = whole.dense()
    few = max(1, case.vocab * 3 // 4)
    candidates = case.dist().narrow(few)
    there = torch.zeros_like(after.alive).scatter(-1, candidates.token_ids(), True)
    got, wanted = outcome(stage, case, candidates), Dist(after.logits.masked_fill(~there, -INF))
    for row in range(case.rows):
        rescued = any(found.rescued is not None and bool(found.rescued[row]) for found in (whole, got))
        if rescued:
            continue  # the best token was put back, and not by the stage
        if not same(pick(got, [row]), pick(wanted, [row])):
            return Breach(f"of the {few} best tokens it gives {shown(got, row)}, of all {shown(wanted, row)}", row)
    return None


def reads_the_rest(stage: Stage) -> bool:
    """Whether one of its values is an expression: that reads the whole distribution, and the planner knows."""
    return any(isinstance(getattr(stage, name), Expression) for name in stage.scalars)


__all__ = ["narrowed", "pointwise", "reads_the_rest"]
