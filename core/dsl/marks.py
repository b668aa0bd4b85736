"""Where the parts of a strategy were written: its stages, their arguments, its expressions and what those are made of.

Parts are frozen values that know no place of their own, and equal ones may stand in several. So a part is found by
being the very object that was read: one that was changed since, or built in Python, has no mark.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import Where
from . import syntax


class Marks:
    """The places of one document's parts."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[object, Where, Mapping[str, syntax.Value]]] = {}

    def note(self, part: object, where: Where, args: Mapping[str, syntax.Value] | None = None) -> None:
        """``part`` was written at ``where``, its fields as ``args``. The first place that is told counts."""
        self._held.setdefault(id(part), (part, where, args or {}))

    def of(self, part: object, field: str | None = None, item: int | None = None) -> Where | None:
        """Where ``part`` was written, or its field, or one item of that; what holds it where that is not known."""
        found = self._held.get(id(part))
        if found is None or found[0] is not part:
            return None
        _, where, args = found
        value = args.get(field) if field is not None else None
        if value is None:
            return where
        if item is not None and isinstance(value, syntax.ListOf) and item < len(value.items):
            return value.items[item].where
        return value.where
