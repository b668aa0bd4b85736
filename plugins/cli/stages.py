"""``logitmill stages``: what a strategy can name."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import PluginError, UsageError
from .docstrings import differences, parts
from .inputs import add_plugins
from .options import plugin_option
from .output import json_line, line, note

if TYPE_CHECKING:
    from ...core.registry import Entry
    from ...core.stage import Stage

#: the kinds in the order they are listed, and their headings
HEADINGS = {
    "logits processor": "Logits processors",
    "sampler": "Samplers",
    "combinator": "Combinators",
    "search": "Searches",
    "stopping criterion": "Stopping criteria",
    "signal": "Signals",
    "schedule": "Schedules",
}
WIDTH = 116  # of a paragraph
TRAITS = ("monotone", "masks_only", "pointwise", "ranks_only", "stochastic")


@click.command(short_help="List what a strategy can name, or describe one stage.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each, one a line.")
@plugin_option
def command(name: str | None, as_json: bool, plugin: tuple[str, ...]) -> None:
    """List every stage, criterion, signal and schedule.

    With NAME describe one: formula, arguments, ranges, source, dialects and examples.
    """
    add_plugins(plugin)
    from ...core.loader import registry

    known = registry()
    if name is None:
        entries = [entry for kind in HEADINGS for entry in known.of(kind)]
        found = [described for entry in entries if (described := _described(entry)) is not None]
        if as_json:
            for described in found:
                json_line(described)
        else:
            _list(found)
        return
    plain = name.partition("@")[0]
    entry = known.find(plain) or known.schedule(plain)
    if entry is None:
        near = known.near(plain)
        raise UsageError(
            f"no stage {plain!r} is registered"
            + (f"; did you mean {near!r}?" if near else "; logitmill stages lists them")
        )
    described = describe(entry)
    if as_json:
        json_line(described, indent=2)
    else:
        _show(described)


def _described(entry: Entry) -> dict[str, Any] | None:
    """One for the list; a stage that cannot be imported is said and left out."""
    try:
        return describe(entry)
    except PluginError as error:
        note(f"warning: {error}; it is left out")
        return None


def describe(entry: Entry) -> dict[str, Any]:
    """Everything there is to say about a registered name, as plain data. Raises PluginError where it has no class."""
    stage = entry.load()
    doc = inspect.getdoc(stage) or ""
    told, fields = parts(doc), _fields(stage)
    dialects: list[str] = next((field["choices"] for field in fields if field["name"] == "dialect"), [])
    return {
        "name": entry.name,
        "kind": entry.kind,
        "revision": stage.revision,
        "plugin": entry.plugin,
        "usage": usage(entry.name, stage),
        "summary": told.summary,
        "doc": doc,
        "details": list(told.details),
        "source": told.source,
        "fields": fields,
        "dialects": dialects,
        "differences": _differences(stage, told.dialects, dialects),
        "examples": list(stage.examples),
        "traits": [trait for trait in TRAITS if getattr(stage, trait)],
        "needs": sorted(stage.needs),
        "value": getattr(stage, "value_kind", None),
    }


def _differences(stage: type[Stage], told: str, dialects: list[str]) -> dict[str, str]:
    """dialect -> what it does differently, from the docstring, else from the field's own description."""
    if not dialects:
        return {}
    field = stage.model_fields["dialect"]
    default = str(field.default)
    return differences(field.description or "", dialects, default) | differences(told, dialects, default)


def usage(name: str, stage: type[Stage]) -> str:
    """The stage as it is written: ``top_p(p, min_keep=1)``, ``best_of(n, by=mean_logprob) { ... }``."""
    from ...core.dsl.fields import fields

    found = fields(stage)
    words = [
        own if field.required else f"{own}={_value(field.default)}" for own, field in found.items() if own != "block"
    ]
    return name + (f"({', '.join(words)})" if words else "") + (" { ... }" if "block" in found else "")


def _fields(stage: type[Stage]) -> list[dict[str, Any]]:
    from ...core.dsl.fields import fields

    return [
        {
            "name": name,
            "takes": field.wanted,
            "range": field.range,
            "choices": list(field.words),
            "required": field.required,
            "default": None if field.required else _value(field.default),
            "description": stage.model_fields[name].description or "",
        }
        for name, field in fields(stage).items()
    ]


def _value(value: Any) -> str:
    """A default as the language writes it; what has no spelling there is "none"."""
    from ...core.dsl import render
    from ...core.dsl.lower import lower_value

    return "none" if value is None else render.value(lower_value(value))


def _list(found: list[dict[str, Any]]) -> None:
    width = max((len(item["name"]) for item in found), default=0)
    for kind, heading in HEADINGS.items():
        items = [item for item in found if item["kind"] == kind]
        if not items:
            continue
        line(heading)
        for item in items:
            line(f"  {item['name']:<{width}}  {item['summary']}")
        line()
    line("logitmill stages NAME says more: arguments, ranges, source, dialects, examples.")


def _show(item: dict[str, Any]) -> None:
    line(f"{item['usage']}    {item['kind']}, revision {item['revision']}, from plugin {item['plugin']}")
    for block in (*_told(item), _arguments(item["fields"]), _dialects(item), _examples(item), _facts(item)):
        if block:
            line()
        for words in block:
            line(f"  {words}".rstrip())


def _told(item: dict[str, Any]) -> list[list[str]]:
    """The docstring's paragraphs and its source, each with its lines."""
    source = [f"Source: {item['source']}"] if item["source"] else []
    return [_wrapped(paragraph) for paragraph in (item["summary"], *item["details"], *source)]


def _wrapped(paragraph: str) -> list[str]:
    """Lines of a paragraph; one with indented lines, a list or a formula, stays as it is."""
    if any(words.startswith(" ") for words in paragraph.splitlines()):
        return paragraph.splitlines()
    return textwrap.wrap(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)


def _arguments(fields: list[dict[str, Any]]) -> list[str]:
    made = []
    for field in fields:
        head = f"{field['name']} (required)" if field["required"] else f"{field['name']} = {field['default']}"
        made.append(f"{head}: {field['takes']}" + (f", {field['range']}" if field["range"] else ""))
        if field["description"]:
            made.append(f"    {field['description']}")
    return made


def _dialects(item: dict[str, Any]) -> list[str]:
    """What each does differently, one a line."""
    default = next((field["default"].strip('"') for field in item["fields"] if field["name"] == "dialect"), "")
    names = [f"{name} (default)" if name == default else name for name in item["dialects"]]
    told = [item["differences"].get(name, "") for name in item["dialects"]]
    lines = [f"    {name}: {words}" if words else f"    {name}" for name, words in zip(names, told, strict=True)]
    return ["dialects:", *lines] if lines else []


def _examples(item: dict[str, Any]) -> list[str]:
    return ["examples:", *(f"    {example}" for example in item["examples"])] if item["examples"] else []


def _facts(item: dict[str, Any]) -> list[str]:
    facts = (("value", item["value"] or ""), *((what, ", ".join(item[what])) for what in ("traits", "needs")))
    return [f"{what}: {words}" for what, words in facts if words]
