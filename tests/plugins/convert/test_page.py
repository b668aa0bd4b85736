"""docs/convert.md: its tables are the converters' own. ``pytest --golden`` on this file writes them anew."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from logitmill.plugins.convert.peers import PEERS
from logitmill.plugins.convert.reading import Field

PAGE = Path(__file__).resolve().parents[3] / "docs" / "convert.md"
OTHERS = [name for name in PEERS if name != "logitmill"]


def default_of(field: Field) -> str:
    """What a document that does not have the field means by that."""
    if field.default is None:
        return ""
    shown = " ".join(field.default) if isinstance(field.default, tuple) else field.default
    text = json.dumps(shown, ensure_ascii=False) if not isinstance(shown, str) else shown
    return f"`{text}`".replace("\n", " ").replace("|", "\\|")


def grouped(fields: Mapping[str, Field], fate: str) -> list[str]:
    """Lines of ``reason: `a`, `b` ``."""
    reasons: dict[str, list[str]] = {}
    for name, field in fields.items():
        if field.fate == fate:
            reasons.setdefault(field.says, []).append(f"`{name}`")
    return [f"- {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def table(peer: str) -> str:
    """All fields of a peer, by what becomes of them."""
    fields: Mapping[str, Field] = importlib.import_module(f"logitmill.plugins.convert.{peer}").FIELDS
    rows = [
        f"| `{name}` | {field.says} | {default_of(field)} |"
        for name, field in fields.items()
        if field.fate == "carried"
    ]
    return "\n".join(
        [
            "| carried | as | default |", "|---|---|---|", *rows, "",
            "Not carried: an error, but at a value that does nothing.", "", *grouped(fields, "not carried"), "",
            "Without effect on decoding:", "", *grouped(fields, "no effect"),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("peer", OTHERS)
def test_the_tables_are_those_of_the_code(peer: str, request: pytest.FixtureRequest) -> None:
    begin, end = f"<!-- fields of {peer} -->\n\n", "\n\n<!-- end -->"
    text = PAGE.read_text("utf-8")
    before, found, rest = text.partition(begin)
    assert found, f"docs/convert.md has no {begin.strip()}"
    shown, found, behind = rest.partition(end)
    assert found, f"docs/convert.md has no {end.strip()} behind {begin.strip()}"
    if request.config.getoption("--golden"):
        PAGE.write_text(before + begin + table(peer) + end + behind, "utf-8")
        return
    assert shown == table(peer), "write it anew: pytest --golden tests/plugins/convert/test_page.py"


def test_each_peer_has_its_section() -> None:
    headings = re.findall(r"^## .*\(`(\w+)`\)$", PAGE.read_text("utf-8"), re.M)
    assert headings == OTHERS


def test_defaults_are_shown_as_json_has_them() -> None:
    some: list[tuple[Any, str]] = [
        (None, ""),
        (True, "`true`"),
        (0.95, "`0.95`"),
        (["\n"], '`["\\n"]`'),
        ("a\nb", "`a b`"),
    ]
    for default, shown in some:
        assert default_of(Field("carried", "", default)) == shown
