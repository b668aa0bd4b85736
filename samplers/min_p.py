"""Min-p: a threshold relative to the best token."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class MinP(LogitsProcessor):
    """Drop tokens less likely than p times the best one: l < l_max + ln p.

    p = 0 is off; p = 1 keeps what ties with the best.

    Source: Nguyen et al., arXiv 2407.01082; llama.cpp pull request 3841. llama.cpp applies min-p before its
    temperature and transformers after: that is the order of the pipeline, written out here.
    Dialects: hf compares float32 probabilities, p_i < p * p_max, which differs by rounding, and removes what has
    underflowed to 0.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"p": 0.0}

    p: Scalar = Field(ge=0, le=1, description="the least probability that stays, as a share of the best token's")
    dialect: Literal["logitmill", "hf"] = Field(
        "logitmill", description="hf: compares probabilities rather than logits"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect == "hf":
            return dist.keep(dist.probs >= self.p * dist.probs.amax(-1, keepdim=True))
        if isinstance(self.p, Tensor):
            return dist.keep(dist.logits >= dist.max_logit + self.p.log())
        return dist.keep(dist.logits >= dist.max_logit + math.log(self.p)) if self.p > 0 else dist


__all__ = ["MinP"]
