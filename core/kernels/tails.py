"""The end of a pipeline on a CPU, by a kernel (``kernels/tail.cpp``): scaled, cut and drawn from.

Of a step of some hundred microseconds torch's calls take nine tenths. A stage that knows a head of candidates
(``on_head``) says to ``NativeTail`` what it would do to one, and the kernel does all of it in one call.
"""

from __future__ import annotations

import math
from array import array
from ctypes import c_int64, c_void_p
from typing import Any

from torch import Tensor, finfo, float32, int64

from ..dist import Dist
from . import native
from .cuts import ABOVE, DIVIDE, FIRST, SHARE, Unfit

MOST_FEW = 1024
"""Up to so many candidates a row's best are looked for here."""
LARGEST = finfo(float32).max

_TAKES = (
    c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64,
    c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_int64,
)  # fmt: skip


class NativeTail:
    """Takes down what is done to R rows of candidates; ``drawn`` does it.

    They are those of a ranked Dist, or of a wide one those that its first cut leaves: so many of the best, or what
    reaches the best one, up to MOST_FEW. Anything else that a stage may ask of a head is an AttributeError, or Unfit.
    """

    def __init__(self, dist: Dist) -> None:
        if native.library() is None or not (dist.is_ranked or dist.is_wide):
            raise Unfit
        self._dist = dist
        self._kinds, self._leasts, self._values = array("q"), array("q"), array("d")
        self._most = dist.columns if dist.is_ranked else 0  # candidates of a row that may be left; 0: not cut yet

    def divide(self, divisor: Any) -> None:
        """Every logit by a number above 0, or by a tensor [R, 1] of them."""
        self._take(DIVIDE, divisor)
        if not all(0 < value <= LARGEST for value in self._values[-self._dist.rows :]):  # else the order goes
            raise Unfit

    def first(self, count: int) -> None:
        """No more than the ``count`` best, ties to the lower id."""
        if not isinstance(count, int) or count < 1:
            raise Unfit
        count = min(count, self._dist.columns)
        if not self._most:  # of logits as they are: of scaled ones others may tie
            if self._kinds or count > MOST_FEW or count == self._dist.columns:
                raise Unfit
            self._most = count
        self._most = min(self._most, count)
        self._take(FIRST, count)

    def share(self, p: Any, least: Any) -> None:
        """Those above which lies less than a share ``p`` of the mass (a number, or a tensor [R, 1]: at 1 all).

        And the ``least`` best.
        """
        if not self._most:
            raise Unfit
        if isinstance(p, Tensor):
            p = p.masked_fill(p >= 1.0, math.inf)
        self._take(SHARE, p, least)

    def above(self, difference: float, least: int) -> None:
        """Those whose logit is at least the best one's plus ``difference``, and the ``least`` best."""
        self._most = self._most or MOST_FEW
        self._take(ABOVE, difference, least)

    def _take(self, kind: int, value: Any, least: Any = 1) -> None:
        rows = self._dist.rows
        if not isinstance(least, int) or least < 1 or (isinstance(value, Tensor) and value.shape != (rows, 1)):
            raise Unfit
        self._values.extend(value[:, 0].tolist() if isinstance(value, Tensor) else [value] * rows)
        self._kinds.append(kind)
        self._leasts.append(least)

    def drawn(self, uniform: Tensor) -> tuple[Dist, Tensor] | None:
        """(the law, tokens int64 [R, 1]) for float64 [R, 1] in [0, 1).

        None where a row has too many candidates, or nothing to draw from.
        """
        dist, most = self._dist, self._most
        if not most:
            return None
        logits, ids = dist.candidates if dist.is_ranked else (dist.logits, dist.ids)
        logits, uniform = logits.contiguous(), uniform.contiguous()
        ids = None if ids is None else ids.contiguous()
        maxima = ends = None
        if not dist.is_ranked and (look := dist.look) is not None:
            maxima, ends = look.maxima.data_ptr(), look.ends.data_ptr()
        new, which = logits.new_empty(dist.rows, most), uniform.new_empty(dist.rows, most, dtype=int64)
        weights, tokens = uniform.new_empty(dist.rows, most), which.new_empty(dist.rows, 1)
        count = native.function("tail_draw", *_TAKES, gives=c_int64)(
            logits.data_ptr(), None if ids is None else ids.data_ptr(), dist.rows, dist.columns, maxima, ends,
            self._kinds.buffer_info()[0], self._leasts.buffer_info()[0], self._values.buffer_info()[0],
            len(self._kinds), uniform.data_ptr(), MOST_FEW, most, new.data_ptr(), which.data_ptr(), weights.data_ptr(),
            tokens.data_ptr(), native.threads(),
        )  # fmt: skip
        if not count:
            return None
        if count < most:
            new, which, weights = new[:, :count], which[:, :count], weights[:, :count]
        return Dist.ranked(new, which, dist.vocab_size, weights=weights), tokens


__all__ = ["LARGEST", "NativeTail"]
