"""docs/transformers.md has a row for each of transformers' processors and criteria, and no others."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
from transformers.generation import logits_process, stopping_criteria

from logitmill import Strategy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "transformers.md"


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """class -> (what it is here, what is said of it), of the table under a heading. Refuses a class named twice."""
    section = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found: dict[str, tuple[str, str]] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            name, here, said = (cell.strip() for cell in line.strip("|").split("|"))
            assert name.strip("`") not in found, name
            found[name.strip("`")] = (here, said)
    return found


def classes(module: ModuleType, base: type) -> set[str]:
    """What the module itself defines under the base class."""
    return {
        name
        for name, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and issubclass(value, base) and value is not base
    }


def named(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and re.search(r".(LogitsProcessor|LogitsWarper)$", name)
    }


def test_every_logits_processor_has_a_row() -> None:
    theirs = classes(logits_process, logits_process.LogitsProcessor) | named(logits_process)
    assert len(theirs) > 30
    assert rows("Logits processors").keys() == theirs


def test_every_stopping_criterion_has_a_row() -> None:
    assert rows("Stopping criteria").keys() == classes(stopping_criteria, stopping_criteria.StoppingCriteria)


TABLE = {**rows("Logits processors"), **rows("Stopping criteria")}


@pytest.mark.parametrize("name", TABLE)
def test_what_it_is_here_parses_or_there_is_a_reason(name: str) -> None:
    here, said = TABLE[name]
    if here == "none":
        assert said
        return
    texts = re.findall(r"`([^`]+)`", here)
    assert texts
    assert re.sub(r"`[^`]+`", "", here).replace(",", "").strip() == ""
    for text in texts:
        strategy = Strategy.parse(text)
        assert Strategy.parse(strategy.to_text()) == strategy
        assert ("until" in text) == (strategy.complete)
