"""Philox4x32-10 by a kernel (``noise.cpp``): the few numbers of a step, and one for each token of a row."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from itertools import chain

import torch
from torch import Tensor

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


def rows(first: Tensor, rest: Sequence[Tensor]) -> Tensor | None:
    """float64 in [0, 1), a number for each element of six words that broadcast: of a counter, four, and of a key, two.

    ``first``: int64 [C] or [R, C]; the ``rest``, int64, are the same all over a row. None where they are not, or where
    there is no kernel.
    """
    if native.library() is None or any(word.shape[-1:] not in ((), (1,)) for word in rest):
        return None
    if any((word.dtype, word.device.type) != (torch.int64, "cpu") for word in (first, *rest)):
        return None
    shape = torch.broadcast_shapes(first.shape, *(word.shape for word in rest))
    if len(shape) not in (1, 2):
        return None
    count = shape[0] if len(shape) == 2 else 1
    others = torch.stack([word.expand(*shape[:-1], 1).reshape(count) for word in rest], -1)
    own = first.expand(count, shape[-1])
    own = own if own.stride(-1) == 1 else own.contiguous()
    found = torch.empty(shape, dtype=torch.float64)
    fill = native.function("noise_rows", c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64)
    fill(own.data_ptr(), own.stride(0), *own.shape, others.data_ptr(), found.data_ptr(), native.threads())
    return found


__all__ = ["philox", "rows", "uniform"]
