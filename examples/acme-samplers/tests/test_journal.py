from __future__ import annotations

import json
from pathlib import Path

import pytest
from acme_samplers import on_finish

import logitmill as lm


@pytest.fixture
def completion() -> lm.Completion:
    return lm.Completion("Hi.", (5, 6), "eos", "eos", seed=3, strategy="greedy", strategy_hash="ab" * 32)


def test_a_line_for_each_completion(completion: lm.Completion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACME_JOURNAL", str(tmp_path / "journal.jsonl"))
    on_finish(completion)
    on_finish(completion)
    entries = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text("utf-8").splitlines()]
    assert [(entry["tokens"], entry["seed"], entry["criterion"]) for entry in entries] == [(2, 3, "eos")] * 2


def test_nothing_is_written_unasked(completion: lm.Completion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ACME_JOURNAL", raising=False)
    monkeypatch.chdir(tmp_path)
    on_finish(completion)
    assert list(tmp_path.iterdir()) == []
