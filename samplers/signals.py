"""Signals of a distribution: how uncertain it is, and how much of it is left."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import Signal


class Entropy(Signal):
    """Shannon entropy in nats: H = -sum of p ln p. 0 where one token is left, ln V where all are equal."""

    examples: ClassVar[tuple[str, ...]] = ("entropy < 0.5", "raw.entropy > 2.5")

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.entropy


class Varentropy(Signal):
    """The variance of a token's surprise, in nats squared: sum of p (ln p + H) ** 2."""

    examples: ClassVar[tuple[str, ...]] = ("varentropy > 2",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        spread = torch.where(dist.probs > 0, dist.logprobs + dist.entropy, 0.0)
        return (dist.probs * spread.square()).sum(-1, keepdim=True)


class MaxP(Signal):
    """The probability of the best token."""

    examples: ClassVar[tuple[str, ...]] = ("max_p > 0.9",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.probs.amax(-1, keepdim=True)


class Margin(Signal):
    """How far the best token's probability is above the second's. 1 where one token is left."""

    examples: ClassVar[tuple[str, ...]] = ("margin < 0.05",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        if dist.columns == 1:
            return dist.probs
        best = dist.probs.topk(2, dim=-1).values
        return best[:, :1] - best[:, 1:]


class Kept(Signal):
    """How many tokens are left."""

    examples: ClassVar[tuple[str, ...]] = ("kept == 1",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.kept.float()


class Mass(Signal):
    """The probability that the model itself gives to the tokens that are left. 1 before any truncation."""

    examples: ClassVar[tuple[str, ...]] = ("mass < 0.5",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        columns, there = ctx.raw.columns_of(dist.token_ids())
        weights = ctx.raw.weights.gather(-1, columns)  # float64: the sum is the same whatever the columns
        left = torch.where(dist.alive & there, weights, 0.0).sum(-1, keepdim=True)
        return (left / ctx.raw.weights.sum(-1, keepdim=True)).float().clamp(max=1.0)


__all__ = ["Entropy", "Kept", "Margin", "Mass", "MaxP", "Varentropy"]
