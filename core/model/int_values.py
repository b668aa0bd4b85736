"""Weights in whole numbers: from floats, with the scales that fit them best, and eight bits in two halves of four."""

from __future__ import annotations

import torch
from torch import Tensor

from .quantize import GROUP


def int4_values(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(values 0 to 15 ``[n, k]``, scale and zero ``[n, k / 32]`` in bfloat16) of a weight ``[n, k]``.

    From the least to the largest weight of a group in 15 steps; then scale and zero are fitted to those values by least
    squares and the values rounded once more, which takes a tenth off the squared error.
    """
    rows, columns = weight.shape
    groups = weight.float().view(rows, columns // GROUP, GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = ((high - low) / 15).clamp_(min=1e-8)
    values = ((groups - low) / scale).round_().clamp_(0, 15)
    scale, zero = _fitted(groups, values, scale, low + 8 * scale)
    values = ((groups - zero) / scale + 8).round_().clamp_(0, 15)
    return values.view(rows, columns).to(torch.uint8), scale[..., 0].bfloat16(), zero[..., 0].bfloat16()


def _fitted(groups: Tensor, values: Tensor, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and zero that fit ``values`` best, rounded to bfloat16; groups of one value keep what they have."""
    centred = values - 8
    mean, mean_weight = centred.mean(-1, keepdim=True), groups.mean(-1, keepdim=True)
    spread = (centred - mean).square().sum(-1, keepdim=True)
    shared = ((centred - mean) * (groups - mean_weight)).sum(-1, keepdim=True)
    fitted = shared / spread.clamp(min=1e-12)
    good = (spread > 0) & (fitted > 0)
    scale = torch.where(good, fitted, scale).bfloat16().float().clamp_(min=1e-30)
    return scale, torch.where(good, mean_weight - scale * mean, zero).bfloat16().float()


def int8_values(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 ``[n, k]``, scale ``[n]`` in bfloat16) of a weight ``[n, k]``: symmetric, by the largest of a row."""
    weight = weight.float()
    scale = (weight.abs().amax(-1, keepdim=True) / 127).clamp_(min=1e-30).bfloat16().float()
    return (weight / scale).round_().clamp_(-127, 127).to(torch.int8), scale[:, 0].bfloat16()


def int8_as_int4(values: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eight-bit values (int8 ``[n, k]``, ``scale`` ``[n, k / 32]``) as the sum of two products of four bits.

    Returns (values ``[n, 2 k]``, scale and zero ``[n, k / 16]``): v = 16 * (h - 8) + l with both halves in 0 to 15, the
    first with 16 times the scale, the second with a zero of 8 scales. Nothing is rounded.
    """
    unsigned = values.to(torch.int16) + 128
    halves = torch.cat([unsigned >> 4, unsigned & 15], -1).to(torch.uint8)
    return halves, torch.cat([16 * scale, scale], -1), torch.cat([torch.zeros_like(scale), 8 * scale], -1)
