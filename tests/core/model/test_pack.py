"""The pass over a model: every linear layer it can take, of any architecture, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from logitmill.core.model import pack
from logitmill.core.model.packed import Int4Linear, Int8Linear, LinearPart, OneDnnLinear, PackedLinear
from logitmill.core.model.runner import make_runner

VOCAB = 320
DEEP: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": DEEP,
    "qwen2": DEEP,  # biases of query, key and value
    "gemma3_text": DEEP | {"head_dim": 16, "sliding_window": 16},
    "mixtral": DEEP | {"num_local_experts": 4},
    "gpt2": {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 2, "n_head": 4},  # Conv1D
    "opt": {"vocab_size": VOCAB, "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "word_embed_proj_dim": 64},
    "bloom": {"vocab_size": VOCAB, "hidden_size": 64, "n_layer": 2, "n_head": 4},
}  # fmt: skip
IDS = torch.tensor([[3, 5, 8, 13, 21, 34, 55]])


def build(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **MODELS[name] | changes)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    return model


def dense(model: PreTrainedModel) -> PreTrainedModel:
    """``model`` with every packed layer written out, in float32: what its values say without a kernel."""
    made = build(model.config.model_type)
    state = {key: tensor.float() for key, tensor in model.state_dict().items()}
    made.lm_head = nn.Linear(*reversed(state["lm_head.weight"].shape), bias=False)
    made.load_state_dict(state, strict=False)
    return made.eval()


@pytest.mark.parametrize("name", MODELS)
def test_repacked_it_computes_the_same(name: str) -> None:
    model = build(name)
    expected = model(input_ids=IDS).logits
    pack.repack(model)
    packed = [module for module in model.modules() if isinstance(module, OneDnnLinear | LinearPart)]
    assert packed
    assert not [module for module in model.modules() if type(module) is nn.Linear]
    torch.testing.assert_close(model(input_ids=IDS).logits, expected, atol=1e-4, rtol=1e-4)
    out = model.generate(IDS, do_sample=False, max_new_tokens=8, min_new_tokens=8)
    again = build(name).generate(IDS, do_sample=False, max_new_tokens=8, min_new_tokens=8)
    assert out.tolist() == again.tolist()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_it_computes_what_its_values_say(name: str, bits: int) -> None:
    model = build(name, torch.bfloat16)
    assert pack.quantize(model, bits) == []
    head = model.get_output_embeddings()
    assert isinstance(head, Int8Linear)
    kinds = {type(module) for module in model.modules() if isinstance(module, PackedLinear)}
    assert kinds == ({Int4Linear, Int8Linear} if bits == 4 else {Int8Linear})
    found, expected = model(input_ids=IDS).logits.float(), dense(model)(input_ids=IDS).logits
    scale = (expected - expected.mean(-1, keepdim=True)).abs().mean()
    assert (found - expected).abs().mean() < 0.05 * scale


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_repacked_it_is_saved_as_it_was(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = build(name, dtype)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    pack.repack(model)
    model.save_pretrained(tmp_path)
    after = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_model_decodes_over_slots(bits: int) -> None:
    model = build("llama", torch.bfloat16)
    pack.quantize(model, bits)
    runner = make_runner(model, rows=2, max_length=64)
    assert runner.slotted
    assert runner.lean is not None  # type: ignore[attr-defined]


def test_shapes_that_no_kernel_takes_stay_and_are_counted() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **DEEP | {"hidden_size": 40, "intermediate_size": 100, "head_dim": 20})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)
    [note] = pack.quantize(model, 4)
    left = [module for module in model.modules() if type(module) is nn.Linear]
    assert note == f"{len(left)} linear layers of LlamaForCausalLM keep bfloat16: no kernel takes their shape"
    assert model(input_ids=IDS % 300).logits.isfinite().all()


def test_layers_with_something_of_their_own_are_left_alone() -> None:
    class Scaled(nn.Linear):
        """Not a plain linear layer."""

    model = build("opt")
    model.model.decoder.layers[0].fc1 = Scaled(64, 128)
    pack.repack(model)
    assert type(model.model.decoder.layers[0].fc1) is Scaled
    assert isinstance(model.model.decoder.layers[1].fc1, OneDnnLinear)


def test_an_untouched_embedding_stays_dense() -> None:
    model = build("llama", tie_word_embeddings=True)
    before = model.model.embed_tokens.weight.clone()
    pack.repack(model)
    assert torch.equal(model.model.embed_tokens.weight, before)
    assert isinstance(model.lm_head, OneDnnLinear)
    assert torch.equal(model.lm_head.weight, before)


def test_the_state_of_a_repacked_model_is_that_of_the_model() -> None:
    model = build("llama", tie_word_embeddings=False)
    before = model.state_dict()
    pack.repack(model)
    after = model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
