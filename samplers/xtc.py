"""XTC, "exclude top choices": now and then, the least likely of the good tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, resolve


class Xtc(LogitsProcessor):
    """With a probability, drop every token with p >= threshold but the least likely of them.

    Nothing happens where fewer than two tokens reach the threshold, or with a threshold above 0.5. Of several that
    tie for the least, the highest id stays (it is the last in descending order). Tokens under ``protect`` are never
    dropped. One number of noise a step decides, so a row's steps are independent.

    Source: p-e-w, text-generation-webui pull request 6335; as in llama.cpp, which has no protected tokens.
    """

    masks_only: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"probability": 0.0, "threshold": lambda threshold: threshold > 0.5}

    probability: Scalar = Field(ge=0, le=1, description="how often the stage acts, drawn anew each step")
    threshold: Scalar = Field(
        0.1, ge=0, le=1, description="the probability from which a token counts as a top choice; above 0.5 is off"
    )
    protect: tuple[TokenKey, ...] = Field(
        (), description="tokens never dropped: ids, texts or patterns over the vocabulary"
    )

    def prepare(self, vocab: Vocab) -> Any:
        return resolve(self.protect, vocab, "xtc").mask(vocab) if self.protect else None

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        acts = ctx.noise(self) < self.probability  # [R, 1]
        top = dist.alive & (dist.probs >= self.threshold)  # [R, C]
        least = torch.where(top, dist.logits, float("inf")).amin(-1, keepdim=True)
        columns = torch.arange(dist.columns, device=dist.device)
        spared = torch.where(top & (dist.logits == least), columns, -1).amax(-1, keepdim=True)
        drop = top & (columns != spared) & acts
        drop = drop & (torch.full_like(dist.max_logit, 0.5) >= self.threshold)
        protected = ctx.prepared(self)
        if protected is not None:
            drop = drop & ~dist.lookup(protected)
        return dist.keep(~drop)


__all__ = ["Xtc"]
