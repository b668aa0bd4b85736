"""Products of activations in bfloat16 with narrow weights, by the kernels of ``kernels/products.cpp``.

Both are made for few rows, whose time is the reading of the weights: they ask memory ahead of what they multiply, which
torch's and oneDNN's kernels do not, and widen a weight once for eight rows. Sums are float32, in an order that does not
depend on how many rows or threads there are.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int64, c_void_p
from functools import lru_cache

import torch
from torch import Tensor

from ..kernels import native
from .quantize import GROUP

Product = Callable[[Tensor], Tensor]
_TAKES = (*[c_void_p] * 3, *[c_int64] * 4, c_void_p)
BLOCK = 64
"""Outputs that torch's layout of 4 bits keeps together: the low halves of its bytes are 32 of them, the high halves the
others. A part of a weight begins and ends at a multiple of it.
"""


def int4_product(packed: Tensor, scales: Tensor) -> Product | None:
    """What ``torch._weight_int4pack_mm_for_cpu`` gives for ``packed`` and ``scales`` (bfloat16 [groups, out, 2]), but
    for the order of sums: bfloat16 [n, in] to [n, out]. None where there is no kernel, or the layout is another.
    """
    fits = scales.shape[1] % BLOCK == 0 and packed.device.type == "cpu" and packed.is_contiguous()
    known = fits and scales.is_contiguous() and scales.dtype == torch.bfloat16 and _pays() and _layout_is_known()
    return _int4_product(packed, scales) if known else None


def _int4_product(packed: Tensor, scales: Tensor) -> Product:
    outputs = scales.shape[1]
    return _product("product_int4", packed.numel() * 2 // outputs, outputs, packed, scales)


def _product(name: str, inputs: int, outputs: int, first: Tensor, second: Tensor | None) -> Product:
    """A kernel with what it multiplies with, whose memory stays, wherever a layer's own goes."""
    call, threads = native.function(name, *_TAKES), native.threads
    first, second = first.detach(), None if second is None else second.detach()

    def product(x: Tensor) -> Tensor:
        x = x.contiguous()
        made = x.new_empty(len(x), outputs)
        where = x.data_ptr(), first.data_ptr(), None if second is None else second.data_ptr()
        call(*where, len(x), inputs, outputs, threads(), made.data_ptr())
        return made

    return product


def bfloat16_product(weight: Tensor, bias: Tensor | None) -> Product | None:
    """``functional.linear`` with ``weight`` (bfloat16 [out, in]) and ``bias``, summed in float32 and rounded once.

    None where there is no kernel for them.
    """
    outputs, inputs = weight.shape
    held = [weight] if bias is None else [weight, bias]
    fits = all(each.is_contiguous() and each.dtype == torch.bfloat16 and each.device.type == "cpu" for each in held)
    if inputs % native.LANES or not fits or not _pays():
        return None
    return _product("product_bfloat16", inputs, outputs, weight, bias)


def _pays() -> bool:
    """Whether there are kernels, with all the threads that torch's have."""
    return native.library() is not None and (native.has_threads() or torch.get_num_threads() == 1)


@lru_cache(maxsize=1)
def _layout_is_known() -> bool:
    """Whether this torch lays 4 bits out on this processor as the kernel reads them."""
    inputs, outputs = 2 * GROUP, 2 * BLOCK
    rows, columns = (torch.arange(size, device="cpu") for size in (outputs, inputs))  # whatever the default is
    values = (rows[:, None] * 7 + columns * 3) % 16
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.to(torch.int32), 1)
    scales = torch.tensor([1.0, 8.0], dtype=torch.bfloat16, device="cpu").repeat(inputs // GROUP, outputs, 1)
    found = _int4_product(packed, scales)(torch.eye(inputs, dtype=torch.bfloat16, device="cpu"))
    return torch.equal(found, values.t().to(torch.bfloat16))


__all__ = ["BLOCK", "Product", "bfloat16_product", "int4_product"]
