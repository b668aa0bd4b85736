"""Philox4x32-10 by a kernel (``noise.cpp``), for the few numbers of a step: faster than Python's integers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from itertools import chain

from . import native


def philox(words: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...] | None:
    """Four words of each of n numbers, of the four of their counters and the two of their keys: six sequences of n.

    All words are from 0 to 2**32 - 1. None where there is no kernel.
    """
    if native.library() is None:
        return None
    count, given = len(words[0]), array("I")
    for word in words:
        given.extend(word)
    found = array("I", bytes(16 * count))
    fill = native.function("noise_philox", c_void_p, c_int64, c_void_p)
    fill(given.buffer_info()[0], count, found.buffer_info()[0])
    return tuple(tuple(found[i * count : (i + 1) * count]) for i in range(4))


def uniform(places: Sequence[tuple[int, int, int]], key: int, draws: int) -> list[float] | None:
    """Numbers in [0, 1) of n places (seed, position, attempt), ``draws`` of each. None where there is no kernel."""
    if native.library() is None:
        return None
    given, found = array("Q", chain.from_iterable(places)), array("d", bytes(8 * len(places) * draws))
    fill = native.function("noise_uniform", c_void_p, c_int64, c_int64, c_int64, c_void_p)
    fill(given.buffer_info()[0], len(places), key, draws, found.buffer_info()[0])
    return found.tolist()


__all__ = ["philox", "uniform"]
