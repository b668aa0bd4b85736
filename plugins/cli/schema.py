"""``logitmill schema``: the JSON Schema of everything registered now, so that an editor completes YAML and JSON strategies."""

from __future__ import annotations

import click

from .inputs import add_plugins
from .options import plugin_option
from .output import json_line


@click.command(short_help="Print the JSON Schema of strategies, for editors.")
@plugin_option
def command(plugin: tuple[str, ...]) -> None:
    """Print the JSON Schema of strategies written as YAML or JSON, with every stage that is registered now.

    \b
    logitmill schema > strategy.schema.json
    # yaml-language-server: $schema=strategy.schema.json     (first line of a YAML strategy)
    """  # noqa: D301  # click's \b keeps the lines apart
    add_plugins(plugin)
    from ...core.dsl.schema import json_schema

    json_line(json_schema(), indent=2)
