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


def told(processor: str, torch: str = "torch 2.13.0+cpu", **more: str) -> dict[str, str]:
    """Facts of a machine."""
    return {"date": "2026-01-02", "processor": processor, "versions": f"logitmill 0.1.0, {torch}, x 1.0", **more}


TWO, FOUR = "Some Processor, 2 logical cores, 2 threads used", "Some Processor, 4 logical cores, 4 threads used"


def test_what_was_not_measured_stays_on_a_machine_of_the_same_kind(regress: Any):
    said: list[str] = []
    before = {"machine": told(TWO), "ratios": {"a": 1.0, "b": 2.0}}
    made = {"machine": told(TWO, date="2026-01-09", load="0.1", commit="abc"), "ratios": {"b": 3.0}}
    assert regress.merged(before, made, said.append) == {"machine": made["machine"], "ratios": {"a": 1.0, "b": 3.0}}
    assert said == ["kept     a: not measured, and recorded on a machine like this one"]


@pytest.mark.parametrize(
    "before",
    [told(FOUR), told(TWO.replace("2 threads", "1 threads")), told(TWO, "torch 2.12.0"), told(TWO, gpu="A GPU"), {}],
)
def test_ratios_of_another_machine_are_dropped_and_named(regress: Any, before: dict[str, str]):
    said: list[str] = []
    made = {"machine": told(TWO), "ratios": {"b": 3.0}}
    assert regress.merged({"machine": before, "ratios": {"a": 1.0, "b": 2.0}}, made, said.append) == made
    [line] = said
    assert line.startswith("dropped  a: not measured, and recorded on another machine (")
    assert f"this is {TWO}, torch 2.13.0+cpu)" in line


def test_recording_writes_what_was_measured_with_its_machine(
    regress: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps({"machine": told("No Such Processor"), "ratios": {"of old": {"median": 9.0}}}), "utf-8")
    monkeypatch.setattr(regress, "RATIOS", file)
    monkeypatch.setitem(regress.HELD, "loop", Measured(regress, 1.5))
    assert regress.main(["--record", "--only", "loop"]) == 0
    made = json.loads(file.read_text("utf-8"))
    assert {name: spread["median"] for name, spread in made["ratios"].items()} == {"pair": 1.5}
    assert made["machine"]["processor"] == regress.machine()["processor"]
    assert "dropped  of old: " in capsys.readouterr().out


def test_recording_nothing_leaves_what_there_is(regress: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps({"ratios": {"of old": {"median": 9.0}}}), "utf-8")
    before = file.read_text("utf-8")
    monkeypatch.setattr(regress, "RATIOS", file)
    assert regress.main(["--record", "--only", "16 bits, vLLM"]) == 1
    assert file.read_text("utf-8") == before


def test_the_committed_ratios_are_of_pairs_that_are_measured(regress: Any):
    committed = json.loads((FOLDER / "results" / "ratios.json").read_text("utf-8"))
    assert committed["machine"]["processor"]
    for name, spread in committed["ratios"].items():
        assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"], name
