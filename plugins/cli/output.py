"""What goes to a terminal: text to stdout, everything else to stderr, and errors as one message."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, TextIO

from ...core.errors import LogitmillError, StrategyError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

#: exit codes
FAILED, USAGE, INTERRUPTED = 1, 2, 130

#: width of a table where there is no terminal to ask
PIPED_WIDTH = 120


def prepare() -> None:
    """Make the streams ready: a character the terminal cannot show is replaced, warnings take one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not _unicode(stream):
            stream.reconfigure(errors="replace")
    warnings.showwarning = _warn


def _unicode(stream: Any) -> bool:
    return str(getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    note(f"warning: {message}")


def text(piece: str) -> None:
    """A piece of the result to stdout, at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()


def line(words: str = "") -> None:
    """A line of the result to stdout."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def json_line(value: Any, *, indent: int | None = None) -> None:
    """A JSON document on stdout; escaped where stdout could not show it."""
    import json

    line(json.dumps(value, ensure_ascii=not _unicode(sys.stdout), indent=indent, allow_nan=False))


def note(words: str) -> None:
    """A line beside the result, to stderr."""
    try:
        sys.stderr.write(words + "\n")
        sys.stderr.flush()
    except BrokenPipeError:  # a note nobody reads is not worth the result
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it lives as long as the process


def error(words: str) -> None:
    """An error's message to stderr; its first word in red on a terminal that wants colour."""
    if (
        words.startswith("error:")
        and sys.stderr.isatty()
        and "NO_COLOR" not in os.environ
        and os.environ.get("TERM") != "dumb"
    ):
        words = f"\033[1;31merror:\033[0m{words[len('error:') :]}"
    note(words)


def report(caught: Exception) -> int:
    """Tell a person about an error in one message. Returns the exit code."""
    if os.environ.get("LOGITMILL_DEBUG") == "1":
        import traceback

        traceback.print_exception(caught)
    if isinstance(caught, LogitmillError):
        words = str(caught)
        error(words if words.startswith("error:") else f"error: {words}")
        return USAGE if isinstance(caught, StrategyError | UsageError) else FAILED
    if isinstance(caught, OSError) and caught.filename is not None:
        error(f"error: {caught.filename}: {caught.strerror or type(caught).__name__}")
        return FAILED
    reason = str(caught).strip().splitlines()
    error(
        f"error: {type(caught).__name__}{': ' + reason[0] if reason else ''}\n"
        "  this should have been a clearer message, so it is a bug here or in a plugin; LOGITMILL_DEBUG=1 shows where"
    )
    return FAILED


def hush() -> None:
    """After a broken pipe: nothing more is written, not even when Python flushes stdout at its end."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it lives as long as the process
    try:
        os.dup2(sys.stdout.fileno(), 1)
    except OSError:  # no such descriptor: nothing left to flush to
        return


def console(*, stderr: bool = False) -> Console:
    """A rich console. rich itself respects NO_COLOR, TERM=dumb and terminals without Unicode."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False, soft_wrap=False)


def columns(rows: list[tuple[str, ...]], gap: int = 2) -> list[str]:
    """Rows of cells as lines with aligned columns; the last column is as wide as it is."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "".join(f"{cell:<{width + gap}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]
