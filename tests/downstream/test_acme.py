"""The example extension package, installed as anyone's would be: its own tests pass, and its five plugins work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "examples" / "acme-samplers"
STRATEGY = (
    "when acme.top_mass(3) < 0.9 { acme.quadratic(0.1) } | acme.steady(2.0)"
    " until acme.sentences(2) or eos or max_tokens(40)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it, built from a copy so that the tree stays as it is."""
    folder = tmp_path_factory.mktemp("acme")
    source, target = folder / "source", folder / "site"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    _run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, source)
    return target


def _run(*args: object, site: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
    env.pop("LOGITMILL_PLUGINS", None)
    if site is not None:
        env["PYTHONPATH"] = str(site)
    command = [sys.executable, *map(str, args)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result


def test_its_own_tests_pass(site: Path):
    result = _run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--confcutdir", PACKAGE, PACKAGE / "tests", site=site
    )  # fmt: skip
    assert " passed" in result.stdout


def test_it_is_found_and_works(site: Path):
    result = _run("-m", "logitmill", "plugins", "--check", "--json", site=site)
    found = {item["name"]: item for item in map(json.loads, result.stdout.splitlines())}
    assert found["acme_samplers"]["status"] == "loaded"
    assert found["acme_samplers"]["distribution"] == "acme-samplers"


def test_a_strategy_of_all_five_through_the_command_line(site: Path, tmp_path: Path):
    """On the default model: signal, processor and sampler act, the criterion ends, the observer notes."""
    journal = tmp_path / "journal.jsonl"
    args = (
        "-m",
        "logitmill",
        "run",
        "Tell me about the sea.",
        "--chat-template",
        "-s",
        STRATEGY,
        "--seed",
        "7",
        "--json",
    )
    first = json.loads(_run(*args, site=site, ACME_JOURNAL=str(journal)).stdout)
    again = json.loads(_run(*args, site=site).stdout)
    assert first["tokens"] == again["tokens"]
    assert first["strategy"].startswith(
        "when acme.top_mass(k=3) < 0.9 { acme.quadratic(factor=0.1) } | acme.steady until"
    )
    [noted] = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    assert noted["seed"] == 7
    assert noted["tokens"] == len(first["tokens"])
    assert noted["criterion"] == first["criterion"] in {"acme.sentences", "eos", "max_tokens"}
    assert noted["strategy_hash"] == first["strategy_hash"]


ENGINE = """
import json, logitmill as lm
strategy = lm.Strategy.parse({strategy!r}, trusted=False)
with lm.load() as engine:
    prompts = ["The sea", "A list of colors: red,", "Once upon a time"]
    results = engine.generate(prompts, strategy=strategy, seed=[3, 4, 5])
    alone = engine.generate("Once upon a time", strategy=strategy, seed=5, trace=True)
print(json.dumps({{
    "errors": [str(r.error) for r in results if r.error], "texts": [r.text for r in results],
    "stages": sorted({{stage.stage for step in alone.trace for stage in step.stages}}),
}}))
"""


def test_a_strategy_of_all_five_through_the_engine(site: Path, tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    result = _run("-c", ENGINE.format(strategy=STRATEGY), site=site, ACME_JOURNAL=str(journal))
    found = json.loads(result.stdout)
    assert found["errors"] == []
    assert all(found["texts"])
    assert {"when", "acme.steady"} <= set(found["stages"]) <= {"when", "acme.steady", "acme.quadratic"}
    assert len(journal.read_text("utf-8").splitlines()) == 4
