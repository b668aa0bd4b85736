"""The kernels of our own for narrow weights give what torch's give, and a row the same among any others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from logitmill.core.kernels import native
from logitmill.core.model import products
from logitmill.core.model.packed import Int4Linear
from logitmill.core.model.products import bfloat16_product, int4_product
from logitmill.core.model.quantize import GROUP

ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 40)
pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no kernels here: {native.found().note}")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values_of(outputs: int, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
    values = torch.randint(0, 16, (outputs, inputs), generator=torch.Generator().manual_seed(outputs + inputs))
    return values, normal(outputs, inputs // GROUP).bfloat16(), normal(outputs, inputs // GROUP, seed=1).bfloat16()


def quantized(outputs: int, inputs: int) -> Int4Linear:
    return Int4Linear.of(*values_of(outputs, inputs))


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 32), (128, 64), (192, 96), (576, 1536), (1088, 160)])
def test_four_bits_are_multiplied_as_torch_does_it(outputs: int, inputs: int) -> None:
    layer = quantized(outputs, inputs)
    own = int4_product(layer.packed, layer.scales)
    assert own is not None
    values, scale, zero = (each.double() for each in values_of(outputs, inputs))
    wide = scale.repeat_interleave(GROUP, 1), zero.repeat_interleave(GROUP, 1)
    weight = (values - 8) * wide[0] + wide[1]
    for rows in ROWS:
        x = normal(rows, inputs, seed=rows).bfloat16()
        torchs = torch._weight_int4pack_mm_for_cpu(x, layer.packed, GROUP, layer.scales)
        for expected in (x.double() @ weight.t(), torchs.double()):
            torch.testing.assert_close(own(x).double(), expected, atol=1e-5 * inputs, rtol=2**-7)


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 16), (7, 48), (16, 32), (100, 96), (577, 1536)])
@pytest.mark.parametrize("biased", [True, False])
def test_bfloat16_is_summed_in_float32_and_rounded_once(outputs: int, inputs: int, biased: bool) -> None:
    weight, bias = normal(outputs, inputs).bfloat16(), normal(outputs, seed=2).bfloat16() if biased else None
    own = bfloat16_product(weight, bias)
    assert own is not None
    for rows in ROWS:
        x = normal(rows, inputs, seed=rows).bfloat16()
        exact = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
        torch.testing.assert_close(own(x).double(), exact, atol=1e-6 * inputs, rtol=2**-8)


@pytest.mark.parametrize("kind", ["int4", "bfloat16"])
def test_a_row_has_the_same_bits_among_any_others_and_with_any_threads(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    layer = quantized(320, 96)
    own = int4_product(layer.packed, layer.scales) if kind == "int4" else bfloat16_product(layer.weight, None)
    assert own is not None
    x = normal(21, 96, seed=9).bfloat16()
    alone = torch.cat([own(row[None]) for row in x])
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(native, "threads", lambda threads=threads: threads)
        again = int4_product(layer.packed, layer.scales) if kind == "int4" else bfloat16_product(layer.weight, None)
        assert again is not None
        for rows in range(1, len(x) + 1):
            assert torch.equal(again(x[:rows]), alone[:rows]), (threads, rows)


def test_what_is_no_number_stays_in_its_row() -> None:
    layer = quantized(64, 64)
    own = int4_product(layer.packed, layer.scales)
    assert own is not None
    x = normal(3, 64).bfloat16()
    x[1, 5] = float("nan")
    found = own(x)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_rows_that_do_not_lie_densely() -> None:
    layer = quantized(64, 64)
    own, wide = int4_product(layer.packed, layer.scales), normal(4, 128).bfloat16()
    assert own is not None
    assert torch.equal(own(wide[:, ::2]), own(wide[:, ::2].contiguous()))
    assert own(wide[:0, :64]).shape == (0, 64)


def test_a_layout_that_is_not_known_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    products._layout_is_known.cache_clear()
    real = torch.ops.aten._convert_weight_to_int4pack_for_cpu
    monkeypatch.setattr(
        torch.ops.aten, "_convert_weight_to_int4pack_for_cpu", lambda values, tiles: real(values, tiles).flip(0)
    )
    try:
        layer = quantized(64, 64)
        assert int4_product(layer.packed, layer.scales) is None
    finally:
        products._layout_is_known.cache_clear()


def test_threads_of_another_team_leave_it_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = quantized(64, 64)
    monkeypatch.setattr(native, "has_threads", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert int4_product(layer.packed, layer.scales) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert int4_product(layer.packed, layer.scales) is not None


def test_a_layer_whose_memory_moves() -> None:
    layer = quantized(64, 64)
    own, x = int4_product(layer.packed, layer.scales), normal(2, 64).bfloat16()
    assert own is not None
    expected = own(x)
    layer.packed.share_memory_()
    layer.scales.data = torch.zeros_like(layer.scales)
    assert torch.equal(own(x), expected)


def test_while_torch_traces_it_has_torchs_operator() -> None:
    product = quantized(64, 64).product()
    graphs: list[int] = []

    def backend(module: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(len(list(module.graph.nodes)))
        return module.forward

    x = normal(3, 64).bfloat16()
    traced = torch.compile(product, backend=backend, fullgraph=True)
    torch.testing.assert_close(traced(x).float(), product(x).float(), atol=1e-3, rtol=2**-7)
    assert len(graphs) == 1


def test_dtypes_that_the_kernels_do_not_take() -> None:
    weight = normal(16, 32).bfloat16()
    assert bfloat16_product(weight.float(), None) is None
    assert bfloat16_product(weight, normal(16)) is None
    assert bfloat16_product(weight, normal(1).bfloat16().expand(16)) is None


def test_sizes_that_the_kernels_do_not_take() -> None:
    layer = quantized(48, 64)
    assert int4_product(layer.packed, layer.scales) is None
    assert bfloat16_product(normal(8, 40).bfloat16(), None) is None
    assert bfloat16_product(normal(8, 64).bfloat16()[:, ::2], None) is None
