"""The example of one module, installed beside the other example: its tests pass, and both work in one strategy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def shop(workshop: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An environment with both, built from copies so that the tree stays as it is."""
    made, copies = workshop(), tmp_path_factory.mktemp("examples")
    for name in ("tides", "acme-samplers"):
        unwanted = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(EXAMPLES / name, copies / name, ignore=unwanted)
    made.run("pip install ./tides ./acme-samplers", copies)
    return made


def test_its_own_tests_pass(shop: Any) -> None:
    told = shop.run("pytest -q -p no:cacheprovider --confcutdir . tests", EXAMPLES / "tides").stdout
    assert " passed" in told


def test_both_are_found_and_work(shop: Any, tmp_path: Path) -> None:
    listed = map(json.loads, shop.run("logitmill plugins --check --json", tmp_path).stdout.splitlines())
    status = {item["name"]: item["status"] for item in listed}
    assert {"tides": "loaded", "acme_samplers": "loaded"}.items() <= status.items()


def test_one_strategy_of_both(shop: Any, tmp_path: Path) -> None:
    text = (
        "tides.turn(6, flood={ acme.quadratic(0.1) }, ebb={ temperature(1.2 -> 0.6 over 20 by tides.slack) })"
        " | when tides.height(6) < 0 { top_k(4) } | acme.steady until acme.sentences(2) or max_tokens(9)"
    )
    told = json.loads(shop.run(f"logitmill check --json '{text}'", tmp_path).stdout)
    assert (told["ok"], told["warnings"]) == (True, [])
    program = (
        "import logitmill as lm, sys\n"
        f"s = lm.Strategy.parse({text!r})\n"
        "p = s.distribution([[2.0, 1.0, 0.5, 0.0, -1.0]] * 2, output=[[0], [0, 1, 2, 3]], seed=3)\n"
        "print([int(n) for n in (p > 0).sum(-1)])\n"
    )
    (tmp_path / "program.py").write_text(program, "utf-8")
    assert shop.run("python program.py", tmp_path).stdout.strip() == "[5, 4]"


def test_a_plugin_left_out_takes_its_names_with_it(shop: Any, tmp_path: Path) -> None:
    told = shop.run("LOGITMILL_PLUGINS=tides logitmill stages", tmp_path).stdout
    assert "tides.turn" in told
    assert "acme.steady" not in told
