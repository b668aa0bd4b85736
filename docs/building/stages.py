"""stages.md and stages/NAME.md: everything a strategy can name, as ``describe`` and the registry have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

from building.markdown import cell, code, paragraph, passage, prose, table
from building.pictures import OUTPUT, PROMPT, SEED, TOKENS, Picture, picture

from logitmill.core.loader import Plugins
from logitmill.core.registry import Entry, Registry
from logitmill.plugins.cli.stages import HEADINGS, describe


def builtin_registry() -> Registry:
    """The names that logitmill itself registers."""
    with mock.patch.dict(os.environ, {"LOGITMILL_PLUGINS": ""}):
        loading = Plugins(strict=True)
        loading.discover()
    return loading.registry


def slug(entry: Entry) -> str:
    """The name of a page's file; ``step`` is a signal and a schedule, so a schedule says what it is."""
    return f"{entry.name}-schedule" if entry.kind == "schedule" else entry.name


def entries(registry: Registry) -> list[Entry]:
    """Every entry, kind by kind."""
    return [entry for kind in HEADINGS for entry in registry.of(kind)]


def index(registry: Registry) -> Iterator[str]:
    """stages.md: a line for each."""
    yield "# Stages"
    yield ""
    yield paragraph("""
        Everything a strategy can name, as `logitmill stages` and `logitmill stages NAME` print it. Each has a page with
        its formula, source, arguments, edge cases and dialects. Which of them stands for which of transformers'
        processors is told in [transformers.md](transformers.md), and how each was held against other engines in
        [parity.md](parity.md).
    """)
    yield ""
    for kind, heading in HEADINGS.items():
        found = list(registry.of(kind))
        if found:
            yield f"## {heading}"
            yield ""
            rows = [(f"[`{entry.name}`](stages/{slug(entry)}.md)", cell(describe(entry)["summary"])) for entry in found]
            yield from table(("name", "what it does"), rows)


def page(entry: Entry) -> Iterator[str]:
    """stages/NAME.md."""
    told = describe(entry)
    yield f"# {entry.name}{' (schedule)' if entry.kind == 'schedule' else ''}"
    yield ""
    yield f"`{usage(entry, told)}`: {told['kind']}, revision {told['revision']}"
    yield ""
    for part in (told["summary"], *told["details"]):
        yield passage(part)
        yield ""
    if told["source"]:
        yield f"*Source:* {prose(told['source'])}"
        yield ""
    drawn = picture(entry)
    if drawn is not None:
        yield from shown(entry, drawn)
    if told["fields"]:
        yield from arguments(told["fields"])
    if told["dialects"]:
        yield from dialects(told)
    yield from examples(told["examples"])
    facts = [f"{what}: {', '.join(told[what])}" for what in ("traits", "needs") if told[what]]
    facts += [f"value: a {told['value']}"] if told["value"] else []
    if facts:
        yield ("; ".join(facts) + ".").capitalize() if len(facts) == 1 else _sentence("; ".join(facts))
        yield ""
    yield "[All stages](../stages.md)"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def usage(entry: Entry, told: dict[str, Any]) -> str:
    """How it is written, all arguments told."""
    return f"a -> b over n by {entry.name}" if entry.kind == "schedule" else str(told["usage"])


def shown(entry: Entry, drawn: Picture) -> Iterator[str]:
    """The picture and its caption."""
    yield f"![{entry.name} on a peaked and a flat distribution]({slug(entry)}.svg)"
    yield ""
    after = "the law it draws from" if entry.kind == "sampler" else "after"
    words = f"`{drawn.example}` on {TOKENS} tokens, by id. Grey: before; blue: {after}."
    if drawn.reads_history:
        prompt, output = (" ".join(map(str, ids)) for ids in (PROMPT, OUTPUT))
        words += f" The prompt is {prompt}, the output so far {output}."
    if drawn.draws and entry.kind != "sampler":
        words += f" Seed {SEED}."
    if not drawn.changes and entry.kind != "sampler":
        words += " Here it has nothing to change."
    yield words
    yield ""


def arguments(fields: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Arguments"
    yield ""
    yield paragraph("""
        In the order in which positional ones fill them. *A schedule or an expression* means that `1.2 -> 0.6 over 64`
        and `0.3 + 0.2*entropy` may stand there ([language.md](../language.md)).
    """)
    yield ""
    rows = [
        (
            code(field["name"]), cell(field["takes"]), cell(field["range"]),
            "required" if field["required"] else code(field["default"]), cell(field["description"]),
        )
        for field in fields
    ]  # fmt: skip
    yield from table(("argument", "takes", "range", "default", "what it is"), rows)


def dialects(told: dict[str, Any]) -> Iterator[str]:
    yield "## Dialects"
    yield ""
    default = next(field["default"].strip('"') for field in told["fields"] if field["name"] == "dialect")
    rows = []
    for name in told["dialects"]:
        words = cell(told["differences"].get(name, ""))
        own = f"the default{': ' if words else ''}" if name == default else ""
        rows.append((code(name), own + words))
    yield from table(("dialect", "what it does differently"), rows)


def examples(written: list[str]) -> Iterator[str]:
    if written:
        yield "## Examples"
        yield ""
        yield from (f"    {example}" for example in written)
        yield ""


def files(registry: Registry) -> Iterator[tuple[str, str]]:
    """(name, text) of the index, the pages and the pictures; pages without the notice that generated ones bear."""
    yield "stages.md", "\n".join(index(registry))
    for entry in entries(registry):
        yield f"stages/{slug(entry)}.md", "\n".join(page(entry))
        drawn = picture(entry)
        if drawn is not None:
            yield f"stages/{slug(entry)}.svg", drawn.svg
