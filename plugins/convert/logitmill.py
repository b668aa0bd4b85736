"""logitmill itself: a strategy's text is its document."""

from __future__ import annotations

from typing import Any

from ...core.dsl.files import read_json
from ...core.strategy import Strategy
from .conversion import LeftOut


def read(source: Any, file: str | None = None) -> Strategy:
    """A strategy from itself, its dict, or its text or JSON; from ``file``, by its name, where there is one."""
    if file is not None:
        return Strategy.load(file)
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return Strategy.from_dict(read_json(source))
    return Strategy.of(source)


def imported(strategy: Strategy) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
    """The strategy as it is."""
    return strategy, [], []


def exported(strategy: Strategy) -> tuple[str, list[LeftOut]]:
    """Its canonical text."""
    return strategy.to_text(), []


def shown(document: str) -> str:
    """The text itself."""
    return document


__all__ = ["exported", "imported", "read", "shown"]
