"""P-less: a threshold that the distribution sets itself."""

from __future__ import annotations

from typing import Any, ClassVar

from ..core.bands import keep_above
from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import LogitsProcessor


class PLess(LogitsProcessor):
    """Drop tokens less likely than a random guess is right: p < sum of p ** 2. There is nothing to set.

    The sum of squares is the chance that two independent draws agree. The best token always stays, since p_max is
    never below that sum; where all tokens are equally likely, all stay. Computed in float64 and compared in float32,
    so the cut is the same on the whole vocabulary and on a narrowed set.

    Source: Tan, Wu and Howard, "p-less sampling", arXiv 2509.23234.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ("p_less",)

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        # With weights w = p / p_max and their sum S, p >= sum of p ** 2 is w * S >= sum of w ** 2. No weight is above
        # 1, so term by term the right side is the smaller one at the best token, in any rounding.
        cut = keep_above(dist, lambda sums: (sums.squares / sums.total).log(), most=0.0)
        if cut is not None:
            return cut
        total = dist.weights.sum(-1, keepdim=True)  # [R, 1]
        squares = dist.weights.square().sum(-1, keepdim=True)  # [R, 1]
        return dist.keep((dist.weights * total).float() >= squares.float())


__all__ = ["PLess"]
