"""Every law can fail: a stage that is wrong in one way breaks the law it should, no other, and is shown small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from logitmill.testing import check_laws, laws


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks the types of fields up there
    spec.loader.exec_module(module)
    return module


STAGES = _module("wrong_stages")
CASES = [
    pytest.param(law, stage, id=f"{law}-{type(stage).__name__}")
    for law, stages in STAGES.WRONG.items()
    for stage in stages
]


def test_every_law_has_a_stage_that_breaks_it() -> None:
    assert set(STAGES.WRONG) == set(laws())


@pytest.mark.parametrize(("law", "stage"), CASES)
def test_it_breaks_its_law_and_no_other_and_is_shown_small(law: str, stage: Any) -> None:
    broken = {found.law: found for found in check_laws(stage)}
    assert law in broken
    assert set(broken) - {law} <= STAGES.BESIDE.get(type(stage), set())
    found = broken[law]
    assert repr(stage) in str(found)
    assert laws()[law].says in str(found)
    if found.case is None:
        return
    tokens = [token for rows in (found.case.prompts, found.case.outputs) for row in rows for token in row]
    assert found.case.rows <= 2
    assert found.case.vocab <= 5
    assert len(tokens) + found.case.steps <= 3
    assert found.counterexample.startswith("logits [[")


@pytest.mark.parametrize("stage", STAGES.RIGHT, ids=lambda stage: type(stage).__name__)
def test_what_they_are_made_of_breaks_none(stage: Any) -> None:
    assert check_laws(stage) == []


def test_what_is_said_beside_is_true() -> None:
    """No stage is excused for more than it breaks."""
    excused = {(law, stage) for law, stages in STAGES.WRONG.items() for stage in stages if type(stage) in STAGES.BESIDE}
    assert len(excused) == len(STAGES.BESIDE)
    for law, stage in excused - {("pure", STAGES.Restless())}:  # that one breaks them by its count of calls
        assert {found.law for found in check_laws(stage)} == {law} | STAGES.BESIDE[type(stage)]
