"""Write the pages that state facts about the code: stages.md, hooks.md, cli.md.

    python docs/build.py            write them anew
    python docs/build.py --check    say which are stale, with the head of the difference, and exit 1

Only what logitmill itself registers is written, whatever else is installed, so the pages are the same on every machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click

from logitmill.core.completion import Completion
from logitmill.core.hookspecs import Hooks
from logitmill.core.loader import Plugins
from logitmill.core.loop import StepEvent
from logitmill.core.model.spec import ModelSpec
from logitmill.core.registry import KINDS, Entry, Registry
from logitmill.core.request import Request
from logitmill.plugins.cli.main import BUILTIN, commands
from logitmill.plugins.cli.stages import HEADINGS, describe

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WIDTH = 100
NOTICE = "<!-- Written by docs/build.py from the code. Change the code, then run `make docs`. -->"
SHOWN = 20  # lines of a stale page's difference


def builtin_registry() -> Registry:
    """The names that logitmill itself registers."""
    with mock.patch.dict(os.environ, {"LOGITMILL_PLUGINS": ""}):
        loading = Plugins(strict=True)
        loading.discover()
    return loading.registry


# -- Markdown ----------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """Docstring text as Markdown: ``code`` to `code`, no accidental HTML, one line a paragraph."""
    pieces = re.split(r"(``.+?``)", " ".join(text.split()))
    return "".join(f"`{p[2:-2]}`" if p.startswith("``") else p.replace("<", r"\<") for p in pieces)


def paragraph(text: str) -> str:
    """Markdown as it stands, in one line."""
    return " ".join(text.split())


def cell(text: str) -> str:
    """The same inside a table."""
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


# -- stages.md ---------------------------------------------------------------------------------------------------------


def stages_page(registry: Registry) -> Iterator[str]:
    """Every stage, criterion, signal and schedule."""
    yield "# Stages"
    yield ""
    yield paragraph("""
        Everything a strategy can name, as `logitmill stages` and `logitmill stages NAME` print it. Arguments stand in
        the order in which positional ones fill them. *A schedule or an expression* means that `1.2 -> 0.6 over 64` and
        `0.3 + 0.2*entropy` may stand there ([language.md](language.md)). p is the distribution at that point of the
        pipeline, l its logits.
    """)
    yield ""
    for kind, heading in HEADINGS.items():
        entries = list(registry.of(kind))
        if entries:
            names = ", ".join(f"[{entry.name}](#{anchor(entry)})" for entry in entries)
            yield f"- [{heading}](#{heading.lower().replace(' ', '-')}): {names}"
    yield ""
    for kind, heading in HEADINGS.items():
        entries = list(registry.of(kind))
        if entries:
            yield f"## {heading}"
            yield ""
            for entry in entries:
                yield from stage_section(entry)


def anchor(entry: Entry) -> str:
    """A heading's anchor; ``step`` is a signal and a schedule, so a schedule says what it is."""
    return f"{entry.name}-schedule" if entry.kind == "schedule" else entry.name


def stage_section(entry: Entry) -> Iterator[str]:
    """One stage."""
    told = describe(entry)
    yield f"### {entry.name}{' (schedule)' if entry.kind == 'schedule' else ''}"
    yield ""
    usage = f"a -> b over n by {entry.name}" if entry.kind == "schedule" else told["usage"]
    yield f"`{usage}`, revision {told['revision']}"
    yield ""
    for paragraph in told["doc"].split("\n\n"):
        for part in re.split(r"\n(?=(?:Source|Dialects): )", paragraph):
            yield prose(re.sub(r"^(Source|Dialects):", r"*\1:*", part))
            yield ""
    rows = [
        (
            code(field["name"]), cell(field["takes"]), cell(field["range"]),
            "required" if field["required"] else code(field["default"]), cell(field["description"]),
        )
        for field in told["fields"]
    ]  # fmt: skip
    if rows:
        yield from table(("argument", "takes", "range", "default", "what it is"), rows)
    facts = [f"{what}: {', '.join(told[what])}" for what in ("dialects", "traits", "needs") if told[what]]
    if facts:
        yield "; ".join(facts)[:1].upper() + "; ".join(facts)[1:] + "."
        yield ""


# -- hooks.md ----------------------------------------------------------------------------------------------------------


