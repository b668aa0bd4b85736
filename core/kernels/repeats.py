"""What rows hold already, on a CPU by kernels (``kernels/repeats.cpp``): counts, what they cost, and runs.

What comes out is what torch's operators give in the callers' other way. ``repeats`` is None where there are no kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import native

_ARGUMENTS = {
    "count": (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_int64),
    "repetition": (c_void_p, c_int64, c_void_p, c_void_p, c_float, c_void_p),
    "less": (c_void_p, c_int64, c_void_p, c_void_p, c_float, c_int64, c_void_p),
    "runs": (c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_int64, c_void_p),
    "dearest": (c_void_p, c_void_p, c_int64, c_void_p),
}
_TELLS = ("count", "runs")  # those that return a number


class Repeats:
    """The kernels, as functions of tensors. tokens: int64 [R, T], -1 behind a row's length."""

    _count: Any
    _repetition: Any
    _less: Any
    _runs: Any
    _dearest: Any

    def __init__(self) -> None:
        for name, takes in _ARGUMENTS.items():
            gives = c_int64 if name in _TELLS else None
            setattr(self, f"_{name}", native.function(f"repeats_{name}", *takes, gives=gives))

    def count(self, tokens: Tensor, prompts: Tensor, lengths: Tensor, size: int) -> Tensor:
        """int32 [2, R, T]: how often each place's token stands in its row's prompt, and how often behind that.

        Behind a row's length it is told of token 0. prompts and lengths: int64 [R, 1].
        """
        tokens, prompts, lengths = _rows(tokens), prompts.contiguous(), lengths.contiguous()
        counts = tokens.new_empty(2, *tokens.shape, dtype=torch.int32)
        odd = self._count(
            tokens.data_ptr(), *tokens.shape, tokens.stride(0), prompts.data_ptr(), lengths.data_ptr(), size,
            counts.data_ptr(), native.threads(),
        )  # fmt: skip
        if odd:
            raise IndexError(f"{odd} tokens are none of a vocabulary of {size}")
        return counts

    def repetition(self, logits: Tensor, counts: Sequence[Tensor], penalty: float) -> Tensor:
        """float32 [R, n] of float32 [R, n]: what occurs times the penalty where it is below 0, else over it.

        ``counts``: one or two of int32 [R, n], which together are the occurrences.
        """
        logits, (first, second) = logits.contiguous(), _one_or_two(counts)
        new = torch.empty_like(logits)
        self._repetition(logits.data_ptr(), logits.numel(), first, second, penalty, new.data_ptr())
        return new

    def less(self, logits: Tensor, counts: Sequence[Tensor], value: float, once: bool) -> Tensor:
        """The same, less ``value`` for each occurrence, or for all of them ``once``."""
        logits, (first, second) = logits.contiguous(), _one_or_two(counts)
        new = torch.empty_like(logits)
        self._less(logits.data_ptr(), logits.numel(), first, second, value, once, new.data_ptr())
        return new

    def dearest(self, spots: Tensor, costs: Tensor) -> Tensor:
        """float32 [n]: the largest of the costs (float32 [n], 0 or more) that are at the same spot (int64 [n])."""
        spots, costs = spots.contiguous(), costs.contiguous()
        found = torch.empty_like(costs)
        self._dearest(spots.data_ptr(), costs.data_ptr(), len(spots), found.data_ptr())
        return found

    def runs(self, tokens: Tensor, lengths: Tensor, low: Tensor, farthest: int) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, places, runs), int64 [n] each: where a row's last token stood before, from ``low`` on.

        A run is how many tokens up to there equal those up to the end, one by one, ``farthest`` of them at least.
        lengths and low: int64 [R, 1].
        """
        tokens, lengths, low = _rows(tokens), lengths.contiguous(), low.contiguous()
        found = tokens.new_empty(3, tokens.numel())
        count = self._runs(
            tokens.data_ptr(), len(tokens), tokens.stride(0), lengths.data_ptr(), low.data_ptr(), farthest,
            tokens.numel(), found.data_ptr(),
        )  # fmt: skip
        rows, places, runs = found[:, :count]
        return rows, places, runs


def repeats() -> Repeats | None:
    """The kernels, or None where there are none."""
    library = native.library()
    return None if library is None else _of(library)


@lru_cache(maxsize=1)
def _of(library: ctypes.CDLL) -> Repeats:
    return Repeats()


def _rows(tokens: Tensor) -> Tensor:
    return tokens if tokens.stride(1) == 1 else tokens.contiguous()


def _one_or_two(counts: Sequence[Tensor]) -> tuple[int, int | None]:
    assert all(each.is_contiguous() and each.dtype == torch.int32 for each in counts)
    return counts[0].data_ptr(), counts[1].data_ptr() if len(counts) > 1 else None


__all__ = ["Repeats", "repeats"]
