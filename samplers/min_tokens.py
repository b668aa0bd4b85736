"""A least length: no end of sequence before it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, single_tokens


class MinTokens(LogitsProcessor):
    """Remove the end-of-sequence tokens while fewer than n tokens have been generated.

    With ``over=all`` the prompt's tokens count too. ``ids`` names the tokens where they are not the model's own. Where
    nothing else is left, the best of them stays.

    Source: transformers' min_new_tokens, and min_length over all; vLLM's min_tokens.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"n": 0}
    examples: ClassVar[tuple[str, ...]] = ("min_tokens(16)", 'min_tokens(64, over="all")', "min_tokens(4, ids=[2, 5])")

    n: Scalar[int] = Field(ge=0, description="how many tokens come at least")
    ids: tuple[TokenKey, ...] = Field(
        (), description="the tokens held back: ids or texts; the model's end-of-sequence tokens if none"
    )
    over: Literal["output", "all"] = Field("output", description="output: generated tokens count; all: the prompt too")

    def prepare(self, vocab: Vocab) -> Tensor:
        return single_tokens(self.ids or vocab.eos_ids, vocab, "min_tokens")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        count = ctx.lengths if self.over == "all" else ctx.step
        return dist.keep(~(dist.lookup(ctx.prepared(self)) & (count < self.n)))


__all__ = ["MinTokens"]
