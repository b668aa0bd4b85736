"""The page that `make bench` writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from logitmill.plugins.bench.turns import Spread


def test_every_section_is_a_table_under_its_title(program: Callable[[str], Any]):
    run = program("run")
    ratio = Spread(2.0, 1.9, 2.1)
    sections = [
        run.Section("First", ("weights", "ratio"), [("nf4", "2.00 (1.90 to 2.10)")], ["A note."], {"a": ratio}),
        run.Section("Second", ("strategy",), [("top_k(5) | sample",)], [], {}),
    ]
    lines = run.page({"date": "2026-01-02"}, sections, picture=True).splitlines()
    assert lines[:3] == ["# Speed", "", "- date: 2026-01-02"]
    first, second = lines.index("## First"), lines.index("## Second")
    assert lines[first + 2 : first + 7] == [
        "| weights | ratio |", "|---|---|", "| nf4 | 2.00 (1.90 to 2.10) |", "", "A note."
    ]  # fmt: skip
    assert lines[second + 4] == r"| top_k(5) \| sample |"
    assert any("(speed.svg)" in line for line in lines)
    assert "speed.svg" not in run.page({}, sections, picture=False)


def test_a_section_without_its_peer_is_left_out_and_said(program: Callable[[str], Any]):
    said: list[str] = []
    sections = program("sections")
    asked = program("section").Asked(1, said.append)
    for name in ("4 bits, llama.cpp", "16 bits, vLLM"):
        assert sections.HELD[name](asked) is None
    assert said == [f"{peer}: not measured, no interpreter that has it was given" for peer in ("llama.cpp", "vLLM")]


def test_an_unknown_section_is_refused(program: Callable[[str], Any], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        program("run").main(["--only", "no such"])
    assert "invalid choice: 'no such'" in capsys.readouterr().err
