"""Strategy back to a syntax tree, the canonical one: what is left at its default is not written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Path, StrategyError
from ..expression import Arithmetic, Comparison, Constant, Expression, Function, Inverse, Logic, Negative, Pattern, Read
from ..scalar import Ramp
from ..stage import Search, Stage
from ..strategy import AllOf, AnyOf, Not, Strategy, Test
from . import syntax
from .fields import Field, fields

_HERE = Path("a strategy built in Python")


def lower(strategy: Strategy, *, named: bool = False, defaults: bool = False) -> syntax.Body:
    """The tree of a strategy.

    As text is written: a stage's leading required arguments by place, the others by name. ``named`` writes all of them
    by name, as documents do; ``defaults`` writes also those that are left at their default. Raises StrategyError for a
    value no document can hold.
    """
    return _Lower(named, defaults).body(strategy)


def lower_stage(stage: Stage) -> syntax.Step:
    """The tree of one stage, as text is written."""
    return _Lower(named=False, defaults=False).step(stage, None)


def lower_test(test: Test) -> syntax.Value:
    """The tree of a stop test or an expression, as text is written."""
    return _Lower(named=False, defaults=False).test(test)


def lower_value(value: Any) -> syntax.Value:
    """The tree of a field's value, as documents write it."""
    return _Lower(named=True, defaults=False).value(value)


