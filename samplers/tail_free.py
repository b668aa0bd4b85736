"""Tail-free sampling: a cut where the curve of sorted probabilities has done its bending."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

STRAIGHT = 1e-6  # second differences that sum to no more are rounding


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
            before = self._before_cut(dist, places < dist.vocab_size - 2, 0.0)
            keep = places < (before + 1).clamp(max=max(dist.vocab_size - 1, 1))
        else:
            keep = places < self._before_cut(dist, places < dist.kept - 2, STRAIGHT).clamp(min=1)
        return dist.keep_ranked(keep | (self.z >= 1.0) if isinstance(self.z, Tensor) else keep)

    def _before_cut(self, dist: Dist, bends: Tensor, straight: float) -> Tensor:
        """An int64 [R, 1]: how many tokens come before the cut, all where the bends sum to at most ``straight``.

        ``bends``: a bool that broadcasts to [R, C], where in descending order there is a bend to count.
        """
        sorted_weights = dist.weights.gather(-1, dist.order)
        probs = torch.nn.functional.pad(sorted_weights / sorted_weights.sum(-1, keepdim=True), (0, 2))  # [R, C + 2]
        bend = torch.where(bends, (probs[:, :-2] - 2 * probs[:, 1:-1] + probs[:, 2:]).abs(), 0.0)  # [R, C]
        reached = bend.cumsum(-1)
        total = reached[:, -1:]
        over = ((reached / total).float() > self.z) & (total > straight)
        return (~over).sum(-1, keepdim=True)


__all__ = ["TailFree"]
