"""A pass over a loaded model: its linear layers repacked for this CPU, or quantized for torch's weight-only kernels.

It takes any model that transformers loads. A layer whose shape a kernel does not take stays as it is, and a note says
how many did. Where the lean step fits (core.model.lean), the projections that go into one product become one layer, and
the model's own are parts of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .int_values import int4_values, int8_values
from .joined import DenseLinear, joined
from .lean import groups
from .packed import (
    COLUMNS_INT8,
    Int4Linear,
    Int8Linear,
    OneDnnLinear,
    PackedLinear,
    onednn_takes,
)
from .quantize import GROUP, cpu_imitates_bfloat16
from .widened import WidenedLinear

Layer = tuple[Tensor, Tensor | None]
"""A weight ``[out, in]`` and a bias ``[out]``."""
Place = tuple[nn.Module, tuple[str, ...]]
"""A block of the model, and the layers in it that become one."""
Int4Parts = tuple[Tensor, Tensor, Tensor]
"""Values uint8 ``[out, repeats * in]``, scale and zero ``[out, groups]``."""
Given = Callable[[str], Int4Parts | None]
"""From the name of a layer to values that are at hand quantized already."""

PIECE = 4096
"""Rows that are quantized at a time: the float32 on the way is large."""


def repack(model: PreTrainedModel) -> None:
    """Linear layers of float32 and bfloat16 in oneDNN's layout, where this torch has it.

    bfloat16 on a processor without arithmetic for it is left as it is, and made float32 piece by piece.
    """
    embedding: nn.Parameter = model.get_input_embeddings().weight  # type: ignore[assignment]  # transformers' own typing
    for block, names in _places(model):
        layers = [_linear(block, name) for name in names]
        dtypes = {weight.dtype for weight, _ in layers}
        tied = embedding if getattr(block, names[0]).weight is embedding else None
        if dtypes == {torch.bfloat16} and cpu_imitates_bfloat16():
            put(block, names, _ranges(layers), WidenedLinear(*_stacked(layers), tied=tied))
        elif all(map(onednn_takes, dtypes)):
            put(block, names, _ranges(layers), OneDnnLinear(*_stacked(layers), tied=tied))


def quantize(model: PreTrainedModel, bits: int, given: Given = lambda name: None) -> list[str]:
    """Linear layers in 4 bits (groups of 32; the output head, and what 4 bits do not fit, in 8) or all in 8.

    What ``given`` has is kept as it is. Notes for a person.
    """
    head = model.get_output_embeddings()
    names_of = {id(module): name for name, module in model.named_modules()}
    left = 0
    for block, names in _places(model):
        layers = [_linear(block, name) for name in names]
        kept = [given(names_of[id(getattr(block, name))]) for name in names]
        made = _kept(kept, layers) or _quantized(*_stacked(layers), 8 if getattr(block, names[0]) is head else bits)
        if made is None:
            left += len(names)
        else:
            put(block, names, _ranges(layers), made)
    if not left:
        return []
    dtype = str(model.dtype).removeprefix("torch.")
    return [f"{left} linear layers of {type(model).__name__} keep {dtype}: no kernel takes their shape"]


def fuse(model: PreTrainedModel) -> None:
    """The projections of one product as one layer, dense or 4-bit, of which the model's own become views: for a GPU."""
    for block, names in groups(model):
        layers = [getattr(block, name) for name in names]
        if all(type(layer) is nn.Linear for layer in layers):
            DenseLinear(layers)
        else:
            joined(layers)


def _places(model: PreTrainedModel) -> Iterator[Place]:
    """Every linear layer once: those of one product together, each other by itself."""
    together = [(block, names) for block, names in groups(model) if all(_fits(getattr(block, name)) for name in names)]
    taken = {id(getattr(block, name)) for block, names in together for name in names}
    yield from together
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if _fits(child) and id(child) not in taken:
                yield block, (name,)


def _fits(module: nn.Module) -> bool:
    """Whether it is a plain dense layer: a class of its own does something of its own."""
    if type(module) not in (nn.Linear, Conv1D) or hasattr(module, "_hf_hook") or hasattr(module, "parametrizations"):
        return False
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.device.type == "cpu" and weight.numel() > 0


def _linear(block: nn.Module, name: str) -> Layer:
    layer = getattr(block, name)
    weight = layer.weight.data
    return (weight.t() if isinstance(layer, Conv1D) else weight), None if layer.bias is None else layer.bias.data


def _stacked(layers: Sequence[Layer]) -> Layer:
    """Several layers as one."""
    if len(layers) == 1:
        return layers[0]
    weight = torch.cat([weight for weight, _ in layers])
    if all(bias is None for _, bias in layers):
        return weight, None
    return weight, torch.cat([own.new_zeros(len(own)) if bias is None else bias for own, bias in layers])


def _quantized(weight: Tensor, bias: Tensor | None, bits: int) -> PackedLinear | None:
    """The layer in the nearest to ``bits`` that a kernel has for its shape, or None."""
    columns = weight.shape[1]
    if bits == 4 and columns % GROUP == 0:
        fours = [int4_values(piece) for piece in weight.split(PIECE)]
        values, scale, zero = (torch.cat(each) for each in zip(*fours, strict=True))
        return Int4Linear.of(values, scale, zero, bias)
    if columns % COLUMNS_INT8 == 0:
        eights = [int8_values(piece) for piece in weight.split(PIECE)]
        values, scale = (torch.cat(each) for each in zip(*eights, strict=True))
        return Int8Linear(values, scale, bias)
    return None


def _kept(given: Sequence[Int4Parts | None], layers: Sequence[Layer]) -> PackedLinear | None:
    """The layers of values that are at hand; None where they are not there for all, or not of one kind."""
    parts = [each for each in given if each is not None]
    if len(parts) < len(layers) or len({values.shape[1] for values, _, _ in parts}) > 1:
        return None
    values, scale, zero = (torch.cat(each) for each in zip(*parts, strict=True))
    weight, bias = _stacked(layers)
    return Int4Linear.of(values, scale, zero, bias, repeats=values.shape[1] // weight.shape[1])


def put(block: nn.Module, names: Sequence[str], ranges: Sequence[Sequence[int]], whole: PackedLinear) -> None:
    """``whole`` in the place of the layers of these names: itself, or the outputs ``start .. stop - 1`` of each."""
    for name, (start, stop) in zip(names, ranges, strict=True):
        stand_in = whole if len(names) == 1 else whole.part(start, stop)
        stand_in.turned = isinstance(getattr(block, name), Conv1D)
        setattr(block, name, stand_in)


def _ranges(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Where the outputs of each begin and end, one layer behind another."""
    ends = list(itertools.accumulate(len(weight) for weight, _ in layers))
    return list(itertools.pairwise([0, *ends]))
