"""4-bit layers of bitsandbytes in one: the same values bit for bit, and the same memory."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from logitmill.core.model import lean
from logitmill.core.model.joined import joined
from logitmill.core.model.pack import fuse
from logitmill.core.model.runner import make_runner


def four_bits(
    rows: int, columns: int, *, seed: int = 0, bias: bool = False, kind: str = "nf4", nested: bool = False
) -> Any:
    generator = torch.Generator().manual_seed(seed)
    layer = bnb.nn.Linear4bit(
        columns,
        rows,
        bias=bias,
        compute_dtype=torch.float32,
        compress_statistics=nested,
        quant_type=kind,
        device="meta",
    )
    weight = torch.randn(rows, columns, generator=generator)
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, compress_statistics=nested, quant_type=kind).to("cpu")
    if bias:
        layer.bias = torch.nn.Parameter(torch.randn(rows, generator=generator), requires_grad=False)
    return layer.eval()


def dense(layer: Any) -> Tensor:
    values: Tensor = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return values


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_values_are_those_of_the_parts_bit_for_bit(kind: str, bias: bool) -> None:
    layers = [four_bits(rows, 192, seed=rows, bias=bias, kind=kind) for rows in (128, 32, 64)]
    before = [dense(layer) for layer in layers]
    biases = [layer.bias.data.clone() for layer in layers] if bias else []
    whole: Any = joined(layers)
    assert (whole.out_features, whole.in_features) == (224, 192)
    assert torch.equal(dense(whole), torch.cat(before))
    for layer, values in zip(layers, before, strict=True):
        assert torch.equal(dense(layer), values)
    assert not bias or torch.equal(whole.bias, torch.cat(biases))
    x = torch.randn(3, 192, generator=torch.Generator().manual_seed(1))
    wanted = torch.nn.functional.linear(x, torch.cat(before), torch.cat(biases) if bias else None)
    whole.support_avx512bf16_for_cpu = False  # that kernel rounds to bfloat16 on the way
    torch.testing.assert_close(whole(x), wanted, atol=1e-4, rtol=1e-4)


def test_the_parts_are_views_of_one_memory() -> None:
    layers = [four_bits(rows, 128, seed=rows) for rows in (64, 32)]
    whole: Any = joined(layers)
    start = whole.weight.data.data_ptr()
    assert [layer.weight.data.data_ptr() - start for layer in layers] == [0, 64 * 128 // 2]
    scales = whole.weight.quant_state.absmax
    assert [layer.weight.quant_state.absmax.data_ptr() - scales.data_ptr() for layer in layers] == [0, 4 * 64 * 2]
    assert [(layer.part_of.start, layer.part_of.stop) for layer in layers] == [(0, 64), (64, 96)]


@pytest.mark.parametrize(
    "layers",
    [
        [four_bits(64, 96), four_bits(64, 96)],
        [four_bits(64, 256, nested=True), four_bits(64, 256, nested=True)],
        [four_bits(64, 128), four_bits(64, 128, kind="fp4")],
        [four_bits(64, 128), four_bits(64, 128, bias=True)],
        [four_bits(1, 64), four_bits(64, 64)],
        [torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)],
    ],
    ids=["rows share a block", "scales of scales", "two kinds", "one bias", "not aligned", "dense"],
)
def test_what_would_not_be_exact_is_left(layers: list[Any]) -> None:
    before = [layer.weight.data.clone() for layer in layers]
    assert joined(layers) is None
    for layer, values in zip(layers, before, strict=True):
        assert torch.equal(layer.weight.data, values)
        assert not hasattr(layer, "part_of")


def quantized() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for layer in model.model.layers:
        for block, names in (
            (layer.self_attn, ("q_proj", "k_proj", "v_proj", "o_proj")),
            (layer.mlp, ("gate_proj", "up_proj", "down_proj")),
        ):
            for seed, name in enumerate(names):
                old = getattr(block, name)
                setattr(block, name, four_bits(old.out_features, old.in_features, seed=seed))
    return model


def test_a_fused_model_runs_one_product_for_those_it_joins_and_gives_the_same() -> None:
    plain, fused = quantized(), quantized()
    fuse(fused)
    layer = fused.model.layers[0]
    assert layer.self_attn.q_proj.part_of.whole is layer.self_attn.v_proj.part_of.whole
    assert layer.mlp.gate_proj.part_of.whole is layer.mlp.up_proj.part_of.whole
    assert lean.misfit(fused) is None
    prompt = [5, 6, 7, 8]
    one, other = make_runner(plain, rows=1), make_runner(fused, rows=1)
    torch.testing.assert_close(one.prefill(0, prompt), other.prefill(0, prompt), atol=1e-3, rtol=1e-3)
    token = torch.tensor([[9]])
    torch.testing.assert_close(one.decode(token, 1), other.decode(token, 1), atol=1e-3, rtol=1e-3)
