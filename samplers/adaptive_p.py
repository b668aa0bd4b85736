"""Adaptive-p: tokens near a probability, and on average at it."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import NEG_INF, Dist
from ..core.scalar import Scalar
from ..core.stage import Sampler

_WIDTH, _PEAK, _SHARPNESS = 0.3, 5.0, 10.0  # llama.cpp's DISTRIBUTION_WIDTH, PEAK_LOGIT_VALUE and SHARPNESS


class AdaptivePState(NamedTuple):
    """The decaying sums, float64 [R, 1], whose ratio is the average probability of the tokens so far."""

    probabilities: Tensor
    weights: Tensor


class AdaptiveP(Sampler):
    """Draw tokens whose probability is near a target, and whose probabilities average it.

    Each token left gets the logit 5 - 10 d^2 / (1 + d) with d = abs(p - t) / 0.3, p its probability as it comes, and
    the token is drawn from the softmax of those. t = 2 target - A, clipped to [0, 1], where A = sum decay^i p_i /
    sum decay^i is the average over the committed tokens, latest first, of their p before the transform. A starts as
    the target, with the weight of an endless past, 1 / (1 - decay).

    A target above 1 counts as 1, though A starts at what is written; a negative one is off: the distribution is drawn
    from as it comes, and A stands still. All tokens far from the target get much the same logit, likely or not,
    so that a truncation (min_p) should come first. A committed token that has no mass in the law leaves A where it
    is. ``Strategy.distribution`` starts at A = target whatever the output: the probabilities of earlier tokens are
    not known there. ``seed`` is the default for requests that bring none.

    Source: llama.cpp pull request 17927 (src/llama-sampler.cpp), which clips a decay above 0.99 to it; here that is
    an error.
    """

    examples: ClassVar[tuple[str, ...]] = ("adaptive_p(0.5)", "adaptive_p(0.3, decay=0.95)")

    target: Scalar = Field(description="the probability that tokens should have on average; negative is off")
    decay: Scalar = Field(0.9, ge=0, le=0.99, description="how long the average remembers: 1 / (1 - decay) tokens")
    seed: int | None = Field(None, ge=0, lt=2**64, description="the seed of requests that bring none of their own")

    def init(self, ctx: Context) -> AdaptivePState:
        weights = 1 / (1 - torch.as_tensor(self.decay, dtype=torch.float64, device=ctx.device))
        target = torch.as_tensor(self.target, dtype=torch.float64, device=ctx.device)
        weights = weights.expand(ctx.rows, 1).clone()
        return AdaptivePState(target * weights, weights)

    def law(self, dist: Dist, state: AdaptivePState, ctx: Context) -> Dist:
        target = self._target(dist.device)
        aim = 2 * target.clamp(0, 1) - state.probabilities / state.weights  # [R, 1]
        distance = (dist.probs - aim.clamp(0, 1).float()).abs() / _WIDTH  # [R, C]
        near = _PEAK - _SHARPNESS * distance * distance / (1 + distance)
        return dist.with_logits(torch.where(target < 0, dist.logits, near))

    def accept(self, state: AdaptivePState, tokens: Tensor, law: Dist, ctx: Context) -> AdaptivePState:
        counts = (law.logprob_of(tokens) > NEG_INF) & (self._target(law.device) >= 0)  # [R, 1]
        column, _ = ctx.given.columns_of(tokens)
        p = ctx.given.probs.gather(-1, column).double()
        return AdaptivePState(
            torch.where(counts, p + self.decay * state.probabilities, state.probabilities),
            torch.where(counts, 1 + self.decay * state.weights, state.weights),
        )

    def _target(self, device: torch.device) -> Tensor:
        """float64 [R, 1], or [] where it is one number."""
        return torch.as_tensor(self.target, dtype=torch.float64, device=device)


__all__ = ["AdaptiveP", "AdaptivePState"]
