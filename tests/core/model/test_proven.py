"""The self-check of the slots is made once for each kind of model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from logitmill.core.model.proven import proven, remember
from logitmill.core.model.spec import LoadedModel


def loaded(**config: Any) -> LoadedModel:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, **config
        )
    )
    cpu = torch.device("cpu")
    return LoadedModel(model, None, "m", "", None, torch.float32, cpu, False, (), None, 16, GenerationConfig())  # type: ignore[arg-type]


def test_a_kind_is_its_config_its_numbers_and_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path))
    first = loaded()
    assert not proven(first)
    remember(first)
    assert proven(first)
    assert proven(loaded())  # other weights
    assert not proven(loaded(rope_theta=500.0))
    assert not proven(replace(first, dtype=torch.bfloat16))
    assert not proven(replace(first, quantize="nf4"))
    monkeypatch.setattr("logitmill.core.model.proven.version", lambda name: "99")
    assert not proven(first)


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path / "file"))
    remember(loaded())
    assert not proven(loaded())
