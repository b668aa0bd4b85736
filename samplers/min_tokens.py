"""A least length: no end of sequence before it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, resolve


class MinTokens(LogitsProcessor):
    """Remove the end-of-sequence tokens while fewer than n tokens have been generated.

    ``ids`` names the tokens where they are not the model's own. Where nothing else is left, the best of them stays.

    Source: transformers' min_new_tokens; vLLM's min_tokens.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"n": 0}

    n: Scalar[int] = Field(ge=0, description="how many tokens come at least")
    ids: tuple[TokenKey, ...] = Field(
        (), description="the tokens held back: ids or texts; the model's end-of-sequence tokens if none"
    )

    def prepare(self, vocab: Vocab) -> Tensor:
        return resolve(self.ids or vocab.eos_ids, vocab, "min_tokens").mask(vocab)

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.keep(~(dist.lookup(ctx.prepared(self)) & (ctx.step < self.n)))


__all__ = ["MinTokens"]
