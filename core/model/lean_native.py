"""The layers of a lean decoder step between whose products a CPU's kernels run (``kernels/decode.cpp``).

A step of one token a row: what torch does in two dozen calls a layer is four here, beside the four products. The
arithmetic is that of transformers' forward, rounded where it rounds. Keys and values lie in the same cache, so that
prompts and passes of several tokens go the other way and both may take turns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from typing import Protocol

import torch
from torch import Tensor

from ..kernels import native
from .lean_attention import Heads
from .lean_parts import Norm, Rotary
from .products import Product
from .slots import SlotCache, Step

MOST_DIM = 512
"""Of a head, as decode.cpp has it."""
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class Layer(Protocol):
    """What is read of a layer of the lean step."""

    heads: Heads
    rotates: bool
    norms: tuple[Norm, Norm] | None
    before: Norm
    between: Norm
    mix: Product
    out: Product
    gate_up: Product
    down: Product


class _Heads(Structure):
    _fields_ = (
        ("queries", c_int64), ("keys", c_int64), ("dim", c_int64), ("window", c_int64), ("turned", c_int64),
        ("q_norm", c_void_p), ("k_norm", c_void_p), ("eps", c_float), ("scaling", c_float),
    )  # fmt: skip


class _Pass(Structure):
    _fields_ = (
        ("rows", c_int64), ("positions", c_void_p), ("slot", c_int64), ("position", c_int64), ("angles", c_void_p),
        ("covered", c_int64), ("scores", c_void_p), ("longest", c_int64), ("threads", c_int64),
    )  # fmt: skip


class NativeLayers:
    """All layers of a model, and the norm behind them. Raises ValueError where the kernels are not for it."""

    def __init__(self, layers: Sequence[Layer], last: Norm, inner: int) -> None:
        weight, name, dim = last.weight, NAMES.get(last.weight.dtype), layers[0].heads.dim
        if weight.device.type != "cpu" or name is None or native.library() is None:
            raise ValueError("there are no kernels for its device or its dtype")
        if last.size % native.LANES or inner % native.LANES or dim % (2 * native.LANES) or dim > MOST_DIM:
            raise ValueError(f"its sizes are no multiples of {native.LANES}, or its heads too large")
        self.dtype = weight.dtype
        self.size, self.inner, self.last = last.size, inner, last
        self._layers = layers
        self._heads = [_heads(layer) for layer in layers]
        self._add_and_norm = native.function(f"add_and_norm_{name}", *_NORM)
        self._attend = native.function(f"attend_{name}", *_ATTEND)
        self._gate = native.function(f"gate_{name}", *_GATE)

    def __call__(self, x: Tensor, cache: SlotCache, step: Step, rotary: Rotary) -> Tensor:
        """What the last norm leaves of the embedded tokens ``x`` ``[rows, hidden]``, a new token a row, written to."""
        rows, whole, threads = len(x), cache.whole, native.threads()
        assert whole is not None
        heads = self._layers[0].heads
        longest = -(-step.length // native.LANES) * native.LANES
        scores = x.new_empty(rows * heads.queries * longest, dtype=torch.float32)
        angles = rotary.table  # [1 + positions, 2, dim], of no angle first
        positions = step.positions.contiguous()
        shared = _Pass(
            rows, positions.data_ptr(), whole.stride(1), whole.stride(2), angles[1].data_ptr(), len(angles) - 1,
            scores.data_ptr(), longest, threads,
        )  # fmt: skip
        normed, attended = torch.empty_like(x), x.new_empty(rows, heads.queries * heads.dim)
        gated = x.new_empty(rows, self.inner)
        at_x, at_normed, at_attended, at_gated = (each.data_ptr() for each in (x, normed, attended, gated))
        slot, layer_size = whole[0, step.first].data_ptr(), whole.stride(0) * whole.element_size()
        add_and_norm, attend, gate, passed = self._add_and_norm, self._attend, self._gate, ctypes.byref(shared)
        size, inner, more = self.size, self.inner, None
        for index, (layer, own) in enumerate(zip(self._layers, self._heads, strict=True)):
            norm = layer.before
            add_and_norm(at_x, more, norm.at, norm.eps, rows, size, at_normed)
            mixed = layer.mix(normed).contiguous()
            attend(own, passed, mixed.data_ptr(), slot + index * layer_size, at_attended)
            added, norm = layer.out(attended).contiguous(), layer.between
            add_and_norm(at_x, added.data_ptr(), norm.at, norm.eps, rows, size, at_normed)
            both = layer.gate_up(normed).contiguous()
            gate(both.data_ptr(), rows, inner, threads, at_gated)
            added = layer.down(gated).contiguous()
            more = added.data_ptr()
        add_and_norm(at_x, more, self.last.at, self.last.eps, rows, size, at_normed)
        return normed


_NORM = (c_void_p, c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p)
_ATTEND = (POINTER(_Heads), POINTER(_Pass), c_void_p, c_void_p, c_void_p)
_GATE = (c_void_p, c_int64, c_int64, c_int64, c_void_p)


def _heads(layer: Layer) -> _Heads:
    heads, norms = layer.heads, layer.norms
    return _Heads(
        heads.queries, heads.keys, heads.dim, heads.window or 0, layer.rotates,
        None if norms is None else norms[0].at, None if norms is None else norms[1].at,
        0.0 if norms is None else norms[0].eps, heads.scaling,
    )  # fmt: skip


__all__ = ["NativeLayers"]
