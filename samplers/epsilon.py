"""Epsilon sampling: an absolute threshold on the probability."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from ..core.bands import keep_above
from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class Epsilon(LogitsProcessor):
    """Drop tokens whose probability is below e: p < e. Where all are, the best token stays.

    e = 0 is off. Of several best tokens below e the lowest id stays. Probabilities are made in float64 and compared
    with e in float32, so the cut is the same on the whole vocabulary and on a narrowed set. Usual values lie between
    3e-4 and 9e-4 (text-generation-webui writes its epsilon_cutoff in units of 1e-4).

    Source: Hewitt, Manning and Liang, "Truncation sampling as language model desmoothing", arXiv 2210.15191.
    Dialects: hf compares float32 probabilities and, where all are below e, keeps every token that ties with the best;
    it refuses 0 and 1 (text-generation-webui runs it).
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"e": 0.0}
    examples: ClassVar[tuple[str, ...]] = ("epsilon(0.0009)", 'epsilon(0.01, dialect="hf")')

    e: Scalar = Field(ge=0, le=1, description="the least probability that stays; 0 is off")
    dialect: Literal["logitmill", "hf"] = Field(
        "logitmill", description="hf: what ties with the best stays too, where all are below e"
    )

    @model_validator(mode="after")
    def _hf_is_inside(self) -> Self:
        if self.dialect == "hf" and not (self.e > 0 and self.e < 1):
            raise ValueError("in the hf dialect e is above 0 and below 1: leave the stage out")
        return self

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect == "hf":
            return dist.keep((dist.probs >= self.e) | (dist.logits >= dist.max_logit))
        cut = keep_above(dist, lambda sums: (torch.as_tensor(self.e, dtype=torch.float64) * sums.total).log())
        if cut is not None:
            return cut
        probs = dist.weights / dist.weights.sum(-1, keepdim=True)  # float64 [R, C]
        return dist.keep(probs.float() >= self.e)


__all__ = ["Epsilon"]