def hooks_page(_: Registry) -> Iterator[str]:
    """Every hook specification."""
    yield "# Hooks"
    yield ""
    yield paragraph("""
        What a plugin may implement. A plugin is a module (or any object) with functions of these names under
        `@logitmill.hookimpl`, found by an entry point of the group `logitmill.plugins`, by `logitmill.register(module)`
        or by `--plugin FILE.py`; see [extending.md](extending.md). The strategy alone decides order; hooks discover and
        inform.
    """)
    yield ""
    yield prose(inspect.getdoc(Hooks) or "")
    yield ""
    rows = [(f"[`{name}`](#{name})", cell(first_line(hook)), code(KINDS.get(name, ""))) for name, hook in hooks()]
    yield from table(("hook", "for", "registers"), rows)
    for name, hook in hooks():
        yield f"## {name}"
        yield ""
        parameters = [p for p in inspect.signature(hook).parameters if p != "self"]
        yield f"    def {name}({', '.join(parameters)})"
        yield ""
        yield prose(inspect.getdoc(hook) or "")
        if name in TOLD:
            yield told(parameters[0], TOLD[name])
        options = getattr(hook, "logitmill_spec", {})
        if options.get("firstresult"):
            yield "The first answer that is not None counts; the plugins after it are not asked."
        if options.get("historic"):
            yield "A plugin that is registered late is told, too."
        if not called(name):
            yield "Nothing in this version calls it yet."
        yield ""


#: hook -> what it is given
TOLD: dict[str, type[Any]] = {
    "load_model": ModelSpec,
    "on_request": Request,
    "on_step": StepEvent,
    "on_finish": Completion,
}


def told(parameter: str, given: type[Any]) -> str:
    """What a hook is given, with its fields."""
    names = ", ".join(f"`{field.name}`" for field in dataclasses.fields(given) if field.repr)
    doc = prose((inspect.getdoc(given) or "").partition("\n\n")[0])
    return f"`{parameter}` is a `{given.__name__}`: {doc[:1].lower()}{doc[1:].rstrip('.')}. Its fields: {names}."


def hooks() -> list[tuple[str, Callable[..., Any]]]:
    """(name, specification) in the order of the source."""
    return [(name, hook) for name, hook in vars(Hooks).items() if not name.startswith("_")]


def first_line(hook: Callable[..., Any]) -> str:
    return (inspect.getdoc(hook) or "").split("\n\n")[0]


def called(hook: str) -> bool:
    """Whether anything in core or the plugins names the hook, besides its specification."""
    files = [
        file
        for room in ("core", "plugins")
        for file in (ROOT / room).rglob("*.py")
        if file.name not in ("hookspecs.py", "hooks.py")
    ]
    return any(re.search(rf"(hook\.|\"){hook}\b", file.read_text("utf-8")) for file in files)


# -- cli.md ------------------------------------------------------------------------------------------------------------


def cli_page(_: Registry) -> Iterator[str]:
    """Every command's help."""
    yield "# The command line"
    yield ""
    yield paragraph("""
        `logitmill` and `python -m logitmill` are the same program. Text goes to standard output, everything else to
        standard error. Exit status: 0; 2 for a wrong strategy or usage; 1 for a failed run; 130 after Ctrl-C.
        `LOGITMILL_DEBUG=1` shows where an error came from.
    """)
    yield ""
    yield from table(
        ("command", "what it does"),
        [(f"[`{name}`](#logitmill-{name})", cell(words)) for name, words in BUILTIN.items()],
    )
    parent = click.Context(commands, info_name="logitmill", terminal_width=WIDTH, **commands.context_settings)
    for name in BUILTIN:
        command = commands.get_command(parent, name)
        assert command is not None, f"the command {name!r} cannot be found: is logitmill installed?"
        yield f"## logitmill {name}"
        yield ""
        yield "```text"
        yield click.Context(command, parent, info_name=name, terminal_width=WIDTH).get_help().rstrip()
        yield "```"
        yield ""


# -- writing -----------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[Registry], Iterator[str]]] = {
    "stages.md": stages_page,
    "hooks.md": hooks_page,
    "cli.md": cli_page,
}


def built() -> dict[str, str]:
    """Every generated page's name and text."""
    registry = builtin_registry()
    return {name: f"{NOTICE}\n\n" + "\n".join(page(registry)).rstrip() + "\n" for name, page in PAGES.items()}


def stale(folder: Path = DOCS) -> dict[str, str]:
    """Pages that are not what the code says now, each with the difference."""
    found = {}
    for name, text in built().items():
        file = folder / name
        held = file.read_text("utf-8") if file.is_file() else ""
        if held != text:
            lines = difflib.unified_diff(
                held.splitlines(), text.splitlines(), f"docs/{name}", "as the code has it", lineterm=""
            )
            found[name] = "\n".join(list(lines)[:SHOWN])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a page is stale")
    if parser.parse_args().check:
        outdated = stale()
        for name, difference in outdated.items():
            print(f"docs/{name} is stale: run `make docs`\n{difference}\n", file=sys.stderr)
        return 1 if outdated else 0
    for name, text in built().items():
        (DOCS / name).write_text(text, "utf-8", newline="\n")
        print(f"docs/{name}: {len(text.splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
