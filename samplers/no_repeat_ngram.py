"""No n-gram twice."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import LogitsProcessor


class NoRepeatNgram(LogitsProcessor):
    """Remove every token that would complete an n-gram already in the sequence, prompt included. n = 0 is off.

    With n = 1 no token comes twice.

    Source: Paulus, Xiong and Socher, arXiv 1705.04304; transformers' no_repeat_ngram_size, which it equals.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"n": 0}

    n: int = Field(ge=0, le=1024, description="the length of what may not come twice; 0 is off")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        tokens, n = ctx.tokens, self.n  # [R, T], -1 past each row's length
        if n == 0 or tokens.shape[1] < n:
            return dist
        places = ctx.lengths - (n - 1) + torch.arange(n - 1, device=ctx.device)
        ending = tokens.gather(1, places.clamp(min=0))  # [R, n - 1]: what the next token would follow
        windows = tokens.unfold(1, n, 1)  # [R, W, n]
        within = torch.arange(n, n + windows.shape[1], device=ctx.device) <= ctx.lengths  # [R, W]
        again = (windows[..., :-1] == ending[:, None, :]).all(-1) & within
        columns, present = dist.columns_of(windows[..., -1])
        hits = torch.zeros(dist.rows, dist.columns, dtype=torch.int32, device=dist.device)
        return dist.keep(hits.scatter_add_(-1, columns, (again & present).int()) == 0)


__all__ = ["NoRepeatNgram"]
