"""What a stage's field admits, and how to say so in words."""

from __future__ import annotations

import types as python_types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..expression import Expression, Pattern
from ..scalar import ScalarType, scalar_type
from ..stage import Stage
from ..strategy import Strategy
from . import render, syntax


@dataclass(frozen=True)
class Field:
    """One argument of a stage."""

    name: str
    annotation: Any
    metadata: tuple[Any, ...]
    required: bool
    default: Any

    def admits(self, kind: type) -> bool:
        """Whether a value of this type may stand in it, at any depth."""
        if kind is ScalarType:
            return scalar_type(self.annotation, self.metadata) is not None or any(
                scalar_type(p) for p in _parts(self.annotation)
            )
        return any(isinstance(part, type) and issubclass(part, kind) for part in _parts(self.annotation))

    @property
    def words(self) -> tuple[str, ...]:
        """The words it admits where it is a choice of some."""
        literals = [part for part in _parts(self.annotation) if get_origin(part) is Literal]
        return tuple(str(word) for literal in literals for word in get_args(literal))

    @property
    def wanted(self) -> str:
        """What it takes, in words."""
        return _wanted(self.annotation, self.metadata)

    @property
    def range(self) -> str:
        """Its bounds in words: ``from 0 to 1``, ``above 0``; nothing where there are none."""
        low, high = self.bounds
        if low is not None and high is not None and low[1] and high[1]:
            return f"from {render.number(low[0])} to {render.number(high[0])}"
        words = [f"{'at least' if low[1] else 'above'} {render.number(low[0])}"] if low is not None else []
        words += [f"{'at most' if high[1] else 'below'} {render.number(high[0])}"] if high is not None else []
        return " and ".join(words)

    @property
    def bounds(self) -> tuple[tuple[float, bool] | None, tuple[float, bool] | None]:
        """Least and greatest value, each with whether it is admitted itself."""
        found: dict[str, float] = {}
        for item in self.metadata:
            found.update(
                {key: getattr(item, key) for key in ("ge", "gt", "le", "lt") if getattr(item, key, None) is not None}
            )
        low = (found["ge"], True) if "ge" in found else (found["gt"], False) if "gt" in found else None
        high = (found["le"], True) if "le" in found else (found["lt"], False) if "lt" in found else None
        return low, high

    @property
    def weighted(self) -> bool:
        """Whether it is a sequence of blocks under weights, as ``mix`` has them."""
        item = self.item
        return get_origin(item) is tuple and len(get_args(item)) == 2 and get_args(item)[1] is Strategy

    @property
    def item(self) -> Any:
        """The type of its items where it is a sequence, else None."""
        for part in (self.annotation, *get_args(self.annotation)):
            if get_origin(part) is tuple and get_args(part)[-1:] == (Ellipsis,):
                return get_args(part)[0]
        return None

    @property
    def pairs(self) -> bool:
        """Whether it is a map: a sequence of pairs."""
        item = self.item
        return get_origin(item) is tuple and len(get_args(item)) == 2 and Ellipsis not in get_args(item)


@cache
def fields(stage: type[Stage]) -> dict[str, Field]:
    """The arguments of a stage, in the order in which positional ones fill them."""
    return {
        name: Field(
            name,
            info.annotation,
            tuple(info.metadata),
            info.is_required(),
            None if info.is_required() else info.get_default(call_default_factory=True),
        )
        for name, info in stage.model_fields.items()
    }


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _parts(part)


_PLAIN = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a string", Pattern: 'a pattern r"..."',
    Expression: "an expression of signals", Strategy: "a block { ... }",
}  # fmt: skip


def _wanted(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    own = next((item for item in metadata if isinstance(item, ScalarType)), None)
    if own is None and not get_args(annotation):
        own = scalar_type(annotation)
    if own is not None:
        return f"a {'whole ' if own.number is int else ''}number, a schedule or an expression"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _wanted(args[0], args[1:])
    if origin is Literal:
        return "one of " + ", ".join(str(word) for word in args)
    if origin in (Union, python_types.UnionType):
        return " or ".join(dict.fromkeys(_wanted(part) for part in args if part is not type(None)))
    if origin is tuple and args[-1:] == (Ellipsis,):
        inner = args[0]
        if get_origin(inner) is tuple and len(get_args(inner)) == 2:
            key, value = get_args(inner)
            return f"a map [{_wanted(key)}: {_wanted(value)}, ...]"
        return f"a list [{_wanted(inner)}, ...]"
    if origin is tuple:
        return "a list [" + ", ".join(_wanted(part) for part in args) + "]"
    return _PLAIN.get(annotation, "another value") if isinstance(annotation, type) else "another value"


def shown(node: syntax.Value) -> str:
    """A value as an error names it: ``the string "abc"``."""
    text = render.value(node)
    text = text if len(text) <= 40 else text[:37] + "..."
    match node:
        case syntax.Number():
            return f"the number {text}"
        case syntax.Text():
            return f"the string {text}"
        case syntax.ListOf():
            return f"the list {text}"
        case syntax.MapOf():
            return f"the map {text}"
        case syntax.Block():
            return "a block"
        case syntax.Ramp():
            return f"the schedule {text}"
        case syntax.Call() if not node.args:
            return f"the name {text}"
        case syntax.Truth():
            return text
    return f"the expression {text}"
