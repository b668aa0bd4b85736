"""Top-a: a threshold that grows with the square of the best probability."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from ..core.bands import keep_above
from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class TopA(LogitsProcessor):
    """Drop tokens with p < a * p_max ** 2.

    The surer the model, the more goes. a = 0 is off; the best token always stays, since a * p_max ** 2 is never above
    p_max. Computed in float64 and compared in float32, so the cut is the same on the whole vocabulary and on a
    narrowed set.

    Source: BlinkDL, RWKV-LM, "the top-a sampling method" (2022); as in text-generation-webui.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"a": 0.0}
    examples: ClassVar[tuple[str, ...]] = ("top_a(0.2)",)

    a: Scalar = Field(ge=0, le=1, description="the threshold, as a share of the squared probability of the best token")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        # With weights w = p / p_max and their sum S = 1 / p_max, p >= a * p_max ** 2 is w * S >= a.
        cut = keep_above(dist, lambda sums: (torch.as_tensor(self.a, dtype=torch.float64) / sums.total).log(), most=0.0)
        if cut is not None:
            return cut
        total = dist.weights.sum(-1, keepdim=True)  # [R, 1]
        return dist.keep((dist.weights * total).float() >= self.a)


__all__ = ["TopA"]
