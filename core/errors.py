"""Every error that logitmill raises on purpose.

Each one says what was wrong, where, and what to do instead: ``str(error)`` is the whole message a person reads,
so nothing has to catch an error only to explain it.
"""

from __future__ import annotations

from dataclasses import dataclass


class LogitmillError(Exception):
    """The base of all of them."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of source text: offsets in characters, ``start`` inclusive and ``end`` exclusive."""

    source: str
    start: int
    end: int
    file: str | None = None

    @property
    def line(self) -> int:
        """1-based line of ``start``."""
        return self.source.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """1-based column of ``start``."""
        return self.start - (self.source.rfind("\n", 0, self.start) + 1) + 1

    @property
    def end_line(self) -> int:
        """1-based line of ``end``."""
        return self.source.count("\n", 0, self.end) + 1

    @property
    def end_column(self) -> int:
        """1-based column of ``end``: one past the last character."""
        return self.end - (self.source.rfind("\n", 0, self.end) + 1) + 1

    def excerpt(self, note: str = "") -> str:
        """The line of ``start`` with carets under the span, and ``note`` behind them."""
        begin = self.source.rfind("\n", 0, self.start) + 1
        stop = self.source.find("\n", self.start)
        line = self.source[begin : len(self.source) if stop < 0 else stop]
        offset, width = self.start - begin, max(1, min(self.end, begin + len(line)) - self.start)
        first = max(0, offset - 100)  # a long line is shown around the caret only
        shown = line[first : first + 160].expandtabs(1)
        return f"  | {shown}\n  | {' ' * (offset - first)}{'^' * min(width, 160)} {note}".rstrip()


@dataclass(frozen=True, slots=True)
class Path:
    """A place in a YAML or JSON document, or in a Python object: ``main.pipeline[1]``."""

    text: str
    file: str | None = None


Where = Span | Path


class StrategyError(LogitmillError, ValueError):
    """A strategy that cannot be accepted. ``code`` is stable, ``where`` a Span or a Path (None: built in Python)."""

    def __init__(self, message: str, where: Where | None = None, *, hint: str = "", code: str = "invalid") -> None:
        super().__init__(message)
        self.message, self.where, self.hint, self.code = message, where, hint, code

    @property
    def line(self) -> int | None:
        """1-based line, where the source is text."""
        return self.where.line if isinstance(self.where, Span) else None

    @property
    def column(self) -> int | None:
        """1-based column, where the source is text."""
        return self.where.column if isinstance(self.where, Span) else None

    def __str__(self) -> str:
        head = f"error: {self.message}"
        if isinstance(self.where, Span):
            place = f"\n  --> {self.where.file}:{self.where.line}:{self.where.column}" if self.where.file else ""
            return f"{head}{place}\n{self.where.excerpt(self.hint)}"
        at = ""
        if self.where is not None:
            at = f"\n  at {self.where.file + ': ' if self.where.file else ''}{self.where.text}"
        return head + at + (f"\n  {self.hint}" if self.hint else "")


class StageError(LogitmillError):
    """A stage raised while a row was being decoded. The row ends; its neighbours do not."""

    def __init__(self, message: str, *, stage: str, step: int, row: int, hint: str = "") -> None:
        super().__init__(f"{message} (stage {stage!r}, step {step}, row {row})" + (f": {hint}" if hint else ""))
        self.stage, self.step, self.row = stage, step, row


class NumericalError(StageError):
    """NaN, or no finite logit at all, from the model or from a stage."""


class ModelError(LogitmillError):
    """A model that cannot be found, read, placed or used."""


class RequestError(LogitmillError, ValueError):
    """A request that cannot be served as it stands: prompt too long, wrong types, too many rows."""


class PluginError(LogitmillError):
    """A plugin that cannot be loaded or registered, or two that claim one name."""


class UsageError(LogitmillError):
    """A command line that cannot be carried out."""
