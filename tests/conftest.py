"""What every test may rely on: one `logitmill`, no network, no clock, and golden files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the hub would fail on a train

# No timed tests: machines are shared. CI repeats the same examples, a desk looks for new ones.
settings.register_profile("logitmill", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("logitmill")


ROOT = Path(__file__).resolve().parents[1]


class PlainRoot:
    """Collects the repository's root as a folder.

    It has an ``__init__.py``, so pytest would take it for a package of tests and import it a second time, under the
    name of the clone's folder: two of every class, or an error where that name is no Python name.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    """A conftest is not asked about the folders above it, a registered plugin is."""
    config.pluginmanager.register(PlainRoot())


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--golden``: write the golden files anew instead of comparing with them (``make golden``)."""
    parser.addoption("--golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(text, "errors/unknown_stage.txt")`` holds a text against that file in ``golden/`` beside the test."""
    folder = Path(request.path).parent / "golden"

    def check(text: str, name: str) -> None:
        file = folder / name
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"no golden file {file}: write it with `make golden`"
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def bench() -> ModuleType:
    """``tests/bench.py``: stages run by hand, without a model."""
    spec = importlib.util.spec_from_file_location("bench", Path(__file__).parent / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
