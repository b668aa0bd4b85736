"""A packed model that was kept: its weights move out of the file, and nothing else of it holds the file."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import logitmill as lm
from logitmill.core.model import pack, pages
from logitmill.core.model.memory import release
from logitmill.core.model.packed_folder import TENSORS, load_packed, save_packed

SMALL: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
MAPS = Path("/proc/self/maps")
moves = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE") or not MAPS.exists(), reason="packed weights move out of the file on Linux alone"
)


def kept(tmp_path: Path, kind: str, bits: int) -> tuple[Path, Path]:
    """(the model's folder, the packed model's), of a model with random weights. Qwen2 has biases."""
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL), dtype=torch.bfloat16).eval()
    made.save_pretrained(tmp_path / "model")
    made.requires_grad_(False)
    pack.quantize(made, bits)
    problem = save_packed(made, tmp_path / "model", tmp_path / "packed", torch.bfloat16)
    assert problem is None
    return tmp_path / "model", tmp_path / "packed"


def read(source: Path, folder: Path) -> PreTrainedModel:
    model = load_packed(source, folder, torch.bfloat16)
    assert model is not None
    return model


def mappings(folder: Path) -> list[str]:
    """This process's, of the files in a folder."""
    return [line for line in MAPS.read_text("utf-8").splitlines() if str(folder) in line]


@moves
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_file_whose_weights_moved_is_let_go(tmp_path: Path, kind: str, bits: int) -> None:
    source, folder = kept(tmp_path, kind, bits)
    model = read(source, folder)
    assert mappings(folder), "the weights lie in the file at first: else nothing is shown below"
    ids = torch.arange(8)[None]
    before = model(input_ids=ids).logits
    pages.settle(model)
    release(model, (folder / TENSORS).stat().st_size)
    assert mappings(folder) == []
    assert torch.equal(model(input_ids=ids).logits, before)


@moves
@pytest.mark.parametrize("quantize", ["int4", "int8-packed"])
def test_a_second_start_leaves_no_file_mapped(make_gguf: Any, cache: Path, quantize: str) -> None:
    path = make_gguf()
    for _ in range(2):
        with lm.load(path, quantize=quantize, max_length=64) as engine:
            assert engine.generate([[1, 2]], "greedy until max_tokens(2)")[0].error is None
            assert mappings(cache) == []


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_what_is_read_holds_no_more_than_itself(tmp_path: Path, kind: str, bits: int) -> None:
    """A vector is a copy, and a matrix in the file is no view: a view would keep the file when its data have moved."""
    model = read(*kept(tmp_path, kind, bits))
    parts = [module for module in model.modules() if getattr(module, "part_of", None) is not None]
    of_layers = {id(tensor) for part in parts for tensor in part.buffers()}  # views of their layer's own
    held = [(name, t) for name, t in [*model.named_parameters(), *model.named_buffers()] if id(t) not in of_layers]
    assert {"model.norm.weight", "model.rotary_emb.inv_freq"} <= {name for name, _ in held}
    assert [name for name, tensor in held if tensor._is_view()] == []
    assert [name for name, t in held if t.dim() < 2 and not t.untyped_storage().resizable()] == []


def test_a_model_of_conv1d_that_was_kept_is_saved_as_one(tmp_path: Path) -> None:
    """GPT-2's layers have their weights the other way round, at a second start as at the first."""
    source, folder = kept(tmp_path, "gpt2", 4)
    model = read(source, folder)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    dense = AutoModelForCausalLM.from_pretrained(source).state_dict()
    assert shapes == {name: tensor.shape for name, tensor in dense.items()}
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.bfloat16).eval()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
