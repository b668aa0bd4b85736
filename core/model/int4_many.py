"""Many rows by weights of 4 bits: taken apart once into float32, a piece at a time, and multiplied with that.

torch's kernel takes the weights apart anew for every few rows, which nobody notices in a step and doubles the time of a
long prompt. A processor that multiplies bfloat16 in hardware is left to the kernel.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .quantize import cpu_imitates_bfloat16

GROUP = 32
"""Weights of a row that share a scale and a zero."""
BLOCK = 64
"""Outputs that torch's layout keeps together: the low halves of its bytes are 32 of them, the high halves the others.
A part of a weight begins and ends at a multiple of it.
"""
MANY = 96
"""Rows from which on it pays."""
PIECE = 2_000_000
"""Weights at a time."""


def takes(outputs: int) -> bool:
    """Whether ``multiplied`` is the way for many rows and so many outputs here."""
    return outputs % BLOCK == 0 and _pays()


def multiplied(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """``[n, out]`` in the dtype of ``x`` ``[n, in]``: what ``torch._weight_int4pack_mm_for_cpu`` gives, but for the
    order of sums.
    """
    groups, outputs, _ = scales.shape
    inputs = groups * GROUP
    halves = packed.view(-1, inputs, BLOCK // 2).transpose(0, 1)  # [in, blocks, 32]: two weights a byte
    count = max(1, PIECE // (GROUP * outputs))  # groups at a time
    wide, made = x.float(), x.new_zeros(len(x), outputs, dtype=torch.float32)
    room = x.new_empty(min(count, groups) * GROUP * outputs, dtype=torch.float32)
    for first in range(0, groups, count):
        scale, zero = scales[first : first + count, None].float().unbind(-1)  # [g, 1, out] each
        rows = slice(first * GROUP, first * GROUP + len(scale) * GROUP)
        piece = room[: len(scale) * GROUP * outputs]
        values = piece.view(-1, outputs // BLOCK, 2, BLOCK // 2)
        values[:, :, 0], values[:, :, 1] = halves[rows] & 15, halves[rows] >> 4
        values = piece.view(len(scale), GROUP, outputs)
        torch.addcmul(zero - 8 * scale, values, scale, out=values)
        made.addmm_(wide[:, rows], piece.view(-1, outputs))
    return made.to(x.dtype)


@lru_cache(maxsize=1)
def _pays() -> bool:
    return cpu_imitates_bfloat16() and readable()


def readable() -> bool:
    """Whether this torch lays weights out on this processor as ``multiplied`` reads them."""
    inputs = 2 * GROUP
    values = (torch.arange(2 * BLOCK)[:, None] * 7 + torch.arange(inputs) * 3) % 16  # [out, in]
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.to(torch.int32), 1)
    scales = torch.tensor([1.0, 8.0]).expand(inputs // GROUP, 2 * BLOCK, 2)
    found = multiplied(torch.eye(inputs), packed, scales)
    return torch.equal(found, values.t().float())


__all__ = ["BLOCK", "GROUP", "MANY", "multiplied", "readable", "takes"]
