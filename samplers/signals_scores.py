"""Signals of the generated tokens' log-probabilities under the model itself. Known while a model runs."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import Signal


class SumLogprob(Signal):
    """The sum of the model's own log-probabilities of the generated tokens, in nats. 0 before the first."""

    needs: ClassVar[frozenset[str]] = frozenset({"history", "scores"})
    examples: ClassVar[tuple[str, ...]] = ("sum_logprob < -200",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.scores


class MeanLogprob(Signal):
    """The mean of the model's own log-probabilities of the generated tokens, in nats. 0 before the first."""

    needs: ClassVar[frozenset[str]] = frozenset({"history", "scores"})
    examples: ClassVar[tuple[str, ...]] = ("mean_logprob < -3",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.scores / (ctx.lengths - ctx.prompt_lengths).clamp(min=1)


__all__ = ["MeanLogprob", "SumLogprob"]
