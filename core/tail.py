"""The end of a pipeline on few candidates: cut, scaled and drawn from in one go, best first, ties to the lower id.

Behind a stage that narrows, most of what a step costs is the calls themselves. A `Head` holds a row's candidates in
descending order; stages that know it (``on_head``) change it in place, and the draw puts it in the order of ids once.
What comes out is what the stages' own ``apply`` and ``law`` and the sampler's draw would have given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .dist import NEG_INF, Dist, is_prefix
from .kernels.cuts import Cuts, serves
from .kernels.tails import LARGEST, NativeTail
from .selection import in_order
from .stage import draw


class Head:
    """Candidates of R rows, best first: ``logits`` float32, -inf for what was removed, and ``ids`` int64, [R, C]."""

    def __init__(self, dist: Dist) -> None:
        self.logits, self.ids = dist.candidates
        self.vocab_size, self._looks = dist.vocab_size, dist.looks
        self._weights: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """float64 [R, C]: exp(l - max l)."""
        if self._weights is None:
            weights = self.logits.double()
            self._weights = (weights - weights[:, :1]).exp_()
        return self._weights

    @property
    def mass_before(self) -> Tensor:
        """float32 [R, C]: the probability of everything ranked above."""
        weights = self.weights
        before = weights.cumsum(-1)
        total = before[:, -1:].clone()
        return before.sub_(weights).div_(total).float()

    def divide(self, divisor: Any) -> None:
        """Every logit by a number above 0, or by float32 [R, 1] of them. Raises ValueError for any other number."""
        if isinstance(divisor, Tensor):
            self._settle(torch.where(self.logits > NEG_INF, self.logits / divisor, NEG_INF))
            return
        if not 0 < divisor <= LARGEST:
            raise ValueError(f"a head's logits are divided by a number above 0 that float32 holds, got {divisor}")
        self._settle(self.logits / divisor)

    def keep(self, mask: Tensor) -> None:
        """Remove what ``mask`` (bool, broadcasts to [R, C]) lacks; a row left with nothing keeps its best token."""
        mask = mask.expand_as(self.logits)
        if self._looks and is_prefix(mask):  # the best stay: the order does, too
            self.logits = torch.where(mask, self.logits, NEG_INF)
            self._weights = None if self._weights is None else self._weights * mask
            return
        some = (mask & (self.logits > NEG_INF)).any(-1, keepdim=True)
        best = torch.arange(mask.shape[1], device=mask.device) == 0
        self._settle(torch.where(mask | (~some & best), self.logits, NEG_INF))

    def _settle(self, logits: Tensor) -> None:
        """Take these logits for the candidates, and put them in order again."""
        self.logits, self.ids = in_order(logits, self.ids, looks=self._looks)
        self._weights = None

    def first(self, count: int) -> None:
        """No more than the first ``count`` columns. Raises ValueError for less than 1."""
        if count < 1:
            raise ValueError(f"a head keeps at least one candidate, got {count}")
        self.logits, self.ids = self.logits[:, :count], self.ids[:, :count]
        self._weights = None if self._weights is None else self._weights[:, :count]

    def share(self, p: Any, least: Any) -> None:
        """Keep those above which lies less than a share ``p`` (a number, or a tensor [R, 1]) of the mass.

        The ``least`` best (a number, or int64 [R, 1]) stay, and all where p is a tensor and 1.
        """
        self.keep(with_best(self.mass_before < p, p, least))

    def above(self, difference: float, least: int) -> None:
        """Keep logits of at least the best one plus ``difference``, and the ``least`` best."""
        keep = self.logits >= self.logits[:, :1] + difference
        keep[:, :least] = True
        self.keep(keep)

    def law(self) -> Dist | None:
        """As a Dist. None where a row has nothing finite to draw from: that is for the long way to report."""
        if not math.isfinite(float(self.logits[:, :1].sum())):
            return None
        return Dist.ranked(self.logits, self.ids, self.vocab_size, weights=self.weights)

    def drawn(self, uniform: Tensor) -> tuple[Dist, Tensor] | None:
        """The law, and tokens (int64 [R, 1]) drawn from it; None where there is no law."""
        law = self.law()
        return None if law is None else (law, draw(law, uniform))


def heads(dist: Dist, *, as_written: bool) -> tuple[Callable[[Dist], Any], ...]:
    """What may run the end of a pipeline in one go, the fastest first: a kernel, or torch on few candidates."""
    if dist.is_ranked:
        return (NativeTail, Head) if dist.looks else (Head,)
    if as_written:
        return ()
    return (NativeTail,) if dist.is_wide else (Cuts,) if serves(dist) else ()


def with_best(keep: Tensor, p: Any, least: Any) -> Tensor:
    """``keep`` (bool [R, n], best first; written to) with the ``least`` best (a number, or int64 [R, 1]).

    And with all where the share ``p`` that it was cut by is a tensor and 1.
    """
    if isinstance(least, Tensor):
        keep = keep | (torch.arange(keep.shape[1], device=keep.device) < least)
    else:
        keep[:, :least] = True
    return keep | (p >= 1.0) if isinstance(p, Tensor) else keep


__all__ = ["Head", "heads", "with_best"]
