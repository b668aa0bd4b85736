"""Several linear layers as one, of which they become views: dense ones, and bitsandbytes' 4-bit ones, exactly.

A 4-bit weight's values lie row by row, two in a byte, and each 64 of them share a scale (``absmax``). Where the
columns are a multiple of 64, a row ends where a block does, so the rows of several layers are the rows of one, bit for
bit. That does not hold where the scales are quantized themselves (``double_quant``): their mean is taken off, layer by
layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .packed import Slice

ALIGNED = 4
"""Kernels read so many scales at a time: each part begins at a multiple."""


def joined(layers: Sequence[Any]) -> nn.Module | None:
    """One 4-bit layer ``[sum of out_features, in_features]``, of which the given ones become views; None where that is
    not exact, or where they are no 4-bit layers.
    """
    if not all(type(layer).__name__ == "Linear4bit" for layer in layers):
        return None
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    new_layer: Any = Linear4bit  # bitsandbytes leaves it unannotated
    states = [layer.weight.quant_state for layer in layers]
    if any(state is None for state in states) or len({_kind(layer) for layer in layers}) > 1:
        return None
    first = states[0]
    rows, columns = [state.shape[0] for state in states], first.shape[1]
    scales = [count * columns // first.blocksize for count in rows]
    if columns % first.blocksize or any(count % ALIGNED for count in scales):
        return None
    state = QuantState(
        absmax=torch.cat([state.absmax for state in states]),
        shape=torch.Size([sum(rows), columns]),
        code=first.code,
        blocksize=first.blocksize,
        quant_type=first.quant_type,
        dtype=first.dtype,
    )
    weight = Params4bit(
        torch.cat([layer.weight.data.view(-1, 1) for layer in layers]),
        quant_state=state,
        blocksize=first.blocksize,
        compress_statistics=False,
        quant_type=first.quant_type,
        bnb_quantized=True,
    )
    whole = new_layer(
        columns,
        sum(rows),
        bias=layers[0].bias is not None,
        compute_dtype=layers[0].compute_dtype,
        compress_statistics=False,
        quant_type=first.quant_type,
        device="meta",
    )
    whole.weight = weight
    if layers[0].bias is not None:
        whole.bias = nn.Parameter(torch.cat([layer.bias.data for layer in layers]), requires_grad=False)
    _as_views(whole, layers, rows, scales)
    ready: nn.Module = whole.eval()
    return ready


def _kind(layer: Any) -> tuple[Any, ...]:
    """What has to be the same in all of them; a kind of its own for a layer whose values do not lie row by row."""
    state = layer.weight.quant_state
    odd = state.nested or getattr(state, "packing_format_for_cpu", False) or layer.weight.dtype != torch.uint8
    return (
        state.shape[1], state.blocksize, state.quant_type, state.dtype, layer.compute_dtype, layer.bias is None,
        layer.weight.device, id(layer) if odd or len(state.shape) != 2 else None,
    )  # fmt: skip


def _as_views(whole: Any, layers: Sequence[Any], rows: Sequence[int], scales: Sequence[int]) -> None:
    row = byte = scale = 0
    for layer, count, own in zip(layers, rows, scales, strict=True):
        size = layer.weight.data.numel()
        layer.weight.data = whole.weight.data[byte : byte + size].view_as(layer.weight.data)
        layer.weight.quant_state.absmax = whole.weight.quant_state.absmax[scale : scale + own]
        if layer.bias is not None:
            layer.bias.data = whole.bias.data[row : row + count]
        layer.part_of = Slice(whole, row, row + count)
        row, byte, scale = row + count, byte + size, scale + own


class DenseLinear(nn.Module):
    """Several ``nn.Linear`` in one: they become views of its weight, ``[out_features, in_features]``."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        self.in_features, self.out_features = layers[0].in_features, sum(layer.out_features for layer in layers)
        self.weight = nn.Parameter(torch.cat([layer.weight.data for layer in layers]), requires_grad=False)
        biases = [layer.bias.data for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        start = 0
        for layer in layers:
            stop = start + layer.out_features
            layer.weight.data = self.weight.data[start:stop]
            if self.bias is not None:
                layer.bias.data = self.bias.data[start:stop]
            layer.part_of = Slice(self, start, stop)  # type: ignore[assignment]  # read by core.model.lean
            start = stop

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``."""
        return functional.linear(x, self.weight, self.bias)


__all__ = ["DenseLinear", "joined"]
