"""What a stage of any kind makes of a case, and whether two such outcomes are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.context import Context
from ...core.dist import Dist
from ...core.planner import plan
from ...core.session import Session
from ...core.stage import Combinator, Stage
from ...core.strategy import Strategy
from . import bench
from .cases import Case

ULP = 4 * 2**-23  # relative: reductions over columns may round by the number of rows
NAT = 2e-5  # absolute: and logits made from probabilities round with those


def on(stages: Stage | Sequence[Stage], dist: Dist, ctx: Context) -> Any:
    """A Dist (processor, sampler, combinator), a tensor [R, 1] or texts (signal), or a truth [R, 1] (criterion).

    One stage for all rows, or a stage for each, stacked.
    """
    first = stages if isinstance(stages, Stage) else stages[0]
    if isinstance(first, Combinator):
        return Session.opened(plan(Strategy.of(first), as_written=True, fragment=True), ctx).law(dist, ctx)[0]
    return bench.run(stages, dist, ctx)


def outcome(stages: Stage | Sequence[Stage], case: Case, dist: Dist | None = None) -> Any:
    """What a stage (or a stage for each row) makes of a case; of ``dist`` in place of the case's own where given."""
    dist = case.dist() if dist is None else dist
    return on(stages, dist, case.context(dist))


def same(a: Any, b: Any, within: float = NAT) -> bool:
    """Whether two outcomes agree: the same tokens left, and logits equal to 4 ulp or ``within``."""
    if isinstance(a, Dist) and isinstance(b, Dist):
        x, y = a.dense().logits.double(), b.dense().logits.double()
        if not torch.equal(x > -bench.INF, y > -bench.INF):
            return False
        return torch.allclose(x, y, rtol=ULP, atol=within, equal_nan=True)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dtype == torch.bool:
            return torch.equal(a, b)
        return torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6, equal_nan=True)
    return bool(a == b)


def pick(value: Any, rows: Sequence[int]) -> Any:
    """Some rows of an outcome."""
    if isinstance(value, Dist):
        return value.select(list(rows))
    if isinstance(value, Tensor):
        return value[list(rows)]
    return [value[i] for i in rows]


def apart(a: Any, b: Any, within: float = NAT) -> int | None:
    """The first row in which two outcomes of as many rows differ, or None."""
    rows = a.rows if isinstance(a, Dist) else len(a)
    return next((i for i in range(rows) if not same(pick(a, [i]), pick(b, [i]), within)), None)


def shown(value: Any, row: int | None = None) -> str:
    """An outcome for people, one row of it where ``row`` says which."""
    if row is not None:
        value = pick(value, [row])
    if isinstance(value, Dist):
        value = value.dense().logits
    if not isinstance(value, Tensor):
        return repr(value)
    rows = [[f"{x:.6g}" if isinstance(x, float) else str(x).lower() for x in line] for line in value.tolist()]
    lines = [f"[{', '.join(line)}]" for line in rows]
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    return text if len(text) <= 200 else text[:197] + "..."


__all__ = ["apart", "on", "outcome", "pick", "same", "shown"]
