"""hooks.md: every hook specification."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from building.markdown import cell, code, paragraph, prose, table

from logitmill.core.completion import Completion
from logitmill.core.hookspecs import Hooks
from logitmill.core.loop import StepEvent
from logitmill.core.model.spec import ModelSpec
from logitmill.core.registry import KINDS
from logitmill.core.request import Request

ROOT = Path(__file__).resolve().parents[2]


def hooks_page() -> Iterator[str]:
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
