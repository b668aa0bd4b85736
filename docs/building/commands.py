"""cli.md: every command's help."""

from __future__ import annotations

from collections.abc import Iterator

import click
from building.markdown import cell, paragraph, table

from logitmill.plugins.cli.main import BUILTIN, commands

WIDTH = 100


def cli_page() -> Iterator[str]:
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
        own = click.Context(command, parent, info_name=name, terminal_width=WIDTH, **command.context_settings)
        yield own.get_help().rstrip()
        yield "```"
        yield ""
