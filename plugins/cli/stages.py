"""``logitmill stages``: what a strategy can name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import PluginError, UsageError
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
TRAITS = ("monotone", "masks_only", "pointwise", "ranks_only", "stochastic")


@click.command(short_help="List what a strategy can name, or describe one stage.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each, one a line.")
@plugin_option
def command(name: str | None, as_json: bool, plugin: tuple[str, ...]) -> None:
    """List every stage, criterion, signal and schedule; with NAME describe one: formula, fields, ranges, source."""
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
    return {
        "name": entry.name,
        "kind": entry.kind,
        "revision": stage.revision,
        "plugin": entry.plugin,
        "usage": usage(entry.name, stage),
        "summary": " ".join(doc.partition("\n\n")[0].split()),
        "doc": doc,
        "fields": _fields(stage),
        "dialects": next((field["choices"] for field in _fields(stage) if field["name"] == "dialect"), []),
        "traits": [trait for trait in TRAITS if getattr(stage, trait)],
        "needs": sorted(stage.needs),
        "value": getattr(stage, "value_kind", None),
    }


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
    line("logitmill stages NAME says more: fields, ranges, defaults, source.")


def _show(item: dict[str, Any]) -> None:
    line(f"{item['usage']}    {item['kind']}, revision {item['revision']}, from plugin {item['plugin']}")
    line()
    for words in item["doc"].splitlines():
        line(f"  {words}".rstrip())
    if item["fields"]:
        line()
    for field in item["fields"]:
        head = f"{field['name']} (required)" if field["required"] else f"{field['name']} = {field['default']}"
        line(f"  {head}: {field['takes']}" + (f", {field['range']}" if field["range"] else ""))
        if field["description"]:
            line(f"      {field['description']}")
    facts = [
        ("value", item["value"] or ""),
        ("dialects", ", ".join(item["dialects"])),
        ("traits", ", ".join(item["traits"])),
        ("needs", ", ".join(item["needs"])),
    ]
    if any(words for _, words in facts):
        line()
    for what, words in facts:
        if words:
            line(f"  {what}: {words}")
