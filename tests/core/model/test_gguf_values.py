"""A GGUF file's own quantized values reach the kernels to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import logitmill as lm
from logitmill.core.model import packed_folder
from logitmill.core.model.convert import converted
from logitmill.core.model.gguf import read_gguf
from logitmill.core.model.gguf_values import GgufValues
from logitmill.core.model.packed import Int4Linear, LinearPart

Maker = Callable[..., Path]
SMOL = {"tokenizer.ggml.pre": "smollm"}
KINDS = ["Q4_0", "Q4_1", "Q8_0"]


def weight_of(parts: tuple[torch.Tensor, ...], columns: int) -> torch.Tensor:
    """float32: what values, scale and zero say, before any is rounded for a kernel."""
    values, scale, zero = parts
    each = (values.view(len(values), -1, 32).float() - 8) * scale[..., None] + zero[..., None]
    return each.view(len(values), -1, columns).sum(1)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_gguf_package(make_gguf: Maker, kind: str) -> None:
    path = make_gguf(SMOL, quantization=gguf.GGMLQuantizationType[kind])
    values = GgufValues(path, read_gguf(path))
    names = set(values.names())
    assert names
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name not in names:
            continue
        expected = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        assert torch.equal(values.floats(tensor.name), expected)
        assert torch.equal(weight_of(values.parts(tensor.name), expected.shape[1]), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_linear_layer_keeps_its_values(make_gguf: Maker, cache: Path, kind: str, tied: bool) -> None:
    """Query and key too, whose rows llama.cpp has in another order."""
    path = make_gguf(SMOL, quantization=gguf.GGMLQuantizationType[kind], tied=tied)
    with lm.load(path, quantize=None, dtype="float32", reference=True) as plain:
        exact = {name: module.weight for name, module in plain.model.named_modules() if type(module) is torch.nn.Linear}
    with lm.load(path, quantize="int4", max_length=64) as engine:
        for name, weight in exact.items():
            layer = engine.model.get_submodule(name)
            assert isinstance(layer.part_of.whole if isinstance(layer, LinearPart) else layer, Int4Linear)
            # scale, zero and the weight as it is shown are rounded to bfloat16, by 2 ** -9 each, and nothing else is
            off = (layer.weight.float() - weight).abs().max()
            assert off <= 3.01 * 2**-9 * weight.abs().max(), name
        assert engine.describe()["quantize"] == "int4"


def test_rows_in_another_order_are_found(make_gguf: Maker) -> None:
    path = make_gguf(SMOL)
    values = GgufValues(path, read_gguf(path))
    name = next(iter(values.names()))
    weight = values.floats(name)
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))
    found = values.of(weight[order])
    assert found is not None
    assert torch.equal(weight_of(found, weight.shape[1]), weight[order])
    other = weight.clone()
    other[3, 40] += 1e-3
    assert values.of(other) is None, "one weight that differs, and nothing is taken from the file"


def test_what_is_kept_for_the_next_start_gives_the_same_logits(
    make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_gguf(SMOL)
    ids = [3, 5, 8, 13]
    with lm.load(path, quantize="int4", max_length=64) as first:
        expected = first.runner.logits_of(ids)
    monkeypatch.setattr(packed_folder, "save_packed", lambda *a: pytest.fail("it was packed already"))
    with lm.load(path, quantize="int4", max_length=64) as second:
        assert torch.equal(second.runner.logits_of(ids), expected)
        made = second.model.generate(torch.tensor([ids]), max_new_tokens=4, min_new_tokens=4, do_sample=False)
        assert made.shape == (1, 8)
        assert second.model.config._attn_implementation == first.model.config._attn_implementation


def test_packed_weights_that_read_back_otherwise_are_not_kept(
    make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_folder, "_same", lambda *models: False)
    path = make_gguf(SMOL)
    with lm.load(path, quantize="int4", max_length=64) as engine:
        assert any("did not read back the same" in note for note in engine.notes)
    folder = converted(path, "tiny")
    assert not list(folder.glob("int4*"))
    assert not list(folder.glob(".*.tmp"))


def test_a_damaged_cache_is_made_anew(make_gguf: Maker, cache: Path) -> None:
    path = make_gguf(SMOL)
    with lm.load(path, quantize="int8-packed", max_length=64) as engine:
        expected = engine.runner.logits_of([1, 2, 3])
    [kept] = converted(path, "tiny").glob("int8-packed*")
    (kept / "packed.safetensors").write_bytes(b"cut")
    with lm.load(path, quantize="int8-packed", max_length=64) as engine:
        assert torch.equal(engine.runner.logits_of([1, 2, 3]), expected)


def test_other_types_are_quantized_from_their_floats(make_gguf: Maker, cache: Path) -> None:
    path = make_gguf(SMOL, quantization=gguf.GGMLQuantizationType.F16)
    values = GgufValues(path, read_gguf(path))
    assert not list(values.names())
    with lm.load(path, quantize="int4", max_length=64) as engine:
        out = engine.generate([[1, 2, 3]], "greedy until max_tokens(4)")
        assert len(out[0].raise_for_error().tokens) == 4


def test_half_precision_scales_are_read_as_they_are() -> None:
    from logitmill.core.model.gguf_values import _half

    numbers = np.array([0.0, 1.5, -2.25, 6.1e-5], np.float16)
    raw = torch.from_numpy(numbers.view(np.uint8).copy()).view(4, 2)
    assert _half(raw).tolist() == numbers.astype(np.float32).tolist()
