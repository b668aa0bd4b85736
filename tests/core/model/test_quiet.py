"""Progress and noise: who is told what, and on which stream."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from logitmill.core.model import progress
from logitmill.core.model.progress import Bar
from logitmill.core.model.quiet import _compile_later, first_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quick_work_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Bar("converting x") as bar:
        bar.reach(0.5)
    assert capfd.readouterr() == ("", "")


def test_long_work_says_one_line_and_the_end(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    with Bar("converting x") as bar:
        for part in (0.1, 0.5, 1.0):
            bar.reach(part)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["converting x ...", "converting x: done in 0 s"]
    bar = Bar("converting y").__enter__()
    bar.reach(0.1)
    bar.__exit__(ValueError, ValueError(), None)
    assert capfd.readouterr().err.splitlines() == ["converting y ..."]


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Bar("converting x") as bar:
        bar.reach(0.4)
    assert "converting x" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_compiling_waits_for_the_first_call() -> None:
    compiled: list[dict[str, Any]] = []

    def compile_now(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        compiled.append(options)
        return lambda x: function(x) + 1

    later = _compile_later(compile_now, dynamic=False)(lambda x: 2 * x)
    direct = _compile_later(compile_now, lambda x: 3 * x)
    assert compiled == []
    assert [later(1), later(2), direct(1)] == [3, 5, 4]
    assert compiled == [{"dynamic": False}, {}]


def test_first_line_of_an_error() -> None:
    assert first_line(ValueError("one thing.\nand more")) == "one thing"
    assert first_line(KeyError()) == "KeyError"
