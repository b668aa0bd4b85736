"""``logitmill check``: errors, and warnings about what is legal and probably not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...core.errors import Span, StrategyError, UsageError
from .inputs import add_plugins, strategy_of, vocabulary_of
from .options import plugin_option
from .output import USAGE, json_line, line, note

if TYPE_CHECKING:
    from ...core.strategy import Strategy


@click.command(short_help="Check a strategy: its errors, and what was probably not meant.")
@click.argument("strategy", metavar="TEXT|FILE|-")
@click.option("--fragment", is_flag=True, help="A pipeline without a sampler is allowed.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave out warnings of this code. Repeatable.")
@click.option("-m", "--model", metavar="MODEL", help="Check it against this model's tokenizer too.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object with errors and warnings, placed for editors.")
@plugin_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    strategy: str,
    fragment: bool,
    ignore: tuple[str, ...],
    model: str | None,
    revision: str | None,
    as_json: bool,
    plugin: tuple[str, ...],
) -> None:
    """Check a strategy, given as text, as a file or on standard input ("-"). No model is needed.

    With --model, also what only a tokenizer can tell: strings that no tokens make, tokens that are removed. Its weights
    are not loaded. The exit status is 2 where the strategy is wrong, else 0: warnings do not change it.
    """
    add_plugins(plugin)
    _known_codes(ignore)
    try:
        found = _whole(strategy_of(strategy), fragment)
        warnings = _warnings(found, ignore, model, revision)
    except StrategyError as error:
        if not as_json:
            raise
        json_line({"ok": False, "error": _described(error, "error"), "warnings": []})
        ctx.exit(USAGE)
    if as_json:
        described = [_described(warning, "warning") for warning in warnings]
        json_line({"ok": True, "error": None, "warnings": described, "hash": found.hash})
        return
    for warning in warnings:
        note(str(warning))
    line("ok" if not warnings else f"ok, with {len(warnings)} warning{'s' * (len(warnings) > 1)}")


def _known_codes(ignore: tuple[str, ...]) -> None:
    from ...core.dsl.check import CODES

    for code in ignore:
        if code not in CODES:
            raise UsageError(f"no warning has the code {code!r}; there are {', '.join(CODES)}")


def _warnings(found: Strategy, ignore: tuple[str, ...], model: str | None, revision: str | None) -> list[Any]:
    from ...core.dsl.check import warnings

    return list(warnings(found, ignore, vocab=None if model is None else vocabulary_of(model, revision)))


def _whole(strategy: Strategy, fragment: bool) -> Strategy:
    """The strategy itself, after making sure that it could run."""
    from ...core.dsl.kinds import whole
    from ...core.patch import patched

    ready = patched(strategy)
    if not fragment:
        whole(ready)
    return strategy


def _described(fault: Any, severity: str) -> dict[str, Any]:
    """A fault for an editor. Lines and columns begin at 1, and an end is behind the last character."""
    where = fault.where
    place: dict[str, Any] = dict.fromkeys(("line", "column", "end_line", "end_column", "path"))
    if isinstance(where, Span):
        place |= {name: getattr(where, name) for name in ("line", "column", "end_line", "end_column")}
    elif where is not None:
        place["path"] = where.text
    place["file"] = None if where is None else where.file
    return {"severity": severity, "code": fault.code, "message": fault.message, "hint": fault.hint, **place}
