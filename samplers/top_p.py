"""Top-p, or nucleus: the smallest set of best tokens that holds a share of the mass."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class TopP(LogitsProcessor):
    """Keep the smallest prefix of the tokens in descending order whose probabilities sum to at least p.

    At least ``min_keep`` tokens stay. p = 1 is off; p = 0 keeps the ``min_keep`` best. Ties go to the lower id. The
    mass is summed in float64 and compared with p in float32.

    Source: Holtzman et al., "The curious case of neural text degeneration", arXiv 1904.09751.
    Dialects: hf sums in float32 from the least likely token upwards and removes what has a sum of at most 1 - p,
    which differs at the boundary alone (where transformers' own choice among tied logits is torch.sort's, the lower
    ids stay here); llama.cpp's top-p is the default.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"p": 1.0}

    p: Scalar = Field(ge=0, le=1, description="the share of the probability mass that stays")
    min_keep: Scalar[int] = Field(1, ge=1, description="how many tokens stay at least")
    dialect: Literal["logitmill", "hf"] = Field(
        "logitmill", description="hf: removes from below what sums to at most 1 - p"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if not isinstance(self.p, Tensor) and self.p >= 1.0:
            return dist
        places = torch.arange(dist.columns, device=dist.device)  # [C]
        enough = self._from_below(dist) if self.dialect == "hf" else dist.mass_before.float() < self.p
        keep = enough | (places < self.min_keep)
        if isinstance(self.p, Tensor):
            keep = keep | (self.p >= 1.0)
        return dist.keep_ranked(keep)

    def _from_below(self, dist: Dist) -> Tensor:
        """A bool [R, C] in descending order: transformers' arithmetic, on the same ascending values."""
        ascending = dist.logits.gather(-1, dist.order).flip(-1)
        return (ascending.softmax(-1).cumsum(-1) > (1 - self.p)).flip(-1)


__all__ = ["TopP"]
