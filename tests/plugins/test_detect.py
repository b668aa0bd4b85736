"""``logitmill detect``: what it reads, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from logitmill.core.engine import load

Run = Callable[..., Result]
MARK = "watermark(0.25, 8.0, key=4)"


@pytest.fixture(scope="module")
def marked(alphabet: str) -> tuple[str, list[int]]:
    """A text that the alphabet's model wrote under MARK, and its tokens: letters, which read back as they were."""
    with load(alphabet, quantize=None) as engine:
        out = engine.generate(
            "a", f'allow(r"^[a-z]$") | temperature(8.0) | {MARK} | sample until max_tokens(80)', seed=1
        )
    return out.text, list(out.tokens)


def test_a_text_is_read_by_the_models_tokenizer(logitmill: Run, alphabet: str, marked: tuple[str, list[int]]) -> None:
    result = logitmill("detect", marked[0], "-s", f"temperature(2.0) | {MARK} | sample", "-m", alphabet)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("watermark: found (p = ")
    assert "0.250 expected without" in result.stdout


def test_another_key_finds_nothing(logitmill: Run, alphabet: str, marked: tuple[str, list[int]]) -> None:
    result = logitmill("detect", marked[0], "-s", "watermark(0.25, 8.0, key=5)", "-m", alphabet)
    assert result.stdout.startswith("watermark: not found (p = ")


def test_ids_files_and_standard_input_say_the_same(
    logitmill: Run, alphabet: str, marked: tuple[str, list[int]], tmp_path: Path
) -> None:
    text, ids = marked
    (tmp_path / "answer.txt").write_text(text + "\n", "utf-8")
    runs = [
        logitmill("detect", text, "-s", MARK, "-m", alphabet, "--json"),
        logitmill("detect", str(tmp_path / "answer.txt"), "-s", MARK, "-m", alphabet, "--json"),
        logitmill("detect", "-s", MARK, "-m", alphabet, "--json", input=text + "\n"),
        logitmill("detect", str(ids), "--tokens", "-s", MARK, "--json"),
        logitmill("detect", "--tokens", "-s", MARK, "--json", input=" ".join(map(str, ids))),
    ]
    found = [json.loads(run.stdout) for run in runs]
    assert all(one == found[0] for one in found)
    assert found[0]["detected"] is True
    assert set(found[0]) == {"stage", "scored", "found", "expected", "z", "p_value", "detected"}


def test_every_watermark_of_a_strategy_is_looked_for(logitmill: Run, tmp_path: Path) -> None:
    (tmp_path / "house.decode").write_text("watermark | top_k(20) | synthid([1, 2, 3]) | sample until eos\n", "utf-8")
    result = logitmill("detect", "1 2 3 4 5 6 7 8 9", "--tokens", "-s", str(tmp_path / "house.decode"), "--max-p", "1")
    assert [line.split(" (")[0] for line in result.stdout.splitlines()] == ["watermark: found", "synthid: found"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["1 2 3", "--tokens", "-s", "top_k(3) | sample"],
            "the strategy holds no watermark: there are watermark, synthid",
        ),
        (["hello", "--tokens", "-s", "watermark"], "--tokens takes whole numbers, got 'hello'"),
        (["1", "--tokens", "-s", "watermark"], "a text of 1 tokens has no place to look at: 2 tokens are the least"),
        (["1 2", "--tokens", "-s", 'watermark(dialect="hf")'], "--vocab-size"),
        (["1 2", "--vocab-size", "9", "-s", "watermark"], "--vocab-size goes with --tokens"),
        (["1 2 3"], "-s"),
    ],
)
def test_what_it_refuses(logitmill: Run, args: list[str], words: str) -> None:
    result = logitmill("detect", *args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_file_that_is_not_there_is_no_text(logitmill: Run) -> None:
    result = logitmill("detect", "answer.txt", "-s", "watermark")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "answer.txt: No such file or directory" in result.stderr
