"""Top-p, or nucleus: the smallest set of best tokens that holds a share of the mass."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import FEW, Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.tail import Head, with_best


class TopP(LogitsProcessor):
    """Keep the smallest prefix of the tokens in descending order whose probabilities sum to at least p.

    At least ``min_keep`` tokens stay. p = 1 is off; p = 0 keeps the ``min_keep`` best. Ties go to the lower id. The
    mass is summed in float64 and compared with p in float32.

    Source: Holtzman et al., "The curious case of neural text degeneration", arXiv 1904.09751.
    Dialects: hf sums in float32 from the least likely token upwards and removes what has a sum of at most 1 - p,
    which differs at the boundary alone (where transformers' own choice among tied logits is torch.sort's, the lower
    ids stay here; vLLM does the same with a float32 1 - p, and text-generation-webui runs it); llama.cpp's top-p is
    the default.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"p": 1.0}
    examples: ClassVar[tuple[str, ...]] = ("top_p(0.9)", "top_p(0.9, min_keep=3)", 'top_p(0.9, dialect="hf")')

    p: Scalar = Field(ge=0, le=1, description="the share of the probability mass that stays")
    min_keep: Scalar[int] = Field(1, ge=1, description="how many tokens stay at least")
    dialect: Literal["logitmill", "hf"] = Field(
        "logitmill", description="hf: removes from below what sums to at most 1 - p"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if not isinstance(self.p, Tensor) and self.p >= 1.0:
            return dist
        if self.dialect == "hf":
            return dist.keep_ranked(with_best(self._from_below(dist), self.p, self.min_keep))
        if dist.is_wide and not dist.is_sorted:
            cut = self._without_order(dist)
            if cut is not None:
                return cut
        return dist.keep_ranked(with_best(dist.mass_before.float() < self.p, self.p, self.min_keep))

    def on_head(self, head: Head, ctx: Context) -> bool:
        if self.dialect == "hf":
            return False
        if not isinstance(self.p, Tensor) and self.p >= 1.0:
            return True
        head.share(self.p, self.min_keep)
        return True

    def _without_order(self, dist: Dist) -> Dist | None:
        """The same cut from the best tokens alone, or by sums; None where neither decides it."""
        share = torch.as_tensor(self.p, dtype=torch.float32).expand(dist.rows, 1)
        alone = not isinstance(self.min_keep, Tensor) and self.min_keep == 1
        if not alone or not bool((dist.spread(FEW) < 0.75 * share).any()):
            head = dist.narrow(FEW)
            likely = dist.mass_before_best(head, share).float() < share
            keep = with_best(likely.clone(), self.p, self.min_keep)
            if not bool(keep[:, -1].any()):
                return head.keep_ranked(keep)
            alone = bool((likely == keep).all())
        return dist.keep_nucleus(share) if alone and bool((share < 1).all()) else None

    def _from_below(self, dist: Dist) -> Tensor:
        """A bool [R, C] in descending order: transformers' arithmetic, on the same ascending values."""
        ascending = dist.logits.gather(-1, dist.order).flip(-1)
        return (ascending.softmax(-1).cumsum(-1) > (1 - self.p)).flip(-1)


__all__ = ["TopP"]
