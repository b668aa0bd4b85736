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
LANES = 16
"""Inputs come in multiples of it."""
BLOCK = 64
"""Outputs that torch's layout of 4 bits keeps together: the low halves of its bytes are 32 of them, the high halves the
others. A part of a weight begins and ends at a multiple of it.
"""


def int4_product(packed: Tensor, scales: Tensor) -> Product | None:
    """What ``torch._weight_int4pack_mm_for_cpu`` gives for ``packed`` and ``scales`` (bfloat16 [groups, out, 2]), but
    for the order of sums: bfloat16 [n, in] to [n, out]. None where there is no kernel, or the layout is another.
    """
    outputs = scales.shape[1]
    known = outputs % BLOCK == 0 and native.library() is not None and _layout_is_known()
    return _int4_product(packed, scales) if known else None


def _int4_product(packed: Tensor, scales: Tensor) -> Product:
    outputs = scales.shape[1]
    call = native.function("product_int4", *[c_void_p] * 3, *[c_int64] * 4, c_void_p)
    inputs = packed.numel() * 2 // outputs
    at_packed, at_scales, threads, held = packed.data_ptr(), scales.data_ptr(), native.threads, (packed, scales)

    def product(x: Tensor) -> Tensor:
        assert held
        x = x.contiguous()
        made = x.new_empty(len(x), outputs)
        call(x.data_ptr(), at_packed, at_scales, len(x), inputs, outputs, threads(), made.data_ptr())
        return made

    return product


def bfloat16_product(weight: Tensor, bias: Tensor | None) -> Product | None:
    """``functional.linear`` with ``weight`` (bfloat16 [out, in]) and ``bias``, summed in float32 and rounded once.

    None where there is no kernel.
    """
    outputs, inputs = weight.shape
    if inputs % LANES or not weight.is_contiguous() or native.library() is None:
        return None
    call = native.function("product_bfloat16", *[c_void_p] * 3, *[c_int64] * 4, c_void_p)
    threads, held = native.threads, (weight, bias)
    at_weight, at_bias = weight.data_ptr(), None if bias is None else bias.data_ptr()

    def product(x: Tensor) -> Tensor:
        assert held
        x = x.contiguous()
        made = x.new_empty(len(x), outputs)
        call(x.data_ptr(), at_weight, at_bias, len(x), inputs, outputs, threads(), made.data_ptr())
        return made

    return product


@lru_cache(maxsize=1)
def _layout_is_known() -> bool:
    """Whether this torch lays 4 bits out on this processor as the kernel reads them."""
    inputs, outputs = 2 * GROUP, 2 * BLOCK
    values = (torch.arange(outputs)[:, None] * 7 + torch.arange(inputs) * 3) % 16  # [out, in]
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.to(torch.int32), 1)
    scales = torch.tensor([1.0, 8.0]).expand(inputs // GROUP, outputs, 2).to(torch.bfloat16).contiguous()
    found = _int4_product(packed, scales)(torch.eye(inputs, dtype=torch.bfloat16))
    return torch.equal(found, values.t().to(torch.bfloat16))


__all__ = ["BLOCK", "Product", "bfloat16_product", "int4_product"]
