"""``logitmill new-plugin``: what it writes, and what it refuses. tests/downstream installs and runs the result."""

from __future__ import annotations

import ast
import datetime
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_what_it_writes(logitmill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = logitmill("new-plugin", "tide-pool")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "wrote tide-pool: 11 files",
        "  cd tide-pool",
        '  pip install -e ".[dev]"',
        "  pytest",
        "  ruff check . && ruff format --check . && mypy",
        "  logitmill stages tide.gap",
    ]
    folder = tmp_path / "tide-pool"
    assert files(folder) == {
        ".gitignore", "LICENSE", "README.md", "pyproject.toml", "src/tide_pool/__init__.py", "src/tide_pool/gap.py",
        "src/tide_pool/lines.py", "src/tide_pool/py.typed", "tests/test_gap.py", "tests/test_laws.py",
        "tests/test_lines.py",
    }  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "tide-pool"
    assert project["entry-points"]["logitmill.plugins"] == {"tide_pool": "tide_pool"}
    assert project["license"] == "MIT"
    text = (folder / "LICENSE").read_text("utf-8")
    assert f"Copyright (c) {datetime.datetime.now(datetime.UTC).year} The tide-pool authors" in text
    for file in folder.rglob("*.py"):
        source = file.read_text("utf-8")
        ast.parse(source)
        assert "$" not in source


def test_its_names_can_be_chosen(logitmill: Run, tmp_path: Path):
    options = ("--dir", str(tmp_path / "deep"), "--vendor", "own", "--license", "none")
    result = logitmill("new-plugin", "My_Stages2", *options)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "deep" / "My_Stages2"
    assert "LICENSE" not in files(folder)
    assert 'name="own.gap"' in (folder / "src" / "my_stages2" / "gap.py").read_text("utf-8")
    assert "license" not in tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_other_licence_is_logitmills_own(logitmill: Run, tmp_path: Path):
    assert logitmill("new-plugin", "tides", "--dir", str(tmp_path), "--license", "apache-2.0").exit_code == 0
    own = (Path(__file__).resolve().parents[2] / "LICENSE").read_text("utf-8")
    assert (tmp_path / "tides" / "LICENSE").read_text("utf-8") == own


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("9lives",), "cannot name a package"),
        (("tide.pool",), "cannot name a package"),
        (("-",), "cannot name a package"),
        (("tide--pool",), "cannot name a package"),
        (("lambda",), "is a word of Python"),
        (("match",), "is a word of Python"),
        (("tests",), "'tests' is the folder of the package's own tests"),
        (("json",), "a module 'json' is here already"),
        (("torch",), "a module 'torch' is here already"),
        (("logitmill",), "a module 'logitmill' is here already"),
        (("until-dawn",), "'until' is a word of the language"),
        (("raw-bits",), "'raw' is a word of the language"),
        (("load-stones",), "'load' is a name of logitmill's own"),
        (("core-stages",), "'core' is a name of logitmill's own"),
        (("temperature-plus",), "'temperature' is taken: the plugin 'samplers' registers 'temperature'"),
        (("tide-pool", "--vendor", "x.y"), "cannot stand before a stage's dot"),
        (("tide-pool", "--vendor", "_x"), "cannot stand before a stage's dot"),
        (("tide-pool", "--vendor", ""), "cannot stand before a stage's dot"),
        (("tide-pool", "--vendor", "with"), "is a word of the language"),
    ],
)
def test_names_that_would_not_work_are_refused(logitmill: Run, tmp_path: Path, args: tuple[str, ...], why: str):
    result = logitmill("new-plugin", "--dir", str(tmp_path), "--", *args) if args == ("-",) else logitmill(
        "new-plugin", *args, "--dir", str(tmp_path)
    )  # fmt: skip
    assert result.exit_code == 2
    assert why in " ".join(str(result.stderr).split())
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_an_installed_plugin_has_is_refused(
    logitmill: Run, installed: Callable[..., Path], fresh: Any, tmp_path: Path
):
    source = (
        "from logitmill import LogitsProcessor, hookimpl\n"
        "class One(LogitsProcessor, name='tide.one'):\n    'One.'\n"
        "@hookimpl\ndef register_logits_processors(register):\n    register(One)\n"
    )
    installed("shore", {"shore_stages": source}, plugins={"tidal": "shore_stages"})
    fresh.discover()
    for name, why in (("tide-pool", "'tide' is taken: the plugin 'tidal' registers 'tide.one'"),
                      ("tidal", "a plugin 'tidal' is installed already, from shore_stages")):  # fmt: skip
        result = logitmill("new-plugin", name, "--dir", str(tmp_path))
        assert (result.exit_code, result.stdout) == (2, "")
        assert why in result.stderr


def test_a_folder_that_holds_something_is_left_alone(
    logitmill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))  # as python -m has it: a folder is no module
    folder = tmp_path / "tides"
    folder.mkdir()
    (folder / ".git").mkdir()
    assert logitmill("new-plugin", "tides", "--dir", str(tmp_path)).exit_code == 0  # a repository just made
    before = files(folder)
    again = logitmill("new-plugin", "tides", "--dir", str(tmp_path))
    assert again.exit_code == 2
    assert "is there already, and not empty" in again.stderr
    assert files(folder) == before
    (tmp_path / "waves").write_text("a file", "utf-8")
    assert "is a file" in logitmill("new-plugin", "waves", "--dir", str(tmp_path)).stderr
