"""What every test may rely on: no network, no clock, and golden files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the hub would fail on a train

# No timed tests: machines are shared. CI repeats the same examples, a desk looks for new ones.
settings.register_profile("logitmill", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("logitmill")


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
