"""What loading leaves in memory: no file that is hardly used, and packed weights where a step reads them fast."""

from __future__ import annotations

import copy
import io
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import logitmill as lm
from logitmill.core.model import pack, pages
from logitmill.core.model.memory import release
from logitmill.core.model.packed import PackedLinear
from logitmill.core.model.widened import WidenedLinear


def mapped(model: nn.Module) -> list[str]:
    """Parameters that lie in a file."""
    return [name for name, each in model.named_parameters() if not each.untyped_storage().resizable()]


def from_file(tmp_path: Path) -> nn.Module:
    model = nn.ModuleDict({"large": nn.Linear(64, 64), "small": nn.LayerNorm(64)}).requires_grad_(False)
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    model.load_state_dict(load_file(str(tmp_path / "x.safetensors")), assign=True)
    return model


def test_a_file_in_which_little_is_left_is_let_go(tmp_path: Path) -> None:
    model = from_file(tmp_path)
    assert len(mapped(model)) == 4
    expected = {name: each.clone() for name, each in model.named_parameters() if name.startswith("small")}
    model["large"] = nn.Identity()  # what was large has been converted
    release(model, (tmp_path / "x.safetensors").stat().st_size)
    assert not mapped(model)
    assert all(torch.equal(each, expected[name]) for name, each in model.named_parameters())


def test_a_file_that_is_used_stays_where_it_is(tmp_path: Path) -> None:
    model = from_file(tmp_path)
    release(model, (tmp_path / "x.safetensors").stat().st_size)
    assert len(mapped(model)) == 4


def test_a_repacked_model_keeps_no_file(tiny: Path) -> None:
    with lm.load(tiny, quantize=None, max_length=64) as engine:
        assert not mapped(engine.model)


SMALL: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "initializer_range": 0.2,
}  # fmt: skip


@pytest.mark.parametrize("how", ["4", "8", "repack"])
def test_weights_that_moved_are_the_same(how: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL), dtype=torch.bfloat16).eval()
    model.requires_grad_(False)
    if how == "repack":
        pack.repack(model)
    else:
        pack.quantize(model, int(how))
    ids = torch.tensor([[1, 2, 3, 4]])
    before = model(input_ids=ids).logits
    weights = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, PackedLinear)}
    pages.settle(model)
    assert torch.equal(model(input_ids=ids).logits, before)
    assert all(torch.equal(model.get_submodule(name).weight, weight) for name, weight in weights.items())


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="huge pages are asked for on Linux alone")
def test_quantized_weights_lie_in_one_block_and_parts_in_the_same() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL), dtype=torch.bfloat16).eval()
    pack.quantize(model, 4)
    pages.settle(model)
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    held = {each.data_ptr(): each.nbytes for layer in layers for each in layer.buffers() if each.dim() > 1}
    assert len(held) > 8
    behind = max(place + size for place, size in held.items())
    assert behind - min(held) < sum(held.values()) + 64 * len(held), "one behind the other"
    attention = model.model.layers[0].self_attn
    whole = attention.q_proj.part_of.whole
    assert attention.k_proj.packed.data_ptr() == whole.packed.data_ptr() + attention.q_proj.packed.nbytes


@pytest.mark.parametrize("quantize", ["int4", None])
def test_loading_leaves_packed_weights_in_their_block(tmp_path: Path, tiny_source: Path, quantize: str | None) -> None:
    config = AutoConfig.for_model("llama", **SMALL | {"hidden_size": 512, "intermediate_size": 1024})
    config.tie_word_embeddings = False
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    for file in tiny_source.glob("token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with lm.load(tmp_path, quantize=quantize, max_length=64) as engine:
        assert not [name for name in mapped(engine.model) if "weight" in name]
        if quantize:
            attention = engine.model.model.layers[0].self_attn
            whole, part = attention.q_proj.part_of.whole, attention.q_proj
            assert part.packed.data_ptr() == whole.packed.data_ptr()


@pytest.mark.parametrize("quantize", ["int4", None])
def test_what_a_system_refuses_does_not_stop_a_load(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, quantize: str | None
) -> None:
    class Refusing(mmap.mmap):
        def madvise(self, *advice: int) -> None:
            raise OSError(22, "Invalid argument")

    def nameless(name: object) -> None:
        raise TypeError("argument of type 'NoneType' is not iterable")

    monkeypatch.setattr(pages.mmap, "mmap", Refusing)
    monkeypatch.setattr("logitmill.core.model.memory.ctypes.CDLL", nameless)
    monkeypatch.setattr(pages, "_collapse", lambda weights: None)
    with lm.load(tiny, quantize=quantize, max_length=64) as engine:
        assert engine.generate([[1, 2]], "greedy until max_tokens(2)")[0].error is None


def test_bfloat16_stays_dense_where_the_processor_cannot_pack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(pack, "cpu_imitates_bfloat16", lambda: False)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL), dtype=torch.bfloat16).eval()
    pack.repack(model)
    assert not [module for module in model.modules() if isinstance(module, PackedLinear)]


def test_a_head_that_is_an_embedding_too_stays_one_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "cpu_imitates_bfloat16", lambda: True)
    config = AutoConfig.for_model("llama", **SMALL | {"tie_word_embeddings": True})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pack.repack(model)
    release(model, 10**9, pages.settle(model))
    assert isinstance(model.lm_head, WidenedLinear)
    made = io.BytesIO()
    torch.save(model, made)
    assert made.tell() < 2 * sum(tensor.nbytes for tensor in before.values()), "it is not the block that is pickled"
    made.seek(0)
    for each in (model, copy.deepcopy(model), torch.load(made, weights_only=False)):
        assert each.lm_head.weight.data_ptr() == each.model.embed_tokens.weight.data_ptr()
        after = each.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
