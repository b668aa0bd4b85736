"""Greedy: the best token."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import Sampler


class Greedy(Sampler):
    """Take the token with the largest logit; of several, the one with the lowest id. Its law is that token alone."""

    examples: ClassVar[tuple[str, ...]] = ("greedy",)

    def law(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        best = dist.logits.argmax(-1, keepdim=True)  # the first of several, and ids ascend
        return Dist(dist.logits.gather(-1, best), dist.tokens_at(best), vocab_size=dist.vocab_size)

    def pick(self, law: Dist, ctx: Context) -> Tensor:
        return law.tokens_at(law.logits.argmax(-1, keepdim=True))


__all__ = ["Greedy"]
