"""No n-gram twice."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import LogitsProcessor
from .penalties import Over


class NoRepeatNgram(LogitsProcessor):
    """Remove every token that would complete an n-gram already in the sequence, prompt included. n = 0 is off.

    With n = 1 no token comes twice. ``over=prompt`` forbids the n-grams of the prompt alone, ``over=output`` those
    that were generated.

    Source: Paulus, Xiong and Socher, arXiv 1705.04304; transformers' no_repeat_ngram_size and, over the prompt, its
    encoder_no_repeat_ngram_size, which it equals.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"n": 0}
    examples: ClassVar[tuple[str, ...]] = ("no_repeat_ngram(3)", 'no_repeat_ngram(4, over="prompt")')

    n: int = Field(ge=0, le=1024, description="the length of what may not come twice; 0 is off")
    over: Over = Field("all", description="whose n-grams: all, prompt and output; output, what was generated; prompt")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        tokens, n = ctx.tokens, self.n  # [R, T], -1 past each row's length
        if n == 0 or tokens.shape[1] < n:
            return dist
        places = ctx.lengths - (n - 1) + torch.arange(n - 1, device=ctx.device)
        ending = tokens.gather(1, places.clamp(min=0))  # [R, n - 1]: what the next token would follow
        windows = tokens.unfold(1, n, 1)  # [R, W, n]
        ends = torch.arange(n, n + windows.shape[1], device=ctx.device)
        within = ends <= (ctx.prompt_lengths if self.over == "prompt" else ctx.lengths)  # [R, W]
        if self.over == "output":
            within = within & (ends - n >= ctx.starts)
        again = (windows[..., :-1] == ending[:, None, :]).all(-1) & within
        columns, present = dist.columns_of(windows[..., -1])
        hits = torch.zeros(dist.rows, dist.columns, dtype=torch.int32, device=dist.device)
        return dist.keep(hits.scatter_add_(-1, columns, (again & present).int()) == 0)


__all__ = ["NoRepeatNgram"]
