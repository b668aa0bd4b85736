"""``logitmill plugins``: what is installed, and whether it works."""

from __future__ import annotations

import warnings
from typing import Any

import click

from .output import FAILED, columns, json_line, line, note


@click.command(short_help="List the installed plugins.")
@click.option("--check", is_flag=True, help="Import them all, and say which do not work.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each, one a line.")
@click.pass_context
def command(ctx: click.Context, /, check: bool, as_json: bool) -> None:
    """List the installed plugins; none is imported unless --check is given.

    LOGITMILL_PLUGINS=a,b allows just those besides the built-in ones (empty: none), LOGITMILL_STRICT_PLUGINS=1 makes a
    plugin's fault an error of every command. The exit status of --check is 1 where a plugin does not work.
    """
    found = account(check=check)
    if as_json:
        for item in found:
            json_line(item)
    else:
        keys = ("name", "distribution", "version", "status", "origin")
        for row in columns(
            [
                ("plugin", "package", "version", "status", "module"),
                *(tuple(item[key] for key in keys) for item in found),
            ]
        ):
            line(row)
        for item in found:
            if item["error"]:
                note(f"error: {item['error']}")
    if any(item["error"] for item in found):
        ctx.exit(FAILED)


def account(*, check: bool) -> list[dict[str, Any]]:
    """Every plugin as plain data. With ``check`` all are imported, every lazy stage too."""
    from ...core.loader import Plugins

    if not check:
        return [_described(plugin, []) for plugin in Plugins.found()]
    loading = Plugins(strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is shown with each plugin
        loading.discover()
    faults = loading.check()
    return [_described(plugin, faults.get(plugin.name, [])) for plugin in loading.met.values()]


def _described(plugin: Any, faults: list[str]) -> dict[str, Any]:
    error = plugin.error or (faults[0] if faults else None)
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "origin": plugin.origin,
        "builtin": plugin.builtin,
        "status": "failed" if error else plugin.status,
        "error": error,
    }
