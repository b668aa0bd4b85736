"""XTC, "exclude top choices": now and then, the least likely of the good tokens."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, single_tokens


class Xtc(LogitsProcessor):
    """With a probability, drop every token with p >= threshold but the least likely of them.

    Nothing happens where fewer than two tokens reach the threshold, or with a threshold above 0.5. Of several that
    tie for the least, the highest id stays (it is the last in descending order). Tokens under ``protect`` are never
    dropped, and nothing is dropped where fewer than ``min_keep`` tokens would stay. One number of noise a step
    decides, so a row's steps are independent.

    Source: p-e-w, text-generation-webui pull request 6335; as in llama.cpp, which has no protected tokens.
    Dialects: textgen drops nothing at all in a step where a protected token would go, and protects the newline
    (the last token of its text, where there is a tokenizer) and the end-of-sequence tokens along with ``protect``.
    """

    masks_only: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "xtc(0.5, 0.1)",
        r'xtc(0.5, 0.1, protect=["\n"])',
        'xtc(0.5, 0.1, dialect="textgen")',
    )
    identity_when: ClassVar[dict[str, Any]] = {"probability": 0.0, "threshold": lambda threshold: threshold > 0.5}

    probability: Scalar = Field(ge=0, le=1, description="how often the stage acts, drawn anew each step")
    threshold: Scalar = Field(
        0.1, ge=0, le=1, description="the probability from which a token counts as a top choice; above 0.5 is off"
    )
    protect: tuple[TokenKey, ...] = Field(
        (), description="tokens never dropped: ids, texts of one token or patterns over the vocabulary"
    )
    min_keep: Scalar[int] = Field(1, ge=1, description="nothing is dropped where fewer tokens would stay")
    dialect: Literal["logitmill", "textgen"] = Field(
        "logitmill", description="textgen: nothing is dropped where a protected token would go"
    )

    def prepare(self, vocab: Vocab) -> Any:
        also: list[int] = []
        if self.dialect == "textgen":
            newline = vocab.encode("\n")[-1:] if vocab.tokenizer is not None else []
            also = [i for i in (*newline, *vocab.eos_ids) if i < vocab.size]
        return single_tokens(self.protect, vocab, "xtc") | vocab.mask(also) if self.protect or also else None

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
            drop = drop & self._may_go(drop & dist.lookup(protected))
        enough = dist.kept - drop.sum(-1, keepdim=True) >= self.min_keep  # [R, 1]
        return dist.keep(~drop | ~enough)

    def _may_go(self, hit: Tensor) -> Tensor:
        """A bool that broadcasts to [R, C]: what may be dropped, where ``hit`` are the protected tokens that would."""
        return ~hit.any(-1, keepdim=True) if self.dialect == "textgen" else ~hit


__all__ = ["Xtc"]
