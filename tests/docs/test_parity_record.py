"""The record of the parity tests: every built-in stage has a peer or a reason, and a stale record is found out."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from logitmill.core.loader import Plugins

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "parity"
RECORD = json.loads((HERE / "record.json").read_text("utf-8"))
REASONS = json.loads((HERE / "reasons.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Every built-in name; a schedule says what it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGITMILL_PLUGINS", "")
        loading = Plugins(strict=True)
        loading.discover()
    return {*loading.registry.entries, *(f"{name} (schedule)" for name in loading.registry.schedules)}


@pytest.fixture(scope="module")
def own() -> ModuleType:
    """conftest.py of the parity tests, loaded once more."""
    spec = importlib.util.spec_from_file_location("parity_conftest", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # where dataclasses look for the module of their annotations
    spec.loader.exec_module(made)
    return made


def recorded() -> set[str]:
    return {stage for file in RECORD["files"].values() for stage in file}


def test_no_stage_is_without_an_outside_check_or_a_reason(names: set[str]) -> None:
    assert names - recorded() - set(REASONS) == set(), (
        "hold it against a peer, or say in reasons.json why there is none"
    )


def test_what_is_recorded_and_reasoned_is_there(names: set[str]) -> None:
    assert recorded() - names == set()
    assert set(REASONS) - names == set()
    assert set(REASONS) & recorded() == set(), "a stage that has a peer needs no reason"


def test_reasons_are_whole_and_name_tests_that_exist() -> None:
    for stage, words in REASONS.items():
        files = re.findall(r"tests/[\w/]+\.py", words)
        assert files, stage
        assert all((ROOT / file).is_file() for file in files), stage


def test_every_file_and_peer_of_the_record_is_known(build: ModuleType) -> None:
    known = set(sys.modules["building.parity"].PEERS)
    assert {peer for file in RECORD["files"].values() for row in file.values() for peer in row} == known
    assert all((HERE / name).is_file() for name in RECORD["files"])
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split() if "==" in line)
    for peer in ("transformers", "torch"):
        assert RECORD["peers"][peer].partition("+")[0] == pinned[peer], "run `make parity` with the new version"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"top_k": {"p": [3, 0.0]}}, []),
        ({"top_k": {"p": [3, 1e-7]}}, []),
        ({"top_k": {"p": [4, 0.0]}}, ["top_k against p: 4 cases, recorded are 3"]),
        ({"top_k": {"p": [3, 1e-3]}}, ["top_k against p: differs by 0.001, recorded is at most 0"]),
        ({"top_k": {"p": [3, float("nan")]}}, ["top_k against p: differs by nan, recorded is at most 0"]),
        ({}, ["top_k against p: 0 cases, recorded are 3"]),
        (
            {"top_k": {"p": [3, 0.0], "q": [1, 0.0]}, "x": {"p": [2, 0.0]}},
            ["top_k against q: 1 cases, recorded are 0", "x against p: 2 cases, recorded are 0"],
        ),
    ],
)
def test_a_stale_record_is_told(own: ModuleType, rows: Any, told: list[str]) -> None:
    assert own.stale(rows, {"top_k": {"p": [3, 0.0]}}) == told


def test_a_difference_no_larger_than_recorded_is_fresh(own: ModuleType) -> None:
    assert own.stale({"a": {"p": [1, 3e-6]}}, {"a": {"p": [1, 3e-6]}}) == []
    assert own.stale({"a": {"p": [1, 4e-6]}}, {"a": {"p": [1, 3e-6]}}) != []


@pytest.mark.parametrize(
    ("difference", "written"), [(0.0, 0.0), (1e-7, 3e-7), (1.1e-7, 4e-7), (3.3e-6, 1e-5), (3.4e-6, 2e-5), (0.02, 0.06)]
)
def test_differences_are_rounded_up_with_room(own: ModuleType, difference: float, written: float) -> None:
    assert own.bound(difference) == pytest.approx(written, rel=1e-9)
    assert own.bound(difference) >= difference


def test_notes_add_up_and_keep_the_largest(own: ModuleType) -> None:
    made = own.Parity()
    made.note("a", "p", 0.25, cases=2)
    made.note("a", "p", 0.125)
    assert made.rows == {"a": {"p": [3, 0.25]}}


def test_a_file_is_held_only_where_all_of_it_ran(own: ModuleType) -> None:
    files = own.Files()
    files.collected["x"] = {"1", "2"}
    files.ran["x"] = {"1"}
    assert not files.whole("x")
    files.ran["x"].add("2")
    assert files.whole("x")
    files.partial.add("x")
    assert not files.whole("x")
