"""``logitmill stages``: what there is to say about each registered name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from logitmill.core.loader import registry
from logitmill.plugins.cli.stages import HEADINGS

Run = Callable[..., Result]


def test_every_registered_name_is_listed_under_its_kind(logitmill: Run):
    result = logitmill("stages")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, found = "", set()
    kinds = {heading: kind for kind, heading in HEADINGS.items()}
    for line in result.stdout.splitlines():
        if line in kinds:
            heading = kinds[line]
        elif line.startswith("  "):
            found.add((heading, line.split()[0]))
    known = [*registry().entries.values(), *registry().schedules.values()]
    assert found == {(entry.kind, entry.name) for entry in known}


def test_each_says_what_it_does_and_where_from(logitmill: Run):
    items = [json.loads(line) for line in logitmill("stages", "--json").stdout.splitlines()]
    assert len(items) > 40
    for item in items:
        assert item["summary"], item["name"]
        assert item["plugin"] in {"samplers", "stopping"}
        for field in item["fields"]:
            assert field["takes"] != "another value", (item["name"], field["name"])


@pytest.mark.parametrize("name", ["top_p", "temperature@1", "bias", "best_of", "stop", "entropy", "cosine"])
def test_one_stage(name: str, logitmill: Run, golden: Callable[[str, str], None]):
    result = logitmill("stages", name)
    assert (result.exit_code, result.stderr) == (0, "")
    golden(result.stdout, f"stages/{name.partition('@')[0]}.txt")


def test_one_stage_as_json(logitmill: Run):
    item = json.loads(logitmill("stages", "top_p", "--json").stdout)
    assert (item["name"], item["kind"], item["revision"]) == ("top_p", "logits processor", 1)
    field = item["fields"][0]
    assert (field["name"], field["range"], field["required"]) == ("p", "from 0 to 1", True)
    assert item["traits"][0] == "monotone"


def test_a_stage_that_cannot_be_imported_is_said(
    installed: Callable[..., Path], fresh: SimpleNamespace, logitmill: Run
):
    source = (
        "from logitmill import hookimpl\n@hookimpl\ndef register_signals(register):\n"
        "    register('nowhere_either:X', name='acme.x')\n"
    )
    installed("acme", {"stages_hooks": source}, plugins={"acme": "stages_hooks"})
    fresh.discover()
    listed = logitmill("stages")
    assert listed.exit_code == 0
    assert "acme.x" not in listed.stdout
    assert listed.stderr.startswith("warning: plugin 'acme': 'acme.x' cannot be imported")
    one = logitmill("stages", "acme.x")
    assert (one.exit_code, one.stdout) == (1, "")
