"""``logitmill schema``: the JSON Schema of everything registered now, for editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ...core.errors import PluginError
from .inputs import add_plugins
from .options import plugin_option
from .output import json_line, note

if TYPE_CHECKING:
    from ...core.registry import Entry, Registry


@click.command(short_help="Print the JSON Schema of strategies, for editors.")
@plugin_option
def command(plugin: tuple[str, ...]) -> None:
    """Print the JSON Schema of strategies written as YAML or JSON, with every stage that is registered now.

    \b
    logitmill schema > strategy.schema.json
    # yaml-language-server: $schema=strategy.schema.json     (first line of a YAML strategy)
    """  # noqa: D301  # click's \b keeps the lines apart
    add_plugins(plugin)
    from ...core.dsl.schema import schema

    json_line(schema(_usable()), indent=2)


def _usable() -> Registry:
    """What is registered, but for stages that cannot be imported: each is said, the others are not held up."""
    from ...core.loader import registry
    from ...core.registry import Registry

    known = registry()
    return Registry(dict(_loading(known.entries)), dict(_loading(known.schedules)), known.presets)


def _loading(book: dict[str, Entry]) -> Iterator[tuple[str, Entry]]:
    for name, entry in book.items():
        try:
            entry.load()
        except PluginError as error:
            note(f"warning: {error}; it is left out")
        else:
            yield name, entry
