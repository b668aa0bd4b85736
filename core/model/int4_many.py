"""Many rows by weights of 4 bits: taken apart once into float32, a piece at a time, and multiplied with that.

torch's kernel takes the weights apart anew for every few rows, which nobody notices in a step and doubles the time of a
long prompt. A processor that multiplies bfloat16 in hardware is left to the kernel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from .quantize import GROUP, cpu_imitates_bfloat16

BLOCK = 64
"""Outputs that torch's layout keeps together: the low halves of its bytes are 32 of them, the high halves the others.
A part of a weight begins and ends at a multiple of it.
"""
MANY = 128
"""Rows from which on it pays."""
PIECE = 2_000_000
"""Weights at a time."""
OUTPUTS = 64 * BLOCK
"""Outputs at a time."""


def pays_from(outputs: int) -> float:
    """The number of rows from which on ``multiplied`` is the way to so many outputs here."""
    return MANY if outputs % BLOCK == 0 and _pays() else math.inf


def multiplied(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """``[n, out]`` in the dtype of ``x`` ``[n, in]``: what ``torch._weight_int4pack_mm_for_cpu`` gives, but for the
    order of sums.
    """
    groups, outputs, _ = scales.shape
    halves = packed.view(-1, groups * GROUP, BLOCK // 2)  # [blocks, in, 32]: two weights a byte
    wide, made = x.float(), x.new_empty(len(x), outputs)
    for first in range(0, outputs, OUTPUTS):
        behind = min(first + OUTPUTS, outputs)
        part = halves[first // BLOCK : behind // BLOCK].transpose(0, 1)
        made[:, first:behind] = _outputs(wide, part, scales[:, first:behind])
    return made


def _outputs(wide: Tensor, halves: Tensor, scales: Tensor) -> Tensor:
    """float32 ``[n, out]`` of some outputs, from ``halves`` ``[in, blocks, 32]``."""
    groups, outputs, _ = scales.shape
    made = wide.new_zeros(len(wide), outputs)
    count = max(1, PIECE // (GROUP * outputs))  # groups at a time
    room = wide.new_empty(min(count, groups) * GROUP, outputs)
    for first in range(0, groups, count):
        scale, zero = scales[first : first + count, None].float().unbind(-1)  # [g, 1, out] each
        rows = slice(first * GROUP, (first + len(scale)) * GROUP)
        piece, pairs = room[: len(scale) * GROUP], halves[rows]
        low_high = piece.view(-1, outputs // BLOCK, 2, BLOCK // 2)
        low_high[:, :, 0], low_high[:, :, 1] = pairs & 15, pairs >> 4
        values = piece.view(len(scale), GROUP, outputs)
        torch.addcmul(zero - 8 * scale, values, scale, out=values)
        made.addmm_(wide[:, rows], piece)
    return made


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


__all__ = ["BLOCK", "GROUP", "MANY", "multiplied", "pays_from", "readable"]
