"""Top-n-sigma: a threshold in standard deviations of the logits."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class TopNSigma(LogitsProcessor):
    """Drop logits more than n standard deviations below the best: l < l_max - n * sigma. n <= 0 is off.

    sigma is the population standard deviation of the logits not removed so far. What stays does not change with the
    temperature.

    Source: Tang et al., arXiv 2411.07641; as in llama.cpp.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"n": lambda n: n <= 0}

    n: Scalar = Field(description="how many standard deviations below the best logit a token may lie; 0 or less is off")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        logits = torch.where(dist.alive, dist.logits.double(), 0.0)  # float64: squares of float32 cannot overflow there
        mean = logits.sum(-1, keepdim=True) / dist.kept
        spread = torch.where(dist.alive, logits - mean, 0.0)
        sigma = (spread.square().sum(-1, keepdim=True) / dist.kept).sqrt()  # [R, 1]
        threshold = (dist.max_logit.double() - self.n * sigma).float()
        off = torch.zeros_like(sigma) >= self.n
        return dist.keep((dist.logits >= threshold) | off)


__all__ = ["TopNSigma"]
