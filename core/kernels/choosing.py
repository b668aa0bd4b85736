"""Choosing a token on a CPU by kernels: the best k, probabilities, nuclei and draws.

They are ``choose.cpp`` and ``shares.cpp``, for float32 logits ``[R, C]``, and give what torch's operators give in the
callers' other way. ``choosing`` is None where there are no kernels.
"""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..selection import WIDTH
from . import native

MOST_NEAR = 1024
"""Tokens near a nucleus' end that a kernel puts in order."""
SURE, ROUGH, NOT_FOUND = 0, 1, 2
"""What is known of a nucleus' end: what is in; the tokens near it, too near to tell by rough sums; or nothing."""

_ARGUMENTS = {
    "look": (c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64),
    "best": (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_int64),
    "shares": (c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_int64),
    "nucleus": (
        c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p,
        c_int64, c_void_p, c_void_p, c_void_p, c_int64,
    ),
    "position": (
        c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p,
    ),
    "draw": (
        c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_double, c_double, c_void_p, c_void_p,
        c_int64,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Ends:
    """Where nuclei of R rows end.

    counts: int64 [R, 4], how much of it is known (SURE, ROUGH or NOT_FOUND), how many tokens are near the end, how many
    of those are in, and how many are in or tie with the last one that is; members: int64 [R, MOST_NEAR], the columns of
    those near, in order; edges: float32 [R, 2], the least logit that is in, and the probability that all before the
    members have at least; sums: float64 [R, n], by blocks, of what is in, or, where that is ROUGH, of what comes before
    the members.
    """

    counts: Tensor
    members: Tensor
    edges: Tensor
    sums: Tensor


@dataclass(frozen=True)
class Look:
    """What one pass over float32 ``[R, C]`` tells.

    maxima: float32 [R, C // WIDTH], of whole blocks; ends: float32 [R, 2], the least and the largest of all columns.
    NaN where there is NaN among them.
    """

    maxima: Tensor
    ends: Tensor


class Choosing:
    """The kernels, as functions of tensors."""

    _look: Any
    _best: Any
    _shares: Any
    _nucleus: Any
    _position: Any
    _draw: Any

    def __init__(self) -> None:
        for name, takes in _ARGUMENTS.items():
            setattr(self, f"_{name}", native.function(f"choose_{name}", *takes))

    def look(self, values: Tensor) -> Look:
        """The block maxima and the ends of each row."""
        values, look = values.contiguous(), _room(values)
        rows, columns = values.shape
        self._look(values.data_ptr(), rows, columns, look.maxima.data_ptr(), look.ends.data_ptr(), native.threads())
        return look

    def best(self, values: Tensor, k: int, look: Look | None) -> tuple[Tensor, Tensor, Look]:
        """(the k largest, float32 [R, k], best first, their columns, int64 [R, k], and the look); 0 < k <= C.

        Ties go to the lower column; NaN is above all. ``look``: of these values, where there is one already.
        """
        values = values.contiguous()
        rows, columns = values.shape
        seen = _room(values) if look is None else look
        top, at = values.new_empty(rows, k), values.new_empty(rows, k, dtype=torch.int64)
        self._best(
            values.data_ptr(), rows, columns, k, seen.maxima.data_ptr(), seen.ends.data_ptr(), look is not None,
            top.data_ptr(), at.data_ptr(), native.threads(),
        )  # fmt: skip
        return top, at, seen

    def shares(self, values: Tensor, look: Look | None) -> tuple[Tensor, Tensor, Tensor, Look]:
        """(softmax, float32 [R, C], its sums by blocks, float64 [R, n], facts, float64 [R, 3], and the look).

        Facts: the sum of all blocks, of the heaviest one, and the best probability. NaN in a row whose best is not
        finite.
        """
        values = values.contiguous()
        rows, columns = values.shape
        seen = _room(values) if look is None else look
        probs, sums = torch.empty_like(values), _sums(values)
        facts = values.new_empty(rows, 3, dtype=torch.float64)
        self._shares(
            values.data_ptr(), rows, columns, seen.maxima.data_ptr(), seen.ends.data_ptr(), look is not None,
            probs.data_ptr(), sums.data_ptr(), facts.data_ptr(), native.threads(),
        )  # fmt: skip
        return probs, sums, facts, seen

    def nucleus(
        self, logits: Tensor, probs: Tensor, ends: Tensor, share: Tensor, whole: Tensor, slack: Tensor, best: Tensor,
        guesses: int,
    ) -> Ends:  # fmt: skip
        """Where the mass above a token reaches ``share`` (float32 [R, 1]) of the ``whole`` (float64 [R, 1]).

        ``logits`` and ``probs`` as of ``shares``, contiguous, with the ``ends`` of the look; ``slack``: float64 [R, 1],
        what sums may be off by; ``best``: float32 [R, 1]; ``guesses``: how many are made at most.
        """
        rows, columns = logits.shape
        share, whole, slack, best = (each.contiguous() for each in (share, whole, slack, best))
        counts, members = (logits.new_empty(rows, size, dtype=torch.int64) for size in (4, MOST_NEAR))
        edges, sums = logits.new_empty(rows, 2), _sums(logits)
        self._nucleus(
            logits.data_ptr(), probs.data_ptr(), rows, columns, share.data_ptr(), whole.data_ptr(), slack.data_ptr(),
            best.data_ptr(), ends.data_ptr(), guesses, sums.data_ptr(), MOST_NEAR, members.data_ptr(),
            counts.data_ptr(), edges.data_ptr(), native.threads(),
        )  # fmt: skip
        return Ends(counts, members, edges, sums)

    def position(
        self, logits: Tensor, probs: Tensor, sums: Tensor, floor: Tensor | None, without: Tensor | None, uniform: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(columns, int64 [R, 1], and how far each is from another, float64 [R, 1], in mass): a draw by block sums.

        ``floor``: float32 [R, 1], the least logit that is left; ``without``: int64 [2, n], rows and columns of what is
        not left all the same. All contiguous.
        """
        rows, columns = logits.shape
        at, apart = (logits.new_empty(rows, 1, dtype=dtype) for dtype in (torch.int64, torch.float64))
        removed = 0 if without is None else without.shape[1]
        self._position(
            logits.data_ptr(), probs.data_ptr(), sums.data_ptr(), rows, columns,
            None if floor is None else floor.data_ptr(), without.data_ptr() if without is not None else None, removed,
            uniform.data_ptr(), at.data_ptr(), apart.data_ptr(),
        )  # fmt: skip
        return at, apart

    def draw(
        self, values: Tensor, look: Look | None, uniform: Tensor, rough: float, coarse: float
    ) -> tuple[Tensor, Tensor, Look]:
        """(columns, int64 [R, 1], whether each is sure, bool [R, 1], and the look): a draw by block sums.

        uniform: float64 [R, 1]. Sums are taken to be off by ``rough`` of a row's whole and ``coarse`` of its heaviest
        block at most. A row whose best is not finite is not sure.
        """
        values, uniform = values.contiguous(), uniform.contiguous()
        rows, columns = values.shape
        seen = _room(values) if look is None else look
        at, sure = (values.new_empty(rows, 1, dtype=dtype) for dtype in (torch.int64, torch.bool))
        self._draw(
            values.data_ptr(), rows, columns, seen.maxima.data_ptr(), seen.ends.data_ptr(), look is not None,
            uniform.data_ptr(), rough, coarse, at.data_ptr(), sure.data_ptr(), native.threads(),
        )  # fmt: skip
        return at, sure, seen


def choosing() -> Choosing | None:
    """The kernels, or None where there are none."""
    library = native.library()
    return None if library is None else _of(library)


@lru_cache(maxsize=1)
def _of(library: ctypes.CDLL) -> Choosing:
    return Choosing()


def _room(values: Tensor) -> Look:
    rows, columns = values.shape
    return Look(values.new_empty(rows, columns // WIDTH), values.new_empty(rows, 2))


def _sums(values: Tensor) -> Tensor:
    return values.new_empty(len(values), -(-values.shape[1] // WIDTH), dtype=torch.float64)


__all__ = ["NOT_FOUND", "ROUGH", "SURE", "WIDTH", "Choosing", "Ends", "Look", "choosing"]
