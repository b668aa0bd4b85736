"""The wheel, from outside: built from a copy, installed in an environment of its own over the packages present."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
METADATA = PROJECT["project"]

# Runs inside the new environment; prints one JSON object.
SURVEY = """
import importlib, importlib.metadata, importlib.resources, json, pkgutil, sys
import logitmill
modules, failed = ["logitmill"], {}
for module in pkgutil.walk_packages(logitmill.__path__, "logitmill."):
    modules.append(module.name)
    if module.name.rsplit(".", 1)[-1] != "__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "triton":  # comes with torch where there is a GPU, and is asked for there alone
                failed[module.name] = repr(error)
        except Exception as error:
            failed[module.name] = repr(error)
points = {}
for group in ("logitmill.plugins", "logitmill.commands", "console_scripts", "pytest11"):
    for point in importlib.metadata.entry_points(group=group):
        if point.dist.name == "logitmill":
            points.setdefault(group, {})[point.name] = point.value
            try:
                point.load()
            except Exception as error:
                failed[point.value] = repr(error)
files = importlib.resources.files
print(json.dumps({
    "where": logitmill.__file__,
    "modules": modules,
    "failed": failed,
    "points": points,
    "typed": files("logitmill").joinpath("py.typed").is_file(),
    "grammar": files("logitmill.core.dsl").joinpath("grammar.lark").read_text("utf-8"),
    "version": [logitmill.__version__, importlib.metadata.version("logitmill")],
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, free of this environment's variables."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LOGITMILL_"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files() -> set[str]:
    """What the wheel has to hold of the package, as paths under ``logitmill/``."""
    files = {ROOT / "py.typed", ROOT / "core/dsl/grammar.lark"}
    for package in PACKAGES:
        files |= set(ROOT.joinpath(*package.split(".")[1:]).glob("*.py"))
    files |= set((ROOT / "plugins/cli/templates").glob("*.tmpl"))
    files |= {file for kind in ("*.cpp", "*.h") for file in (ROOT / "core/kernels").glob(kind)}
    return {f"logitmill/{file.relative_to(ROOT).as_posix()}" for file in files}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: nothing is written beside the sources, and no old build folder takes part."""
    copy = tmp_path_factory.mktemp("source") / "anyname"
    hidden = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=hidden, symlinks=True)
    out = copy.parent / "wheel"
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--wheel-dir", out, copy, cwd=copy.parent)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment: the wheel first, then the packages present here."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    # Paths only: a path file in *those* folders (an editable install) is not read, so the wheel is what is imported.
    present = dict.fromkeys(entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    (site / "present.pth").write_text("\n".join(present) + "\n", encoding="utf-8")
    return programs


@pytest.fixture(scope="module")
def survey(environment: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(environment / "python", "-c", SURVEY, cwd=environment))
    return found


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package_files()


def test_wheel_carries_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_every_module_imports_from_the_wheel(survey: dict[str, object], environment: Path) -> None:
    assert Path(str(survey["where"])).is_relative_to(environment.parent)
    assert survey["failed"] == {}
    expected = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in package_files()
        if name.endswith(".py")
    }
    assert set(survey["modules"]) == expected  # type: ignore[call-overload]


def test_entry_points_are_those_of_the_project(survey: dict[str, object]) -> None:
    assert survey["points"] == {**METADATA["entry-points"], "console_scripts": METADATA["scripts"]}


def test_marker_and_grammar_are_installed(survey: dict[str, object]) -> None:
    assert survey["typed"] is True
    assert survey["grammar"] == (ROOT / "core/dsl/grammar.lark").read_text(encoding="utf-8")


def test_one_version_everywhere(survey: dict[str, object], environment: Path) -> None:
    assert survey["version"] == [METADATA["version"]] * 2
    for program in ([environment / "logitmill"], [environment / "python", "-m", "logitmill"]):
        assert METADATA["version"] in run(*program, "--version", cwd=environment)
