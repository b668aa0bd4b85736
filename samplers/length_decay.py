"""An end that becomes likelier with every token, from some length on."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, single_tokens

_LARGEST = torch.finfo(torch.float32).max


class LengthDecay(LogitsProcessor):
    """Raise the end-of-sequence logit after ``start`` generated tokens: l' = l + |l| * (factor^(step - start) - 1).

    Nothing happens while step <= start. A factor of 1 is off, below 1 lowers. A logit of exactly 0 never moves, and
    one that grows beyond float32 stays at its end. ``ids`` names the tokens where they are not the model's own.

    Source: transformers' exponential_decay_length_penalty (ExponentialDecayLengthPenalty), which it equals.
    """

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"factor": 1.0}
    examples: ClassVar[tuple[str, ...]] = ("length_decay(64, 1.02)", "length_decay(2, 1.5, ids=[2, 5])")

    start: Scalar[int] = Field(ge=0, description="how many tokens are generated before the end becomes likelier")
    factor: Scalar = Field(gt=0, description="what the logit is multiplied by for each further token, were it positive")
    ids: tuple[TokenKey, ...] = Field(
        (), description="the tokens raised: ids or texts; the model's end-of-sequence tokens if none"
    )

    def prepare(self, vocab: Vocab) -> Tensor:
        return single_tokens(self.ids or vocab.eos_ids, vocab, "length_decay")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        past = ctx.step - self.start  # int64 [R, 1]
        factor = self.factor.double() if isinstance(self.factor, Tensor) else self.factor
        growth = torch.pow(factor, past.clamp(min=0).double()) - 1.0
        amount = dist.logits.abs() * growth.clamp(max=_LARGEST).float()
        due = dist.lookup(ctx.prepared(self)) & (past > 0) & dist.alive
        return dist.with_logits((dist.logits + torch.where(due, amount, 0.0)).clamp(-_LARGEST, _LARGEST))


__all__ = ["LengthDecay"]
