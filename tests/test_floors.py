"""The floors: an import only ever goes down. pyproject.toml has the contracts; here they are held and shown to bite."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract for contract in SETTINGS["contracts"]}


def floors(contract: dict[str, Any]) -> list[set[str]]:
    """Full module names by floor, the highest first."""
    (container,) = contract["containers"]
    return [{f"{container}.{part.strip()}" for part in floor.split(":")} for floor in contract["layers"]]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("logitmill", exclude_type_checking_imports=True, cache_dir=None)


def climbs(graph: grimp.ImportGraph, contract: dict[str, Any]) -> set[str]:
    """Every direct import of a lower floor's module from a higher floor, as "importer -> imported"."""
    found = set()
    above: set[str] = set()
    for floor in floors(contract):
        inside = {name for package in floor for name in {package, *graph.find_descendants(package)}}
        for importer in inside:
            upward = graph.find_modules_directly_imported_by(importer) & above
            found |= {f"{importer} -> {imported}" for imported in upward}
        above |= inside
    return found


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_imports_go_down(graph: grimp.ImportGraph, contract: dict[str, Any]) -> None:
    assert climbs(graph, contract) == set(contract.get("ignore_imports", ()))


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_every_module_has_its_floor(graph: grimp.ImportGraph, contract: dict[str, Any]) -> None:
    (container,) = contract["containers"]
    assert graph.find_children(container) == set().union(*floors(contract)), "pyproject.toml: [tool.importlinter]"


@pytest.mark.parametrize(
    ("contract", "importer", "imported"),
    [
        ("rooms", "logitmill.core.stage", "logitmill.samplers"),
        ("rooms", "logitmill.stopping", "logitmill.plugins.cli"),
        ("core", "logitmill.core.dist", "logitmill.core.registry"),
        ("core", "logitmill.core.model.runner", "logitmill.core.engine"),
        ("core", "logitmill.core.dsl.parse", "logitmill.core.loop"),
    ],
)
def test_a_climb_is_seen(graph: grimp.ImportGraph, contract: str, importer: str, imported: str) -> None:
    assert {importer, imported} <= graph.modules
    graph.add_import(importer=importer, imported=imported)
    try:
        assert f"{importer} -> {imported}" in climbs(graph, CONTRACTS[contract])
    finally:
        graph.remove_import(importer=importer, imported=imported)
