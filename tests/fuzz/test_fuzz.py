"""A fixed part of ``make fuzz``, and that each of its laws can fail: wrong languages stand in the real one's place."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzzing import damage, deriving, documents, laws, odds, reporting, shrinking, watching

from logitmill.core.dsl.parse import parse_program
from logitmill.core.errors import StrategyError
from logitmill.core.strategy import Strategy

RUN = Path(__file__).resolve().parent / "run.py"


@pytest.mark.parametrize(("first", "count"), [("--seed=20", 2000), ("--odds", 200)], ids=["documents", "logits"])
def test_a_part_of_the_run(first: str, count: int) -> None:
    """The same documents each time: what fails here fails at a desk, with ``--number``."""
    done = subprocess.run([sys.executable, RUN, first, f"--count={count}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{count:,} documents")


def test_a_number_is_the_same_document_every_time_and_every_kind_comes_up() -> None:
    made = [documents.document(3, number) for number in range(300)]
    assert [documents.document(3, number) for number in range(300)] == made
    assert {document.kind for document in made} == set(documents.KINDS)
    assert documents.document(4, 0) != made[0]


def refusal(text: str) -> str:
    """The code of the error that reading gives, "" where it gives none."""
    try:
        parse_program(text)
    except StrategyError as error:
        return error.code
    return ""


def test_derivations_are_of_the_grammar() -> None:
    for number in range(100):
        text = deriving.Deriver(Random(number), documents.names(), odd=0.0).text()
        assert refusal(text) in ("", "version", "too-deep", "escape", "number"), text


def test_most_written_programs_are_read_and_most_damaged_ones_refused() -> None:
    """Where all were refused, nothing would be tried."""
    ends: dict[str, list[str]] = {"written": [], "damaged": []}
    for number in range(600):
        made = documents.document(5, number)
        if made.kind in ends:
            ends[made.kind].append(laws.read(made.content, made.form).partition(":")[0])
    assert ends["written"].count("refused") < 0.7 * len(ends["written"])
    assert ends["damaged"].count("refused") > 0.7 * len(ends["damaged"])


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        ({"to_text": lambda self: "sample"}, "object to text to object"),
        ({"to_dict": lambda self: {"dsl": 1, "main": {"pipeline": ["sample"]}}}, "object to JSON to object"),
        ({"hash": property(lambda self: str(id(self)))}, "the hash is stable"),
        ({"to_text": lambda self: "sample("}, "the text reads back"),
    ],
)
def test_a_language_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], law: str) -> None:
    for name, value in wrong.items():
        monkeypatch.setattr(Strategy, name, value)
    with pytest.raises(laws.BrokenError) as caught:
        laws.read("top_p(0.5) | sample", "text")
    assert caught.value.law == law


@pytest.mark.parametrize(
    ("printed", "law"),
    [
        (lambda program: "greedy\n", "fmt says the same"),
        (lambda program: "sample" + " " * len(program.comments) + "\n", "fmt keeps comments"),
        (lambda program: "sample |", "fmt reads back"),
    ],
)
def test_a_printer_that_forgets_is_found_out(
    monkeypatch: pytest.MonkeyPatch, printed: Callable[[Any], str], law: str
) -> None:
    monkeypatch.setattr(laws, "format_program", printed)
    with pytest.raises(laws.BrokenError) as caught:
        laws.formatted("sample # c")
    assert caught.value.law in (law, "fmt is a fixed point")


def test_an_error_that_says_nothing_is_found_out() -> None:
    with pytest.raises(laws.BrokenError):
        laws.in_words(StrategyError("", code="x"))
    with pytest.raises(laws.BrokenError):
        laws.in_words(StrategyError("a sentence", code=""))


@pytest.mark.parametrize("wrong", [lambda probs: probs * 2, lambda probs: probs.double(), lambda probs: -probs])
def test_wrong_probabilities_are_found_out(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Any], Any]) -> None:
    made, given = Strategy.parse("sample"), {"logits": odds.logits(Random(1), 2, 7)}
    assert odds.tried(made, given) == "whole"
    right = Strategy.distribution
    monkeypatch.setattr(Strategy, "distribution", lambda self, **given: wrong(right(self, **given)))
    with pytest.raises(laws.BrokenError):
        odds.tried(made, given)


def trial(number: int, beat: Callable[[], None]) -> tuple[str, str]:
    """Document 3 hangs, 5 crashes, 7 takes its process with it."""
    if number == 3:
        while True:
            pass
    if number == 5:
        raise ZeroDivisionError
    if number == 7:
        sys.exit(9)
    return "plain", "whole"


def test_who_hangs_crashes_or_dies_is_told_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0.3)
    told: list[watching.Failure] = []
    begun = time.monotonic()
    tally = watching.watched(trial, 12, 2, told.append, lambda number: ("plain", str(number)))
    assert time.monotonic() - begun < watching.WALL
    assert {failure.number: failure.law for failure in told} == {
        3: "no hang",
        5: "no crash (ZeroDivisionError)",
        7: "no crash (the process)",
    }
    assert tally.outcomes["plain", "whole"] == 9
    assert reporting.summary(tally).startswith("12 documents")


def test_the_smallest_failing_document_is_found() -> None:
    text = 'temperature(0.5) | ban("a", "b") | when entropy < 1 { top_k(3) } | sample until eos'
    assert shrinking.smallest(text, lambda text: "top_k" in text) == "top_k"
    document = {"main": {"pipeline": [{"a": 1}, {"b": [1, 2, 3]}], "until": "eos"}}
    left = shrinking.smallest(document, lambda made: "b" in str(made))
    assert left == {"main": {"pipeline": [{"b": []}]}} or left == {"main": {"pipeline": [{"b": {}}]}}


def test_damage_leaves_the_original_alone() -> None:
    document = Strategy.parse("top_p(0.5) | sample until eos").to_dict()
    before = repr(document)
    assert any(damage.damaged_document(Random(n), document, 2) != document for n in range(5))
    assert repr(document) == before
    assert "".join(damage.tokens('a(0.5) | b until r"x" # c\n')) == 'a(0.5) | b until r"x" # c\n'


def test_a_report_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_text("old counts\n\n## Found and mended\n\nby hand\n", "utf-8")
    tally = watching.Tally(failures=[watching.Failure(4, "written", "no hang", "", "")], seconds=2.0)
    tally.outcomes.update({("written", "whole"): 3, ("written", "failed"): 1})
    tally.codes["syntax"] = 2
    reporting.write(file, tally, seed=9)
    text = file.read_text("utf-8")
    assert "| written | 4 | 3 | 0 | 0 | 1 |" in text
    assert "seed 9, 4 documents" in text
    assert "- document 4 (written) breaks: no hang\n\n## Found and mended\n\nby hand\n" in text
    assert "old" not in text
