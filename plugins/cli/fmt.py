"""``logitmill fmt``: a strategy in its canonical form, as text, YAML or JSON."""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path

import click

from ...core.errors import UsageError
from .inputs import add_plugins, names_file, piped, spoken
from .options import plugin_option
from .output import FAILED, note, text

#: the form of a file, by how its name ends; any other is text
FORMS = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}


@click.command(short_help="Write a strategy in its canonical form.")
@click.argument("strategy", metavar="[TEXT|FILE|-]", default="-")
@click.option("--write", is_flag=True, help="Change the file instead of printing.")
@click.option("--check", is_flag=True, help="Print nothing but what would change; exit status 1 where something would.")
@click.option("--to", type=click.Choice(["text", "json", "yaml"]), help="The form to print. Default: the form it has.")
@plugin_option
@click.pass_context
def command(
    ctx: click.Context, /, strategy: str, write: bool, check: bool, to: str | None, plugin: tuple[str, ...]
) -> None:
    """Print a strategy, given as text, as a file or on standard input, in its canonical form.

    Text keeps its comments, lets and uses. JSON and YAML are the document that the strategy's hash is taken from, with
    positional arguments named and defaults left out.
    """
    add_plugins(plugin)
    path = Path(strategy) if strategy != "-" and names_file(strategy) else None
    own = "text" if path is None else FORMS.get(path.suffix.lower(), "text")
    form = to or own
    if write and check:
        raise UsageError("--write changes the file and --check only looks: choose one")
    if write and path is None:
        raise UsageError("--write needs a file to write to")
    if write and form != own:
        raise UsageError(
            f"--write keeps the form of the file, {own}; to convert it: logitmill fmt {path} --to {form} > OTHER"
        )
    source = piped("strategy") if strategy == "-" else spoken(strategy, "the strategy") if path is None else ""
    before = _content(path) if path is not None else source.rstrip("\n") + "\n"
    after = _formatted(path, source, form)
    if check:
        if before != after and form == own:
            note(
                "".join(
                    difflib.unified_diff(
                        before.splitlines(True), after.splitlines(True), "as it is", "as fmt writes it"
                    )
                ).rstrip("\n")
            )
            ctx.exit(FAILED)
        return
    if not write or path is None:
        text(after)
    elif before != after:
        if own == "yaml" and re.search(r"(^|\s)#", before, re.MULTILINE):
            raise UsageError(f"--write would lose the comments of {path}: print it instead, and carry them over")
        _replace(path, after)
        note(f"changed {path}")


def _formatted(path: Path | None, source: str, form: str) -> str:
    """The canonical form, ending in a newline. Text to text needs no stage to be known."""
    from ...core.dsl import write
    from ...core.strategy import Strategy

    if form == "text":
        return write.format_file(path) if path is not None else write.format_text(source)
    strategy = Strategy.load(path) if path is not None else Strategy.parse(source)
    if form == "yaml":
        return write.to_yaml(strategy)
    return json.dumps(strategy.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _content(path: Path) -> str:
    """The file's text, "" where there is none that can be read, or read twice: what reads it next says so."""
    try:
        return path.read_text("utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _replace(path: Path, content: str) -> None:
    """Write all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(content, "utf-8", newline="")
        partial.chmod(path.stat().st_mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
