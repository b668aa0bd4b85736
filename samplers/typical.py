"""Locally typical sampling: tokens about as surprising as the distribution is uncertain."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.bands import TIGHT, cut_by_rows, keep_rows, reached_in, weighed
from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor


class Typical(LogitsProcessor):
    """Sort tokens by |-ln p - H| and keep the smallest prefix with at least ``mass`` of the probability.

    H is the entropy in nats. The most likely token may go. At least ``min_keep`` tokens stay, the first in that order;
    ties go to the lower id; mass = 1 is off.

    Source: Meister et al., arXiv 2202.00666.
    Dialects: hf sums in float32 and keeps everything that ties with the last token of the prefix
    (text-generation-webui runs it); llamacpp wants a mass above ``mass``, so a prefix that has it exactly goes one
    token further (llama.cpp itself loses the order where a probability is 0, which is not followed).
    """

    masks_only: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"mass": 1.0}
    examples: ClassVar[tuple[str, ...]] = ("typical(0.95)", 'typical(0.95, dialect="llamacpp")')

    mass: Scalar = Field(ge=0, le=1, description="the share of the probability mass that stays")
    min_keep: Scalar[int] = Field(1, ge=1, description="how many tokens stay at least")
    dialect: Literal["logitmill", "hf", "llamacpp"] = Field(
        "logitmill", description="hf: boundary ties stay; llamacpp: the mass has to be exceeded"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if not isinstance(self.mass, Tensor) and self.mass >= 1.0:
            return dist
        if dist.is_wide and self.dialect == "logitmill":
            cut = self._without_order(dist)
            if cut is not None:
                return cut
        shifted = (-dist.logprobs - dist.entropy).abs() if self.dialect == "hf" else _shifts(dist)  # [R, C]
        order = shifted.sort(dim=-1, stable=True).indices
        keep = self._with_ties(dist, shifted, order) if self.dialect == "hf" else self._prefix(dist, order)
        first = torch.arange(dist.columns, device=dist.device).expand_as(order) < self.min_keep  # in that order
        keep = keep | torch.empty_like(keep).scatter_(-1, order, first)
        if isinstance(self.mass, Tensor):
            keep = keep | (self.mass >= 1.0)
        return dist.keep(keep)

    def _without_order(self, dist: Dist) -> Dist | None:
        """The same cut without all tokens in order; None where a row's end is not decided that way."""
        kept = cut_by_rows(dist, self.mass, 0.0, _band)
        if kept is None:
            return None
        alone = not isinstance(self.min_keep, Tensor) and self.min_keep == 1  # one always stays
        if not alone and bool((torch.stack(kept).sum(-1, keepdim=True) < self.min_keep).any()):
            return None
        return keep_rows(dist, kept)

    def _prefix(self, dist: Dist, order: Tensor) -> Tensor:
        """A bool [R, C] by column: what comes before the mass is reached."""
        weights = dist.weights.gather(-1, order)
        before = ((weights.cumsum(-1) - weights) / weights.sum(-1, keepdim=True)).float()
        missing = before <= self.mass if self.dialect == "llamacpp" else before < self.mass
        return torch.empty_like(missing).scatter_(-1, order, missing)

    def _with_ties(self, dist: Dist, shifted: Tensor, order: Tensor) -> Tensor:
        """A bool [R, C] by column: transformers' arithmetic."""
        reached = dist.logits.gather(-1, order).softmax(-1).cumsum(-1)
        last = (reached < self.mass).sum(-1, keepdim=True).clamp(max=dist.columns - 1)
        return shifted <= shifted.gather(-1, order).gather(-1, last)


def _shifts(dist: Dist) -> Tensor:
    """Float64 [R, C]: |-ln p - H|, +inf for what is removed. In float32 near ties fall with the number of columns."""
    total = dist.weights.sum(-1, keepdim=True)
    logprobs = dist.logits.double() - dist.max_logit.double() - total.log()
    entropy = -torch.where(dist.weights > 0, dist.weights / total * logprobs, 0.0).sum(-1, keepdim=True)
    return (logprobs + entropy).abs()


def _band(dist: Dist, row: int, share: float) -> Tensor | None:
    """A bool [C]: a row's first by |-ln p - H|, until they have a share of the mass; None where that is open.

    As -ln p is the distance from the best logit and a constant, and H that distance on average and the same constant,
    what counts is how far a token's distance is from the average one.
    """
    distance, weights = weighed(dist, row)
    total = float(weights.sum())
    if not total < math.inf:  # which NaN is not
        return None
    shifts = distance.sub_(torch.dot(weights, distance) / total).abs_()
    aim, off = share * total, TIGHT * total
    near = reached_in(shifts, (weights,), lambda sums: sums[0] >= aim)
    shifts, order = shifts[near.columns].sort(stable=True)
    columns = near.columns[order]
    reached = weights[columns].cumsum(0).add_(near.sums[0])
    last = int((reached < aim).sum())  # the one that reaches it
    before = float(reached[last - 1]) if last else float(near.sums[0])
    if last == len(columns) or not before + off < aim < float(reached[last]) - off:
        return None
    least = float(shifts[last]) - TIGHT
    most = float(shifts[min(last + 1, len(columns) - 1)]) + TIGHT
    if not near.low < least < most < near.high:  # there may be others as near in the next bin
        return None
    if most - least < 3 * TIGHT:  # ties stand in the order of their ids, whatever rounding does; others as near do not
        tied = dist.logits[row, columns[(shifts > least) & (shifts < most)]]
        if not bool((tied == tied[0]).all()):
            return None
    return near.first(columns[: last + 1])


__all__ = ["Typical"]
