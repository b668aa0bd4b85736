"""Tail-free sampling: a cut where the curve of sorted probabilities has done its bending."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.bands import FEWER, RANKED, TIGHT, halfway
from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

STRAIGHT = 1e-6  # second differences that sum to no more are rounding
HEADS = (512, 4096)  # how many of the best tokens of a wide Dist are looked at before all of them are


class TailFree(LogitsProcessor):
    """Sort the probabilities, add up how much their curve bends, and cut where the sum exceeds z.

    The bend at i is abs(p_i - 2 * p_(i+1) + p_(i+2)), as a share of all bends. The tokens before the first i at which
    the running sum is above z stay, and the best one always. z = 1 is off. Where one or two tokens are left, or where
    the curve is straight (all equal; bends that sum to at most 1e-6), nothing is cut. Ties go to the lower id.

    Source: Bricken, "Tail free sampling" (2019); as llama.cpp had it until 2024.
    Dialects: textgen keeps one more, counts the step down to removed tokens as a bend, and never keeps the least
    likely token of the whole vocabulary.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"z": 1.0}
    examples: ClassVar[tuple[str, ...]] = ("tail_free(0.95)", 'tail_free(0.95, dialect="textgen")')

    z: Scalar = Field(ge=0, le=1, description="the share of the bends that the cut leaves before it; 1 is off")
    dialect: Literal["logitmill", "textgen"] = Field("logitmill", description="textgen: one token more stays")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if not isinstance(self.z, Tensor) and self.z >= 1.0:
            return dist
        places = torch.arange(dist.columns, device=dist.device)
        if self.dialect == "textgen":
            # One more, of all but the vocabulary's last. A curve without any bend has no cut at all there.
            before = _before_cut(dist, self.z, places < dist.vocab_size - 2, 0.0)
            keep = places < (before + 1).clamp(max=max(dist.vocab_size - 1, 1))
        else:
            if dist.is_wide and not dist.is_sorted:
                cut = self._without_order(dist)
                if cut is not None:
                    return cut
            keep = places < _before_cut(dist, self.z, places < dist.kept - 2, STRAIGHT).clamp(min=1)
        return dist.keep_ranked(keep | (self.z >= 1.0) if isinstance(self.z, Tensor) else keep)

    def _without_order(self, dist: Dist) -> Dist | None:
        """The same cut, with those rows in order alone that their best tokens do not decide; None where it is deep."""
        z = torch.as_tensor(self.z, dtype=torch.float32).expand(dist.rows, 1)
        left, counts = torch.arange(dist.rows), torch.full((dist.rows, 1), -1)
        for head in HEADS:
            if bool((z < 1).all()) and head * FEWER < dist.columns and len(left):
                part = dist if len(left) == dist.rows else dist.select(left)
                counts[left] = _among_best(part, z[left], head)
                left = (counts < 0)[:, 0].nonzero()[:, 0]
        if len(left) == dist.rows:
            return None
        if len(left):
            part = dist.select(left)
            bends = torch.arange(part.columns) < part.kept - 2
            counts[left] = _before_cut(part, z[left], bends, STRAIGHT)
        most = int(counts.clamp_(min=1).max())
        return dist.narrow(most).keep_ranked(torch.arange(most) < counts) if most <= RANKED else None


def _among_best(dist: Dist, z: Tensor, head: int) -> Tensor:
    """`_before_cut` of the default dialect, from the ``head`` best tokens; -1 for a row that they do not decide.

    However the probabilities behind them fall, their bends sum to no more than twice what they fall by.
    """
    best = dist.narrow(head)
    weights = best.ranked_weights  # [R, n], descending
    inside = torch.arange(head - 2) < dist.kept - 2
    reached = torch.where(inside, _bends(weights), 0.0).cumsum(-1)
    least = reached[:, -1:]
    most = least + weights[:, -2:].sum(-1, keepdim=True) * (dist.kept > head)
    aim = halfway(z, math.inf)
    before = (reached <= aim * most * (1 + TIGHT)).sum(-1, keepdim=True)
    sure = before == (reached <= aim * least * (1 - TIGHT)).sum(-1, keepdim=True)
    sure &= (before < head - 2) & (least * dist.shares.best > 2 * STRAIGHT)
    return torch.where(sure, before, -1)


def _before_cut(dist: Dist, z: Any, bends: Tensor, straight: float) -> Tensor:
    """An int64 [R, 1]: how many tokens come before the cut, all where the bends sum to at most ``straight``.

    ``bends``: a bool that broadcasts to [R, C], where in descending order there is a bend to count.
    """
    sorted_weights = dist.weights.gather(-1, dist.order)
    probs = torch.nn.functional.pad(sorted_weights / sorted_weights.sum(-1, keepdim=True), (0, 2))  # [R, C + 2]
    bend = torch.where(bends, _bends(probs), 0.0)  # [R, C]
    reached = bend.cumsum(-1)
    total = reached[:, -1:]
    over: Tensor = ((reached / total).float() > z) & (total > straight)
    return (~over).sum(-1, keepdim=True)


def _bends(probs: Tensor) -> Tensor:
    """[R, n - 2] of [R, n]: how much the curve bends at each."""
    bends: Tensor = (probs[:, :-2] - 2 * probs[:, 1:-1] + probs[:, 2:]).abs()
    return bends


__all__ = ["TailFree"]
