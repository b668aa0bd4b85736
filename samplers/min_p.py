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
from ..core.tail import Head


class MinP(LogitsProcessor):
    """Drop tokens less likely than p times the best one: l < l_max + ln p.

    At least ``min_keep`` tokens stay, the best. p = 0 is off; p = 1 keeps what ties with the best.

    Source: Nguyen et al., arXiv 2407.01082; llama.cpp pull request 3841. llama.cpp applies min-p before its
    temperature and transformers after: that is the order of the pipeline, written out here.
    Dialects: hf compares float32 probabilities, p_i < p * p_max, which differs by rounding, and removes what has
    underflowed to 0 (vLLM does the same, and text-generation-webui runs it); llama.cpp's min-p is the default.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"p": 0.0}
    examples: ClassVar[tuple[str, ...]] = ("min_p(0.05)", 'min_p(0.05, dialect="hf")')

    p: Scalar = Field(ge=0, le=1, description="the least probability that stays, as a share of the best token's")
    min_keep: Scalar[int] = Field(1, ge=1, description="how many tokens stay at least")
    dialect: Literal["logitmill", "hf"] = Field(
        "logitmill", description="hf: compares probabilities rather than logits"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect == "hf":
            return self._cut(dist, dist.probs >= self.p * dist.probs.amax(-1, keepdim=True))
        if isinstance(self.p, Tensor):
            return self._cut(dist, dist.logits >= dist.max_logit + self.p.log())
        return self._cut(dist, dist.logits >= dist.max_logit + math.log(self.p)) if self.p > 0 else dist

    def on_head(self, head: Head, ctx: Context) -> bool:
        if self.dialect == "hf" or isinstance(self.p, Tensor) or isinstance(self.min_keep, Tensor):
            return False
        if self.p > 0:
            head.above(math.log(self.p), self.min_keep)
        return True

    def _cut(self, dist: Dist, likely: Tensor) -> Dist:
        if not isinstance(self.min_keep, Tensor) and self.min_keep == 1:  # the best is always likely: no need to sort
            return dist.keep(likely)
        return dist.keep(likely | (dist.rank < self.min_keep))


__all__ = ["MinP"]
