"""Packed weights in huge pages, where Linux has them.

A step reads every weight once. In pages of 4 KB that is a page table entry for each, and on a machine of somebody
else's (a virtual one) two levels of them: a seventh of a step's time was that. What oneDNN laid out stays where it is,
and the pages under it are made huge; other weights move into one block of huge pages.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from .packed import OneDnnLinear, PackedLinear, QuantizedLinear, Slice
from .widened import WidenedLinear

HUGE = 2**21
_COLLAPSE = 25  # MADV_COLLAPSE, of Linux 6.1


def settle(model: nn.Module) -> set[int]:
    """Move ``model``'s packed weights into huge pages; where those that were moved lie now. Nothing where there are
    none.
    """
    layers = {id(layer): layer for layer in map(_whole, model.modules()) if layer is not None}.values()
    own = [tensor for layer in layers for tensor in _tensors(layer)]
    if own and hasattr(mmap, "MADV_HUGEPAGE"):
        _gather(own)
        for module in model.modules():
            part = getattr(module, "part_of", None)
            if isinstance(part, Slice) and isinstance(module, QuantizedLinear):
                fresh = part.whole.part(part.start, part.stop)
                module._buffers.update(fresh._buffers)
    _collapse(layer.packed for layer in layers if isinstance(layer, OneDnnLinear))
    return {tensor.data_ptr() for tensor in own}


def _tensors(layer: PackedLinear) -> list[Tensor]:
    """Its weights, but for what oneDNN laid out; an embedding's where it is tied to one."""
    tied = layer.tied if isinstance(layer, WidenedLinear) else None
    held = [tensor for tensor in layer.buffers() if tensor.dim() > 1]
    return held if tied is None else [*held, tied]


def _whole(module: nn.Module) -> PackedLinear | None:
    part = getattr(module, "part_of", None)
    whole = part.whole if isinstance(part, Slice) else module
    return whole if isinstance(whole, PackedLinear) else None


def _gather(tensors: Sequence[Tensor]) -> None:
    """One behind the other, in a block of their own. Each has a storage that ends where it does: what is saved or
    pickled of it is not the block.
    """
    size = sum(_rounded(tensor.nbytes) for tensor in tensors)
    block = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        block.madvise(mmap.MADV_HUGEPAGE)
    at = -torch.frombuffer(block, dtype=torch.uint8).data_ptr() % HUGE
    for tensor in tensors:  # one by one, so that each is let go before the next is copied
        place = torch.frombuffer(block, dtype=tensor.dtype, count=tensor.numel(), offset=at).view(tensor.shape)
        tensor.data = place.copy_(tensor.data)
        at += _rounded(tensor.nbytes)


def _rounded(size: int) -> int:
    return -(-size // 64) * 64


def _collapse(weights: Iterable[Tensor]) -> None:
    """Make the pages under oneDNN's weights huge: an old kernel, or one that has none to spare, says no to that."""
    madvise = getattr(ctypes.CDLL(None), "madvise", None) if hasattr(mmap, "MADV_HUGEPAGE") else None
    if madvise is None or not hasattr(torch.ops.mkldnn, "data_ptr"):
        return
    spans: list[list[int]] = []
    of = torch.ops.mkldnn
    for start, size in sorted((of.data_ptr(weight), of._nbytes(weight)) for weight in weights):
        if spans and start - spans[-1][1] < HUGE:
            spans[-1][1] = start + size
        else:
            spans.append([start, start + size])
    for start, stop in spans:
        start, stop = -(-start // HUGE) * HUGE, stop // HUGE * HUGE
        if start < stop:
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _COLLAPSE)