class _Lower:
    def __init__(self, named: bool, defaults: bool) -> None:
        self.named, self.defaults = named, defaults

    def body(self, strategy: Strategy) -> syntax.Body:
        stages = tuple(self.step(step.stage, step.label) for step in strategy.pipeline)
        until = self.test(strategy.stop) if strategy.stop is not None else None
        patches = tuple(
            syntax.Patch(_word(".".join(p.path)), self.value(p.value), where=_HERE) for p in strategy.patches
        )
        return syntax.Body(stages, until, patches, where=_HERE)

    def block(self, strategy: Strategy) -> syntax.Block:
        return syntax.Block(self.body(strategy), where=_HERE)

    def step(self, stage: Stage, label: str | None) -> syntax.Step:
        if stage.stage_name == "when" and {"test", "then"} <= set(type(stage).model_fields):
            if label is not None:
                raise StrategyError("a 'when' takes no label", hint="label the stages inside it", code="unwritable")
            written: Any = stage
            otherwise = self.block(written.orelse) if written.orelse is not None else None
            then = self.block(written.then)
            return syntax.When(self.value(written.test), then, otherwise, stage.revision, where=_HERE)
        call, block = self.call(stage, self.named)
        return syntax.Stage(call, block, _word(label) if label is not None else None, where=_HERE)

    def call(self, stage: Stage, named: bool) -> tuple[syntax.Call, syntax.Block | None]:
        """The call, and the block behind it."""
        args: list[syntax.Arg] = []
        block, by_place = None, not named
        for field in fields(type(stage)).values():
            by_place = by_place and field.required and not field.admits(Strategy)
            value = getattr(stage, field.name)
            if not field.required and not self.defaults and _same(value, field.default):
                continue
            if value is None:
                if field.required or field.default is not None:
                    message = f"'{field.name}' of '{stage.stage_name}' is None, which no document can say"
                    raise StrategyError(message, code="unwritable")
                continue
            if field.name == "block" and isinstance(value, Strategy):
                block = self.block(value)
            elif field.name == stage.variadic and (not named or field.admits(Strategy)):
                args += self.variadic(field, value)
            else:
                key = None if by_place else _word(field.name)
                args.append(syntax.Arg(self.field(field, value), key, where=_HERE))
        return syntax.Call(_word(stage.stage_name), tuple(args), stage.revision, where=_HERE), block

    def variadic(self, field: Field, value: Any) -> list[syntax.Arg]:
        """Positional arguments where they read back as the same, else the list under its name."""
        items = list(value)
        if field.weighted and items:
            return [syntax.Arg(self.block(block), weight=self.value(weight), where=_HERE) for weight, block in items]
        if field.pairs and items:
            return [syntax.Arg(self.field(field, value), where=_HERE)]
        if items and not any(isinstance(item, tuple) for item in items):
            return [syntax.Arg(self.value(item), where=_HERE) for item in items]
        return [syntax.Arg(self.field(field, value), _word(field.name), where=_HERE)]

    def field(self, field: Field, value: Any) -> syntax.Value:
        if field.pairs and isinstance(value, tuple) and value:
            return syntax.MapOf(tuple((self.value(key), self.value(item)) for key, item in value), where=_HERE)
        return self.value(value)

    def test(self, test: Test) -> syntax.Value:
        if isinstance(test, Not):
            return syntax.Not(self.test(test.tests[0]), where=_HERE)
        if isinstance(test, AnyOf):
            kind: type[syntax.Both | syntax.Either] = syntax.Both if isinstance(test, AllOf) else syntax.Either
            parts: list[syntax.Value] = []
            for part in map(self.test, test.tests):
                parts.extend(part.parts if isinstance(part, kind) else (part,))
            return kind(tuple(parts), where=_HERE)
        return self.value(test)

    def value(self, value: Any) -> syntax.Value:
        match value:
            case bool():
                return syntax.Truth(value, where=_HERE)
            case int() | float():
                return syntax.Number(value, where=_HERE)
            case str():
                return syntax.Text(value, where=_HERE)
            case Pattern():
                return syntax.Text(value.source, raw=True, where=_HERE)
            case Ramp():
                by = None if value.shape.stage_name == "linear" and not self.defaults else _word(value.shape.stage_name)
                ends = [self.value(part) for part in (value.start, value.end, value.over)]
                return syntax.Ramp(ends[0], ends[1], ends[2], by, where=_HERE)
            case Strategy():
                return self.block(value)
            case Expression():
                return self.expression(value)
            case Stage() if not isinstance(value, Search):
                return self.call(value, self.named)[0]
            case tuple() | list():
                return syntax.ListOf(tuple(self.value(item) for item in value), where=_HERE)
            case Mapping():
                return syntax.MapOf(tuple((self.value(k), self.value(v)) for k, v in value.items()), where=_HERE)
        inner = getattr(value, "expression", None)  # the Python face's operators wrap an expression
        if isinstance(inner, Expression):
            return self.expression(inner)
        raise StrategyError(f"{value!r} cannot be written in a document", code="unwritable")

    def expression(self, node: Expression) -> syntax.Value:
        match node:
            case Constant():
                return self.value(node.value)
            case Read():
                call = self.call(node.signal, named=False)[0]
                name = _word(("raw." if node.raw else "") + call.name.text)
                return syntax.Call(name, call.args, where=_HERE)
            case Negative():
                of = self.expression(node.of)
                return (
                    syntax.Number(-of.value, where=_HERE)
                    if isinstance(of, syntax.Number)
                    else syntax.Minus(of, where=_HERE)
                )
            case Arithmetic():
                left, right = self.expression(node.left), self.expression(node.right)
                if isinstance(left, syntax.Chain) and (left.rest[0][0] in "+-") == (node.op in "+-"):
                    return syntax.Chain(left.first, (*left.rest, (node.op, right)), where=_HERE)
                return syntax.Chain(left, ((node.op, right),), where=_HERE)
            case Comparison():
                return syntax.Compare(node.op, self.expression(node.left), self.expression(node.right), where=_HERE)
            case Inverse():
                return syntax.Not(self.expression(node.of), where=_HERE)
            case Logic():
                kind: type[syntax.Both | syntax.Either] = syntax.Both if node.op == "and" else syntax.Either
                parts: list[syntax.Value] = []
                for part in map(self.expression, node.items):
                    parts.extend(part.parts if isinstance(part, kind) else (part,))
                return kind(tuple(parts), where=_HERE) if len(parts) > 1 else parts[0]
            case Function():
                args = tuple(syntax.Arg(self.expression(arg), where=_HERE) for arg in node.args)
                return syntax.Call(_word(node.name), args, where=_HERE)
        raise StrategyError(f"{type(node).__name__} cannot be written in a document", code="unwritable")


def _same(value: Any, default: Any) -> bool:
    """Equal, and not merely as True equals 1."""
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)


def _word(text: str) -> syntax.Word:
    return syntax.Word(text, where=_HERE)
