"""Packed layers give what the matrix that they say they hold gives, for any number of rows, and in parts."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from logitmill.core.model import widened
from logitmill.core.model.int_values import int4_values, int8_as_int4, int8_values
from logitmill.core.model.joined import DenseLinear
from logitmill.core.model.packed import (
    Int4Linear,
    Int8Linear,
    LinearPart,
    OneDnnLinear,
    PackedLinear,
)
from logitmill.core.model.quantize import GROUP
from logitmill.core.model.widened import WidenedLinear


def weights(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.3


def packed(kind: str, weight: Tensor, bias: Tensor | None) -> PackedLinear:
    if kind == "int4":
        return Int4Linear.of(*int4_values(weight), bias)
    if kind == "int8":
        return Int8Linear(*int8_values(weight), bias)
    if kind == "int8 as int4":
        values, _ = int8_values(weight)
        scale = weight.view(len(weight), -1, GROUP).abs().amax(-1) / 127
        return Int4Linear.of(*int8_as_int4(values, scale), bias, repeats=2)
    if kind == "widened":
        return WidenedLinear(weight.bfloat16(), None if bias is None else bias.bfloat16())
    dtype = getattr(torch, kind)
    return OneDnnLinear(weight.to(dtype), None if bias is None else bias.to(dtype))


KINDS = ["int4", "int8", "int8 as int4", "bfloat16", "widened", "float32"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 33])
def test_a_packed_layer_multiplies_with_its_weight(kind: str, biased: bool, rows: int) -> None:
    bias = weights(1, 192)[0] if biased else None
    layer = packed(kind, weights(192, 96), bias)
    x = weights(rows, 96, seed=1)
    expected = functional.linear(
        x.to(layer.dtype).double(), layer.weight.double(), None if bias is None else bias.double()
    )
    close = 1e-6 if kind == "float32" else 0.02
    torch.testing.assert_close(layer(x).double(), expected, atol=close, rtol=close)


@pytest.mark.parametrize("kind", KINDS)
def test_any_shape_and_dtype_of_activations_goes_in_and_comes_out(kind: str) -> None:
    layer = packed(kind, weights(32, 64), None)
    for shape in [(64,), (5, 64), (2, 3, 64), (0, 64)]:
        for dtype in (torch.float32, torch.bfloat16):
            y = layer(torch.zeros(shape, dtype=dtype))
            assert (y.shape, y.dtype) == ((*shape[:-1], 32), dtype)


@pytest.mark.parametrize("kind", ["int4", "int8", "int8 as int4"])
def test_a_row_does_not_depend_on_how_many_there_are(kind: str) -> None:
    layer = packed(kind, weights(128, 64), weights(1, 128)[0])
    x = weights(40, 64, seed=2)
    whole = layer(x)
    for count in (1, 2, 5, 8, 17):
        assert torch.equal(layer(x[:count]), whole[:count])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bounds", [(0, 64), (64, 192), (16, 48), (100, 101)])
def test_a_part_is_those_outputs(kind: str, bounds: tuple[int, int]) -> None:
    layer = packed(kind, weights(192, 64), weights(1, 192)[0])
    start, stop = bounds
    part, x = layer.part(start, stop), weights(3, 64, seed=3)
    assert torch.equal(part(x), layer(x)[:, start:stop])
    assert torch.equal(part.weight, layer.weight[start:stop])
    assert (part.in_features, part.out_features) == (64, stop - start)
    assert list(part.state_dict()) == ["weight", "bias"]
    assert not list(part.children()), "a part must not own what it is a part of"


def test_int4_is_as_near_as_sixteen_steps_a_group_allow() -> None:
    weight = weights(64, 128)
    values, scale, zero = int4_values(weight)
    assert int(values.max()) <= 15
    groups = weight.view(64, -1, GROUP)
    step = (groups.amax(-1) - groups.amin(-1)) / 15
    made = ((values.view(64, -1, GROUP).float() - 8) * scale[..., None].float() + zero[..., None].float()) - groups
    plain = (groups - groups.amin(-1, keepdim=True)) / step[..., None]
    rounded = (plain.round() - plain) * step[..., None]
    assert made.square().mean() < 0.95 * rounded.square().mean(), "the fitted scales should beat the plain ones"


def test_groups_of_one_value_are_kept() -> None:
    for value in (0.0, 0.5, -2.0):
        layer = Int4Linear.of(*int4_values(torch.full((16, 32), value)))
        assert torch.equal(layer.weight, torch.full((16, 32), value, dtype=torch.bfloat16))
    layer = Int8Linear(*int8_values(torch.zeros(4, 16)))
    assert torch.equal(layer.weight, torch.zeros(4, 16, dtype=torch.bfloat16))


@pytest.mark.parametrize("rows", [1, 15, 17, 294])
def test_any_number_of_outputs_fits_int4(rows: int) -> None:
    layer = packed("int4", weights(rows, 64), weights(1, rows)[0])
    x = weights(5, 64, seed=4)
    assert layer.weight.shape == (rows, 64)
    expected = functional.linear(x.bfloat16().double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(layer(x).double(), expected, atol=0.02, rtol=0.02)


def test_eight_bits_in_two_halves_lose_nothing() -> None:
    values = torch.arange(-128, 128, dtype=torch.int8).repeat(16, 1)
    scale = torch.full((16, 8), 0.25)
    halves, scales, zeros = int8_as_int4(values, scale)
    layer = Int4Linear.of(halves, scales, zeros, repeats=2)
    assert torch.equal(layer.weight.float(), values.float() * 0.25)


def test_a_layer_is_saved_as_the_dense_one_it_stands_for() -> None:
    for kind in KINDS:
        layer = packed(kind, weights(32, 64), weights(1, 32)[0])
        state = nn.Sequential(layer).state_dict()
        assert list(state) == ["0.weight", "0.bias"]
        assert torch.equal(state["0.weight"], layer.weight)


@pytest.mark.parametrize("shift", [1, 2, 8, 16, 30])
def test_memory_that_begins_anywhere_is_taken(shift: int) -> None:
    """As in a mapped file, or in one row of a larger tensor: the int8 kernel would crash."""

    def moved(tensor: Tensor) -> Tensor:
        room = torch.empty(tensor.nbytes + 128, dtype=torch.uint8)
        start = -room.data_ptr() % 64 + shift
        made = room[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        return made.copy_(tensor)

    values, scale = int8_values(weights(48, 64))
    x = weights(3, 64).bfloat16()
    expected = Int8Linear(values, scale)(x)
    assert torch.equal(Int8Linear(moved(values), scale)(x), expected)
    if shift % 2 == 0:
        assert torch.equal(Int8Linear(values, scale)(moved(x)), expected)
        layer = packed("int4", weights(48, 64), None)
        assert torch.equal(layer(moved(x)), layer(x))


def test_dense_layers_become_views_of_one() -> None:
    layers = [nn.Linear(8, 4), nn.Linear(8, 2), nn.Linear(8, 6)]
    x = weights(3, 8)
    expected = torch.cat([layer(x) for layer in layers], -1)
    whole = DenseLinear(layers)
    torch.testing.assert_close(whole(x), expected)
    assert all(
        layer.weight.untyped_storage().data_ptr() == whole.weight.untyped_storage().data_ptr() for layer in layers
    )
    torch.testing.assert_close(torch.cat([layer(x) for layer in layers], -1), expected)


def test_parts_that_no_kernel_can_cut_compute_the_whole() -> None:
    layer = packed("int4", weights(192, 64), None)
    assert isinstance(layer.part(0, 64), Int4Linear)
    assert isinstance(layer.part(0, 16), LinearPart)


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_copied_and_pickled(kind: str) -> None:
    layer = nn.Sequential(packed(kind, weights(128, 64), weights(1, 128)[0]))
    x = weights(3, 64)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_is_not_for_is_an_error_that_says_what_to_do(kind: str) -> None:
    layer = packed(kind, weights(32, 64), None)
    with pytest.raises(RuntimeError, match=r"passes no gradient.*reference=True"):
        layer(weights(2, 64).requires_grad_())
    with torch.no_grad():
        layer(weights(2, 64).requires_grad_())
    with pytest.raises(AttributeError, match=r"no weight that could be set.*reference=True"):
        layer.weight = nn.Parameter(weights(32, 64))
    with pytest.raises(RuntimeError, match=r"0 is packed for inference.*reference=True"):
        nn.Sequential(layer).load_state_dict({"0.weight": weights(32, 64)})


@pytest.mark.parametrize("outputs", [16, 100, 1300])
@pytest.mark.parametrize("few", ["our kernel", "onednn", "torch"])
def test_a_widened_layer_rounds_once(monkeypatch: pytest.MonkeyPatch, outputs: int, few: str) -> None:
    monkeypatch.setattr(widened, "onednn_takes", lambda dtype: few == "onednn")
    if few != "our kernel":
        monkeypatch.setattr(widened, "bfloat16_product", lambda weight, bias: None)
    monkeypatch.setattr(widened, "PIECE", 50_000)  # several pieces, the last of them short
    weight, bias = weights(outputs, 96).bfloat16(), weights(1, outputs)[0].bfloat16()
    for rows in (1, widened.MANY - 1, widened.MANY, 40, widened.MANY_OWN):
        x = weights(rows, 96, seed=7).bfloat16()
        exact = functional.linear(x.double(), weight.double(), bias.double())
        found = WidenedLinear(weight, bias)(x)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), exact, atol=1e-3, rtol=2**-8)
