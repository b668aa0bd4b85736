"""A warning of the language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import Span, Where


@dataclass(frozen=True)
class StrategyWarning:
    """One thing to look at. ``where`` is a Span or Path, None for a strategy built in Python."""

    code: str
    message: str
    where: Where | None = None
    hint: str = ""

    def __str__(self) -> str:
        head = f"warning: {self.message} [{self.code}]"
        if isinstance(self.where, Span):
            return f"{head}\n{self.where.excerpt(self.hint)}"
        at = f"\n  at {self.where.text}" if self.where is not None else ""
        return head + at + (f"\n  {self.hint}" if self.hint else "")


#: what a check yields
Found = Iterator[StrategyWarning]

__all__ = ["Found", "StrategyWarning"]
