"""Top-n-sigma: a threshold in standard deviations of the logits."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.bands import TIGHT, deviation, keep_between
from ..core.context import Context
from ..core.dist import NEG_INF, Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class TopNSigma(LogitsProcessor):
    """Drop logits more than n standard deviations below the best: l < l_max - n * sigma. n <= 0 is off.

    sigma is the population standard deviation of the logits not removed so far. What stays does not change with the
    temperature.

    Source: Tang et al., arXiv 2411.07641; as in llama.cpp.
    Dialects: textgen takes the sample standard deviation of the whole vocabulary, with 0 for each logit removed.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"n": lambda n: n <= 0}
    examples: ClassVar[tuple[str, ...]] = ("top_n_sigma(1.0)", 'top_n_sigma(1.0, dialect="textgen")')

    n: Scalar = Field(description="how many standard deviations below the best logit a token may lie; 0 or less is off")
    dialect: Literal["logitmill", "textgen"] = Field(
        "logitmill", description="textgen: sample sigma, with removed logits as 0"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if dist.is_wide and self.dialect == "logitmill":
            cut = self._without_tables(dist)
            if cut is not None:
                return cut
        sigma = self._sigma(dist)
        threshold = (dist.max_logit.double() - self.n * sigma).float()
        off = torch.zeros_like(sigma) >= self.n
        return dist.keep((dist.logits >= threshold) | off)

    def _without_tables(self, dist: Dist) -> Dist | None:
        """The same cut from a sigma summed in another order; None where a logit lies too close to tell."""
        mean, sigma = deviation(dist)
        n, best = torch.as_tensor(self.n, dtype=torch.float64), dist.max_logit.double()
        threshold = torch.where(n > 0, best - n * sigma, NEG_INF)
        off = TIGHT * (best.abs() + mean.abs() + n.abs() * sigma)
        cut = keep_between(dist, (threshold - off).float(), (threshold + off).float())
        return cut if isinstance(cut, Dist) else None

    def _sigma(self, dist: Dist) -> Tensor:
        """A float64 [R, 1]: squares of float32 cannot overflow there."""
        logits = torch.where(dist.alive, dist.logits.double(), 0.0)
        if self.dialect == "logitmill":
            return _squares(dist, logits, dist.kept).div(dist.kept).sqrt()
        count = torch.full_like(dist.kept, dist.vocab_size)  # removed logits are 0, in or out of this Dist's columns
        squares = _squares(dist, logits, count) + (count - dist.kept) * (logits.sum(-1, keepdim=True) / count).square()
        return squares.div((count - 1).clamp(min=1)).sqrt()


def _squares(dist: Dist, logits: Tensor, count: Tensor) -> Tensor:
    """A float64 [R, 1]: the squared distances of dist's tokens from the mean of ``count`` of them, summed."""
    mean = logits.sum(-1, keepdim=True) / count
    return torch.where(dist.alive, logits - mean, 0.0).square().sum(-1, keepdim=True)


__all__ = ["TopNSigma"]
