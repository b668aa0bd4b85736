"""Quadratic sampling, or smoothing: logits bent by their distance from the best one."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

_LARGEST = torch.finfo(torch.float32).max


class Quadratic(LogitsProcessor):
    """Bend the logits by their distance d = l - l_max: l' = -k * f * d ** 2 + s * f * d ** 3 + l_max.

    k = (3 - curve) / 2 and s = (curve - 1) / 2; with a curve of 1 that is l_max - f * d ** 2. Tokens near the best one
    come closer to it, those far from it go further away. A factor of 0 is off, as it is in the engines that have the
    stage. Up to a curve of 3 the order of the tokens stays; above 3 those just below the best one pass it.

    The best logit stays as it is, so a temperature behind this stage still counts. Computed in float64; what would
    leave float32's range stops at its end.

    Source: kalomaze, text-generation-webui pull requests 5403 and 5551 (smoothing_factor and smoothing_curve).
    """

    identity_when: ClassVar[dict[str, Any]] = {"factor": 0.0}
    examples: ClassVar[tuple[str, ...]] = ("quadratic(0.2)", "quadratic(0.2, curve=1.5)")

    factor: Scalar = Field(ge=0, description="f: how strongly the logits are bent; 0 is off")
    curve: Scalar = Field(1.0, ge=1, description="1 is a parabola; above that the far tokens fall as a cube")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        top = dist.max_logit.double()  # [R, 1]
        d = torch.where(dist.alive, dist.logits.double() - top, 0.0)  # [R, C], none above 0
        values: tuple[Any, Any] = self.factor, self.curve
        # A number is rounded to float32 as the values of a schedule are: near l' = 0 nothing else would agree.
        factor, curve = (torch.as_tensor(v, dtype=torch.float32, device=d.device).double() for v in values)
        bent = top + factor * d.square() * ((curve - 1.0) / 2.0 * d - (3.0 - curve) / 2.0)
        logits = bent.clamp(-_LARGEST, _LARGEST).float()
        return dist.with_logits(torch.where(factor > 0, logits, dist.logits))


__all__ = ["Quadratic"]
