"""Every command and program on the pages runs, from a fresh folder, in the order in which it is shown.

Where a page means the default model, a tiny one of random weights stands in, whose text says nothing; one test uses the
real one.
"""

from __future__ import annotations

import io
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logitmill.core.loader import plugins
from logitmill.plugins.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def commands(text: str) -> list[list[str]]:
    """The words of each line of a shell block, comments away."""
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def run_shell(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a shell block: make (is there such a target), logitmill, or something piped into it."""
    piped = ""
    if "|" in words:
        at = words.index("|")
        assert words[0] == "echo", words
        piped, words = " ".join(words[1:at]) + "\n", words[at + 1 :]
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS, words
        return
    assert words[0] == "logitmill", f"the test cannot run {words}"
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    before = set(plugins().met)
    with pytest.raises(SystemExit) as end:
        main()
    for name in set(plugins().met) - before:  # each command is a process of its own to the reader
        plugins().remove(name)
    assert not end.value.code, f"{shlex.join(words)} ended with {end.value.code}"


def run_python(block: Any) -> None:
    """A program; one that begins with a file's name goes into that file instead, for the commands behind it."""
    name = re.match(r"# (\w+\.py)\n", block.text)
    if name:
        Path(name[1]).write_text(block.text, "utf-8")
        return
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})  # noqa: S102  # the page's own example


def test_every_example_of_a_page_runs(
    page: Path, place: Path, blocks: Callable[[Path], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in blocks(page):
        if block.kind == "shell":
            for words in commands(block.text):
                run_shell(words, monkeypatch)
        elif block.kind == "python":
            run_python(block)


def test_the_readme_is_short_and_begins_with_what_a_person_types() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 180
    assert text.index("make demo") < text.index("make test") < text.index("## ")


def test_speeds_told_are_those_that_were_measured() -> None:
    """README's rows of speeds are rows of the page that ``make bench`` wrote, and so are its date and processor."""
    text = (ROOT / "README.md").read_text("utf-8")
    measured = (ROOT / "benchmarks" / "results" / "speed.md").read_text("utf-8")
    told = [line for line in text.splitlines() if re.match(r"\| .* \([\d.,]+ to [\d.,]+\)", line)]
    assert len(told) >= 4
    assert set(told) <= set(measured.splitlines())
    for fact in ("date", "processor"):
        value = re.search(rf"^- {fact}: ([^,\n]+)", measured, re.M)
        assert value is not None
        assert value[1] in text, f"README does not say the {fact} of the speeds it tells"


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.py")), ids=lambda file: file.name)
def test_every_example_program_runs(file: Path, place: Path) -> None:
    runpy.run_path(str(place / "examples" / file.name), run_name="__main__")


def test_the_first_example_on_the_default_model() -> None:
    import logitmill as lm

    with lm.load(max_rows=2, max_length=128) as engine:
        out = engine.generate(["A list of colors: red, blue"] * 2, "greedy until eos or max_tokens(16)")
    assert out[0].raise_for_error().tokens == out[1].raise_for_error().tokens
    assert "green" in out[0].text
