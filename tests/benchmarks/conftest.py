"""The programs of benchmarks/, found as they find one another."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, save_tiny: Callable[..., None]) -> Path:
    """A Llama of random weights that knows 320 tokens and 256 positions."""
    folder = tmp_path_factory.mktemp("small")
    save_tiny(folder, positions=256)
    return folder


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """``program("regress")``: benchmarks/regress.py as a module, until the test ends."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(FOLDER)):
            del sys.modules[name]
