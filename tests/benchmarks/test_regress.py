"""The check of the committed ratios: what counts as fallen, and how often it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logitmill.plugins.bench.turns import Spread

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def regress(program: Callable[[str], Any]) -> Any:
    return program("regress")


class Measured:
    """A section whose one pair has a ratio for each time it is asked."""

    def __init__(self, regress: Any, *ratios: float) -> None:
        self.section, self.ratios, self.turns = regress.Section, list(ratios), []

    def __call__(self, asked: Any) -> Any:
        self.turns.append(asked.turns)
        ratio = self.ratios.pop(0)
        return self.section("t", (), (), (), {"pair": Spread(ratio, ratio - 0.1, ratio + 0.1)})


def asked(regress: Any) -> Any:
    return regress.Asked(3, lambda words: None)


def test_a_ratio_that_holds_is_measured_once(regress: Any):
    measured = Measured(regress, 1.81)
    [held] = regress.check({"pair": 2.0}, measured, asked(regress))
    assert not held.fell
    assert measured.turns == [3]
    assert str(held) == "held  pair: committed 2.00, now 1.81 (1.71 to 1.91): 90% of it"


def test_one_that_fell_is_measured_again_with_more_turns_and_may_recover(regress: Any):
    measured = Measured(regress, 1.5, 1.9)
    [held] = regress.check({"pair": 2.0}, measured, asked(regress))
    assert not held.fell
    assert measured.turns == [3, 6]


def test_one_that_falls_every_time_fails_and_says_how(regress: Any, capsys: pytest.CaptureFixture[str]):
    measured = Measured(regress, 1.5, 1.6, 1.4)
    held = regress.check({"pair": 2.0}, measured, asked(regress))
    assert measured.turns == [3, 6, 9]
    assert regress.report(held, {"pair": 2.0, "other": 1.0}) == 1
    said = capsys.readouterr().out
    assert "FELL  pair: committed 2.00, now 1.50 (1.40 to 1.60); then 1.60" in said
    assert "80% of it" in said
    assert "----  other: not measured here" in said
    assert "1 ratios measured, 1 under 90%" in said


def test_pairs_that_are_not_committed_are_not_held_and_nothing_held_is_no_success(regress: Any):
    held = regress.check({}, Measured(regress, 1.0), asked(regress))
    assert held == []
    assert regress.report(held, {}) == 1


def test_a_peer_that_is_not_here_is_left_out(regress: Any):
    assert regress.check({"pair": 2.0}, lambda asked: None, asked(regress)) == []
    assert regress.HELD["4 bits, llama.cpp"](asked(regress)) is None


def test_the_committed_ratios_are_of_pairs_that_are_measured(regress: Any):
    committed = json.loads((FOLDER / "results" / "ratios.json").read_text("utf-8"))
    assert committed["machine"]["processor"]
    for name, spread in committed["ratios"].items():
        assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"], name
