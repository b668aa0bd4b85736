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

HEAD = 1024  # most cuts lie among the best so many


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
            return dist.keep_ranked(self._at_least(self._from_below(dist)))
        if dist.device.type == "cpu" and dist.columns > 4 * HEAD and dist.ids is None and not dist.is_sorted:
            cut = self._in_head(dist)  # on a CPU looking is free, and sorting a whole vocabulary is not
            if cut is not None:
                return cut
        return dist.keep_ranked(self._at_least(dist.mass_before.float() < self.p))

    def _at_least(self, keep: Tensor) -> Tensor:
        """``keep`` (bool [R, n] in descending order) with the ``min_keep`` best, and with all where p is 1."""
        keep = keep | (torch.arange(keep.shape[1], device=keep.device) < self.min_keep)
        return keep | (self.p >= 1.0) if isinstance(self.p, Tensor) else keep

    def _in_head(self, dist: Dist) -> Dist | None:
        """The same cut from the HEAD best tokens alone, or None where it lies further down in some row."""
        head = dist.narrow(HEAD)
        weights = head.weights.gather(-1, head.order)
        before = (weights.cumsum(-1) - weights) / dist.weights.sum(-1, keepdim=True)
        keep = self._at_least(before.float() < self.p)
        if bool(keep[:, -1].any()):
            return None
        columns = head.tokens_at(head.order)
        return dist.keep(torch.zeros_like(dist.alive).scatter_(-1, columns, keep))

    def _from_below(self, dist: Dist) -> Tensor:
        """A bool [R, C] in descending order: transformers' arithmetic, on the same ascending values."""
        ascending = dist.logits.gather(-1, dist.order).flip(-1)
        return (ascending.softmax(-1).cumsum(-1) > (1 - self.p)).flip(-1)


__all__ = ["TopP"]
