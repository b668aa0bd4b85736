"""What ``logitmill new-plugin`` writes, installed as it is: its tests, its lint and its types pass at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_new_package_installs_and_passes_everything_at_once(workshop: Callable[[], Any], tmp_path: Path) -> None:
    shop = workshop()
    told = shop.run("logitmill new-plugin tide-pool", tmp_path).stdout.splitlines()
    assert told[0] == "wrote tide-pool: 11 files"
    folder = tmp_path / "tide-pool"
    shop.run('pip install -e ".[dev]"', folder)
    tests = shop.run("pytest", folder).stdout
    assert " passed" in tests
    assert "warning" not in tests
    shop.run("ruff check . && ruff format --check . && mypy", folder)
    listed = json.loads(shop.run("logitmill plugins --check --json | grep tide", folder).stdout)
    assert (listed["name"], listed["status"], listed["distribution"]) == ("tide_pool", "loaded", "tide-pool")
    assert "tide.gap(width)" in shop.run("logitmill stages tide.gap", folder).stdout
