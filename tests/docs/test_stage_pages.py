"""The catalogue, ``logitmill stages``, the JSON Schema and the docs are one source and tell the same."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from logitmill import Strategy
from logitmill.core.dsl.fields import fields
from logitmill.core.dsl.schema import schema
from logitmill.core.registry import Entry, Registry
from logitmill.plugins.cli.main import commands
from logitmill.plugins.cli.stages import describe

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("logits processor", "sampler", "combinator", "search")


@pytest.fixture(scope="session")
def builtin(build: ModuleType) -> Registry:
    return build.builtin_registry()


@pytest.fixture(scope="session")
def pages(build: ModuleType) -> dict[str, str]:
    return build.built()


@pytest.fixture(scope="session")
def entries(builtin: Registry) -> list[Entry]:
    return [*builtin.entries.values(), *builtin.schedules.values()]


@pytest.fixture(scope="session")
def building(build: ModuleType) -> dict[str, ModuleType]:
    return {name.partition(".")[2]: module for name, module in sys.modules.items() if name.startswith("building.")}


def page_of(entry: Entry, pages: dict[str, str]) -> str:
    return pages[f"stages/{entry.name}{'-schedule' if entry.kind == 'schedule' else ''}.md"]


def tables(page: str) -> Iterator[list[list[str]]]:
    """The rows of each table of a page, heads left out, cells as text."""
    for block in re.findall(r"(?:^\|.*\n)+", page, re.M):
        rows = [re.split(r"(?<!\\) *\| *", line.strip("\n"))[1:-1] for line in block.splitlines()[2:]]
        yield [[cell.replace("\\|", "|").strip().strip("`") for cell in row] for row in rows]


def told_by_command() -> dict[tuple[str, str], dict[str, Any]]:
    lines = CliRunner().invoke(commands, ["stages", "--json"]).stdout.splitlines()
    return {(item["kind"], item["name"]): item for item in map(json.loads, lines)}


def schemas(registry: Registry) -> dict[str, dict[str, Any]]:
    """Stage -> the schema of its arguments, from the canonical forms."""
    defs = schema(registry)["$defs"]
    found = {}
    for form in [*defs["stage"]["anyOf"], *defs["test"]["anyOf"]]:
        reference = form.get("properties", {}).get("stage") or form.get("properties", {}).get("stop") or {}
        if "@" in "".join(reference.get("enum", [])):  # not the short form of ``stop``
            name = next(word for word in reference["enum"] if "@" not in word)
            found[name] = form["properties"].get("args", {"properties": {}})["properties"]
    return found


def test_the_four_name_the_same_stages(builtin: Registry, entries: list[Entry], pages: dict[str, str]) -> None:
    names = {(entry.kind, entry.name) for entry in entries}
    assert len(names) > 60
    assert {key for key in told_by_command() if key in names} == names
    assert set(schemas(builtin)) == {name for kind, name in names if kind in (*STEPS, "stopping criterion")}
    titles = {
        re.search(r"^# (.+)$", text, re.M)[1]
        for name, text in pages.items()
        if name.startswith("stages/") and name.endswith(".md")
    }
    assert titles == {name + (" (schedule)" if kind == "schedule" else "") for kind, name in names}
    linked = set(re.findall(r"\]\(stages/([\w.-]+)\.md\)", pages["stages.md"]))
    assert linked == {
        name.removeprefix("stages/")[:-3] for name in pages if name.startswith("stages/") and name.endswith(".md")
    }
    ramps = schema(builtin)["$defs"]["ramp"]["properties"]["by"]["enum"]
    assert sorted(ramps) == sorted(builtin.schedules)


def test_the_four_name_the_same_fields_ranges_defaults_and_dialects(
    builtin: Registry, entries: list[Entry], pages: dict[str, str]
) -> None:
    command, properties = told_by_command(), schemas(builtin)
    for entry in entries:
        known = fields(entry.load())
        told = command[entry.kind, entry.name]
        assert [field["name"] for field in told["fields"]] == list(known), entry.name
        found = list(tables(page_of(entry, pages)))
        rows = found.pop(0) if known else []
        for field, row in zip(told["fields"], rows, strict=True):
            default = "required" if field["required"] else field["default"]
            assert [row[0], row[2], row[3]] == [field["name"], field["range"], default], entry.name
            assert field["range"] == known[field["name"]].range
        assert [row[0] for row in (found.pop(0) if told["dialects"] else [])] == told["dialects"], entry.name
        if entry.name in properties and entry.name != "when" and entry.kind != "signal":
            holds_schema(properties[entry.name], known, told["dialects"], entry.name)


def holds_schema(properties: dict[str, Any], known: dict[str, Any], dialects: list[str], name: str) -> None:
    """The same fields, bounds and dialects as the registry has."""
    assert set(properties) == set(known) - {"block"}, name
    assert properties.get("dialect", {}).get("enum", []) == dialects, name
    for own, field in known.items():
        low, high = field.bounds
        text = json.dumps(properties.get(own, {}))
        if low is not None:
            assert f'"{"minimum" if low[1] else "exclusiveMinimum"}": {json.dumps(low[0])}' in text, (name, own)
        if high is not None:
            assert f'"{"maximum" if high[1] else "exclusiveMaximum"}": {json.dumps(high[0])}' in text, (name, own)


def test_every_stage_has_examples_and_they_are_legal(entries: list[Entry]) -> None:
    for entry in entries:
        written = entry.load().examples
        assert written, f"{entry.name} has no examples"
        for example in written:
            assert entry.name in example or entry.kind == "schedule", example
            text = f"sample until {example}" if entry.kind in ("stopping criterion", "signal") else example
            strategy = Strategy.parse(text)
            assert Strategy.parse(strategy.to_text()) == strategy


def test_every_stage_says_what_it_does_and_every_dialect_how_it_differs(entries: list[Entry]) -> None:
    for entry in entries:
        told = describe(entry)
        assert told["summary"].endswith((".", ":")), entry.name
        default = next((field["default"].strip('"') for field in told["fields"] if field["name"] == "dialect"), None)
        for dialect in told["dialects"]:
            assert dialect == default or len(told["differences"][dialect]) > 10, (entry.name, dialect)


def test_every_processor_and_sampler_has_a_picture_that_shows_something(
    entries: list[Entry], pages: dict[str, str], building: dict[str, ModuleType]
) -> None:
    for entry in entries:
        if entry.kind in ("logits processor", "sampler") or entry.name in ("mix", "product"):
            assert f"({entry.name}.svg)" in page_of(entry, pages), entry.name
            picture = building["pictures"].picture(entry)
            assert picture.changes or entry.kind == "sampler", f"the picture of {entry.name} shows no change"


def test_pictures_are_well_formed_and_of_whole_pixels(pages: dict[str, str]) -> None:
    drawn = {name: text for name, text in pages.items() if name.endswith(".svg")}
    assert len(drawn) > 20
    for name, text in drawn.items():
        root = ET.fromstring(text)
        for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
            for key in ("x", "y", "width", "height"):
                assert bar.attrib[key].isdecimal(), name
        assert "prefers-color-scheme: dark" in text


def test_no_bar_ends_so_near_between_two_pixels_that_another_processor_would_draw_it_otherwise(
    entries: list[Entry], building: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32 probabilities differ by some 1e-7 from one processor to another, which is 1e-5 of a bar's pixels."""
    svg, pictures = building["svg"], building["pictures"]
    near: list[float] = []

    def pixels(probability: float, scale: float) -> int:
        height = probability / scale * svg.HEIGHT
        near.append(abs(height - int(height) - 0.5))
        return 1

    monkeypatch.setattr(svg, "pixels", pixels)
    pictures._picture.cache_clear()
    for entry in entries:
        pictures.picture(entry)
    pictures._picture.cache_clear()
    assert len(near) > 1000
    assert min(near) > 5e-5, "change HEIGHT in docs/building/svg.py"


def test_the_same_bytes_from_numbers_that_differ_by_rounding(building: dict[str, ModuleType]) -> None:
    svg = building["svg"]
    exact = svg.Panel("a", [0.5, 0.3, 0.2], [1.0, 0.0, 0.0])
    rounded = svg.Panel("a", [0.50000006, 0.29999998, 0.19999999], [0.99999994, 1e-12, 0.0])
    assert svg.chart("x", [exact]) == svg.chart("x", [rounded])
    assert svg.chart('a "b" <c>', [exact]).count("&quot;") == 2
