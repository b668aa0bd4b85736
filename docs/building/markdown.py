"""Markdown from the words of docstrings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator


def prose(text: str) -> str:
    """Docstring text as Markdown: ``code`` to `code`, no accidental HTML, one line a paragraph."""
    pieces = re.split(r"(``.+?``)", " ".join(text.split()))
    return "".join(f"`{p[2:-2]}`" if p.startswith("``") else p.replace("<", r"\<").replace("*", r"\*") for p in pieces)


def passage(text: str) -> str:
    """A docstring's paragraph: prose, or a block where it has indented lines, a formula for instance."""
    lines = text.splitlines()
    if not any(line.startswith(" ") for line in lines):
        return prose(text)
    return textwrap.indent(textwrap.dedent(text), "    ")


def paragraph(text: str) -> str:
    """Markdown as it stands, in one line."""
    return " ".join(text.split())


def cell(text: str) -> str:
    """Prose inside a table."""
    return prose(text).replace("|", r"\|")


def code(text: str) -> str:
    """A value as code inside a table."""
    return f"`{text}`".replace("|", r"\|") if text else ""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |".replace("|  |", "| |")
    yield ""
