"""House rules that no linter knows: the package list, the size of a file, relative imports, what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "samplers", "stopping", "plugins")
LONGEST = 400  # lines; past that, look for the second subject
FORBIDDEN_NAMES = {"utils", "util", "helpers", "misc", "common", "manager"}
HEAVY = ("torch", "transformers", "bitsandbytes", "accelerate", "numpy")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> list[Path]:
    """Every Python file of the package."""
    inside = [file for room in ROOMS for file in (ROOT / room).rglob("*.py") if "__pycache__" not in file.parts]
    return sorted([*ROOT.glob("*.py"), *inside])


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every absolute import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""


def test_every_folder_with_code_is_a_listed_package_and_the_other_way_round() -> None:
    folders = {file.parent.relative_to(ROOT) for file in sources()}
    tree = {".".join(("logitmill", *folder.parts)) for folder in folders}
    assert tree == set(PROJECT["tool"]["setuptools"]["packages"]), "pyproject.toml: [tool.setuptools] packages"


def test_package_list_is_sorted_and_free_of_repeats() -> None:
    packages = PROJECT["tool"]["setuptools"]["packages"]
    assert packages == sorted(set(packages))


def test_every_package_says_what_it_is() -> None:
    for folder in {file.parent for file in sources()}:
        init = folder / "__init__.py"
        assert init.is_file(), f"{folder.relative_to(ROOT)} has no __init__.py"
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), f"{name(init)} has no docstring"


def test_every_data_file_of_the_package_is_shipped() -> None:
    listed = PROJECT["tool"]["setuptools"]["package-data"]
    shipped = {
        file
        for package, patterns in listed.items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    present = {file for room in ROOMS for file in (ROOT / room).rglob("*") if file.is_file()}
    data = {file for file in present if file.suffix not in {".py", ".pyc"}} | {ROOT / "py.typed"}
    assert {name(file) for file in data} == {name(file) for file in shipped}


@pytest.mark.parametrize("file", sources(), ids=name)
def test_a_file_has_one_subject(file: Path) -> None:
    assert file.stem not in FORBIDDEN_NAMES, f"{name(file)}: name the subject"
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{name(file)} has {lines} lines: look for the second subject"


@pytest.mark.parametrize("file", sources(), ids=name)
def test_imports_inside_the_package_are_relative(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = {"logitmill", *ROOMS}
    wrong = [f"line {line}: {module}" for line, module in imports(tree) if module.split(".")[0] in own]
    assert not wrong, f"{name(file)} imports its own package absolutely, {wrong}"


@pytest.mark.parametrize("module", ["logitmill", "logitmill.plugins.cli.main", "logitmill.plugins.testing.fixtures"])
def test_importing_the_face_brings_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_help_and_version_bring_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['logitmill', *{arguments!r}]\n"
        "from logitmill.plugins.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('heavy:', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_the_package_is_imported_once_and_under_its_name() -> None:
    import logitmill

    init = str(ROOT / "__init__.py")
    found = {key for key, module in sys.modules.items() if getattr(module, "__file__", None) == init}
    assert found == {logitmill.__name__}


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py")), "pytest runs with --import-mode=importlib"
