"""Syntax tree to expressions of signals. What reads no signal is worked out here and now."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ..errors import StrategyError
from ..expression import (
    FUNCTIONS,
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    Function,
    Inverse,
    Logic,
    Negative,
    Pattern,
    Read,
)
from . import syntax
from .fields import shown
from .scope import Scope

if TYPE_CHECKING:
    from .resolve import Resolver

_NUMBERS: dict[str, Callable[..., float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "min": min, "max": max, "clamp": lambda x, low, high: min(max(x, low), high), "exp": math.exp, "log": math.log,
}  # fmt: skip


def build(resolver: Resolver, node: syntax.Value, scope: Scope) -> Expression:
    """The expression of ``node``. Raises StrategyError at the part whose kind does not fit, or whose name is none."""
    bound = scope.param(node)
    with resolver.deeper(node.where, _height(node)):
        if bound is not None:
            return build(resolver, bound.value, bound.scope)
        try:
            made = _build(resolver, node, scope)
        except StrategyError as error:
            if error.where is not None:
                raise
            raise StrategyError(error.message, node.where, hint=error.hint, code=error.code) from None
        resolver.marks.note(made, node.where)
        return made


def _height(node: syntax.Value) -> int:
    """How many levels of an expression ``node`` is by itself: a + b + c is one in another."""
    if not isinstance(node, syntax.Chain):
        return 1
    plain = all(isinstance(part, syntax.Number) for part in (node.first, *(part for _, part in node.rest)))
    return 1 if plain else len(node.rest)


def _build(resolver: Resolver, node: syntax.Value, scope: Scope) -> Expression:
    match node:
        case syntax.Number() | syntax.Truth() | syntax.Text():
            return Constant(node.value)
        case syntax.ListOf():
            return Constant(_items(resolver, node, scope))
        case syntax.Minus():
            of = build(resolver, node.operand, scope)
            return Constant(-of.value) if _is_number(of) else Negative(of)  # type: ignore[attr-defined]
        case syntax.Chain():
            left = build(resolver, node.first, scope)
            for op, operand in node.rest:
                left = _folded(op, (left, build(resolver, operand, scope)), lambda a, b, op=op: Arithmetic(op, a, b))
            return left
        case syntax.Compare():
            return _comparison(resolver, node, scope)
        case syntax.Not():
            return Inverse(build(resolver, node.operand, scope))
        case syntax.Both():
            return _logic("and", [build(resolver, part, scope) for part in node.parts])
        case syntax.Either():
            return _logic("or", [build(resolver, part, scope) for part in node.parts])
        case syntax.Call():
            return _call(resolver, node, scope)
    raise StrategyError(
        f"{shown(node)} is no part of an expression", node.where, hint="numbers, signals and functions are", code="type"
    )


def _items(resolver: Resolver, node: syntax.ListOf, scope: Scope) -> tuple[float | str, ...]:
    items: list[float | str] = []
    for part in node.items:
        built = build(resolver, part, scope)
        value = built.value if isinstance(built, Constant) else None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise StrategyError(
                f"{shown(part)} in a list",
                part.where,
                hint="a list to compare with holds numbers or strings",
                code="type",
            )
        if items and isinstance(items[0], str) != isinstance(value, str):
            raise StrategyError(
                "numbers and strings in one list", part.where, hint="compare with one kind at a time", code="type"
            )
        items.append(value)
    return tuple(items)


def _comparison(resolver: Resolver, node: syntax.Compare, scope: Scope) -> Expression:
    left, right = build(resolver, node.left, scope), build(resolver, node.right, scope)
    if node.op == "~" and isinstance(right, Constant) and isinstance(right.value, str):
        try:
            right = Constant(Pattern(right.value))
        except StrategyError as error:
            raise StrategyError(error.message, node.right.where, hint=error.hint, code=error.code) from None
    return Comparison(node.op, left, right)


def _logic(op: Literal["and", "or"], parts: list[Expression]) -> Expression:
    items: list[Expression] = []
    for part in parts:
        items.extend(part.items if isinstance(part, Logic) and part.op == op else (part,))
    return Logic(op, tuple(items))


def _call(resolver: Resolver, node: syntax.Call, scope: Scope) -> Expression:
    name = node.name.text
    if name in FUNCTIONS:
        for arg in node.args:
            if arg.key is not None or arg.weight is not None:
                raise StrategyError(
                    f"'{name}' takes plain arguments", arg.where, hint=f"write {name}(a, b)", code="argument"
                )
        args = tuple(build(resolver, arg.value, scope) for arg in node.args)
        least, most, _ = FUNCTIONS[name]
        if not least <= len(args) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            plural = "" if wanted == "1" else "s"
            raise StrategyError(
                f"'{name}' takes {wanted} argument{plural}", node.where, hint=f"got {len(args)}", code="argument"
            )
        return _folded(name, args, lambda *parts: Function(name, parts))
    if name in scope.params:
        raise StrategyError(
            f"the parameter '{name}' takes no arguments", node.where, hint=f"write {name} alone", code="argument"
        )
    raw = name.startswith("raw.")
    inner = syntax.Word(name.removeprefix("raw."), where=node.name.where)
    entry = resolver.entry(inner, scope, ("signal",), (*FUNCTIONS, *scope.params))
    if entry.kind != "signal":
        where = "stands in 'until'" if entry.kind == "stopping criterion" else "stands in a pipeline"
        raise StrategyError(
            f"'{inner.text}' is a {entry.kind}, not a signal", node.name.where, hint=f"it {where}", code="kind"
        )
    signal: Any = resolver.make(entry, syntax.Call(inner, node.args, node.revision, where=node.where), scope)
    return Read(signal, raw)


def _folded(name: str, parts: tuple[Expression, ...], other: Callable[..., Expression]) -> Expression:
    """The number itself where all parts are numbers, else ``other(*parts)``."""
    if not all(_is_number(part) for part in parts):
        return other(*parts)
    values = [part.value for part in parts]  # type: ignore[attr-defined]
    try:
        value = _NUMBERS[name](*values)
    except (ArithmeticError, ValueError):
        value = math.nan
    if not math.isfinite(value) or (isinstance(value, int) and abs(value) >= 2**64):
        raise StrategyError(f"{name} of {' and '.join(map(str, values))} is no finite number", code="number")
    return Constant(value)


def _is_number(node: Expression) -> bool:
    return isinstance(node, Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
