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


def test_a_gguf_file_is_quantized_anew_as_well(program: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch):
    """Each quantization of ours is measured twice: on the file, and on the floats it was converted to."""
    perplexity, asked = program("perplexity"), []

    def logprobs(model: str | None, weights: str, windows: int) -> tuple[list[float], str]:
        asked.append((model, weights))
        return [-1.0 - (model is not None), -2.0], str(model or "the default")

    class Found:
        path = Path(__file__)

    monkeypatch.setattr(perplexity, "logprobs", logprobs)
    monkeypatch.setattr(perplexity, "find_model", lambda spec: Found)
    monkeypatch.setattr(perplexity, "model_for", lambda peer, model: "converted")
    found, name, missing = perplexity.rows(None, ("nf4", "int4"), 1)
    assert asked == [(None, "float32"), (None, "nf4"), (None, "int4"), ("converted", "int4")]
    assert [row.weights for row in found] == ["float32", "nf4", "int4", "int4, quantized anew"]
    assert (name, missing) == ("the default", [])
    assert [row.difference for row in found] == [0.0, 0.0, 0.0, 0.5]


def test_the_text_is_long_enough_and_says_where_it_is_from(program: Callable[[str], Any]):
    perplexity = program("perplexity")
    text = perplexity.TEXT.read_text("utf-8")
    assert len(text.split()) > 5000
    assert text.startswith("Fellow-Citizens of the Senate and House of Representatives: Again the blessings of health")
    assert perplexity.TEXT.name in (perplexity.TEXT.parent / "README.md").read_text("utf-8")
