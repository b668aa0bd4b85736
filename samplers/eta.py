"""Eta sampling: a threshold on the probability that falls as the entropy rises."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.bands import ROUGH_ENTROPY, Sums, keep_above
from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

_LOWEST = torch.finfo(torch.float32).min


class Eta(LogitsProcessor):
    """Drop tokens with p < min(e, sqrt(e) * exp(-H)). The best token stays.

    H is the entropy in nats; exp(-H) is never above the best probability. e = 0 is off. All is computed in float64 and
    compared in float32, so the cut is the same on the whole vocabulary and on a narrowed set. Usual values lie between
    3e-4 and 4e-3 (text-generation-webui writes its eta_cutoff in units of 1e-4).

    Source: Hewitt, Manning and Liang, "Truncation sampling as language model desmoothing", arXiv 2210.15191.
    Dialects: hf works in float32 throughout, which differs by rounding, and refuses 0 and 1 (text-generation-webui
    runs it).
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"e": 0.0}
    examples: ClassVar[tuple[str, ...]] = ("eta(0.002)", 'eta(0.01, dialect="hf")')

    e: Scalar = Field(ge=0, le=1, description="the most that the threshold can be; 0 is off")
    dialect: Literal["logitmill", "hf"] = Field("logitmill", description="hf: in float32, and neither 0 nor 1")

    @model_validator(mode="after")
    def _hf_is_inside(self) -> Self:
        if self.dialect == "hf" and not (self.e > 0 and self.e < 1):
            raise ValueError("in the hf dialect e is above 0 and below 1: leave the stage out")
        return self

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect == "hf":
            return dist.keep((dist.probs >= self._hf_threshold(dist)) | (dist.logits >= dist.max_logit))
        cut = keep_above(dist, self._depth, rough=ROUGH_ENTROPY)
        if cut is not None:
            return cut
        probs = dist.weights / dist.weights.sum(-1, keepdim=True)  # float64 [R, C]
        entropy = torch.special.entr(probs).sum(-1, keepdim=True)  # [R, 1]
        return dist.keep(probs.float() >= self._threshold(entropy).float())

    def _threshold(self, entropy: Tensor) -> Tensor:
        """A float64 [R, 1], from float64 [R, 1]."""
        e = torch.as_tensor(self.e, dtype=torch.float64, device=entropy.device)
        return torch.minimum(e, e.sqrt() * torch.exp(-entropy))

    def _depth(self, sums: Sums) -> Tensor:
        """A float64 [R, 1]: how far from the best logit that is."""
        return (self._threshold(sums.entropy) * sums.total).log()

    def _hf_threshold(self, dist: Dist) -> Tensor:
        """A float32 [R, 1]: transformers' arithmetic, which takes the entropy of torch's Categorical."""
        logprobs = dist.logits - dist.logits.logsumexp(-1, keepdim=True)  # [R, C]
        entropy = -(logprobs.clamp(min=_LOWEST) * logprobs.softmax(-1)).sum(-1, keepdim=True)  # [R, 1]
        e = torch.as_tensor(self.e, dtype=torch.float32, device=dist.device)
        return torch.minimum(e, e.sqrt() * torch.exp(-entropy))


__all__ = ["Eta"]
