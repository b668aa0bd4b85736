"""Signals of a distribution: how uncertain it is, and how much of it is left."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import Signal


class Entropy(Signal):
    """Shannon entropy in nats: H = -sum of p ln p. 0 where one token is left, ln V where all are equal."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.entropy


class Varentropy(Signal):
    """The variance of a token's surprise, in nats squared: sum of p (ln p + H) ** 2."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        spread = torch.where(dist.probs > 0, dist.logprobs + dist.entropy, 0.0)
        return (dist.probs * spread.square()).sum(-1, keepdim=True)


class MaxP(Signal):
    """The probability of the best token."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.probs.amax(-1, keepdim=True)


class Margin(Signal):
    """How far the best token's probability is above the second's. 1 where one token is left."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        if dist.columns == 1:
            return dist.probs
        best = dist.probs.topk(2, dim=-1).values
        return best[:, :1] - best[:, 1:]


class Kept(Signal):
    """How many tokens are left."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.kept.float()


class Mass(Signal):
    """The probability that the model itself gives to the tokens that are left. 1 before any truncation."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        raw = ctx.raw.logprob_of(dist.token_ids()).exp()
        return torch.where(dist.alive, raw, 0.0).sum(-1, keepdim=True).clamp(max=1.0)


__all__ = ["Entropy", "Kept", "Margin", "Mass", "MaxP", "Varentropy"]
