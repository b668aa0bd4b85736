"""Perplexity beside the loss that transformers computes on the same windows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

WINDOW = 64


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights that knows 320 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from logitmill.plugins.testing.bench import tokenizer

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_it_is_transformers_loss(
    program: Callable[[str], Any], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    perplexity = program("perplexity")
    monkeypatch.setattr(perplexity, "WINDOW", WINDOW)
    assert (
        perplexity.main(["-m", str(small), "--weights", "bfloat16,nf5", "--windows", "3", "--out", str(tmp_path)]) == 0
    )
    document = json.loads((tmp_path / "perplexity.json").read_text("utf-8"))
    exact, rounded = document["rows"]
    assert (exact["weights"], exact["above"], exact["difference"]) == ("float32", 0.0, 0.0)
    assert exact["tokens"] == 3 * (WINDOW - 1)

    model = AutoModelForCausalLM.from_pretrained(small, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(small)(perplexity.TEXT.read_text("utf-8"))["input_ids"][: 3 * WINDOW]
    windows = torch.tensor(ids).view(3, WINDOW)
    loss = model(windows, labels=windows).loss.item()
    assert math.isclose(exact["perplexity"], math.exp(loss), rel_tol=1e-4)

    assert rounded["weights"] == "bfloat16"
    assert 0 < rounded["difference"] < 0.2
    assert math.isclose(rounded["above"], rounded["perplexity"] / exact["perplexity"] - 1, rel_tol=1e-9)
    assert any(note.startswith("Not measured: nf5: ") for note in document["notes"])


def test_the_text_is_long_enough_and_says_where_it_is_from(program: Callable[[str], Any]):
    perplexity = program("perplexity")
    text = perplexity.TEXT.read_text("utf-8")
    assert len(text.split()) > 5000
    assert text.startswith("Fellow-Citizens of the Senate and House of Representatives: Again the blessings of health")
    assert perplexity.TEXT.name in (perplexity.TEXT.parent / "README.md").read_text("utf-8")
