"""From Lark's tree to the syntax tree: one method a rule of ``grammar.lark``, without recursion."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from lark import Token
from lark.visitors import Transformer_NonRecursive

from ..errors import Span, StrategyError
from . import syntax
from .scan import unescape

Children = list[Any]  # tokens and finished nodes, in source order
Kind = TypeVar("Kind")
LARGEST = 2**64


class Builder(Transformer_NonRecursive[Token, Any]):
    """Builds the nodes of one text."""

    def __init__(self, text: str, file: str | None) -> None:
        super().__init__()
        self.text, self.file = text, file

    def _span(self, first: Token | syntax.Node, last: Token | syntax.Node) -> Span:
        return Span(self.text, _edges(first)[0], _edges(last)[1], self.file)

    def _over(self, children: Children) -> Span:
        return self._span(children[0], children[-1])

    def _word(self, token: Token) -> syntax.Word:
        return syntax.Word(str(token), where=self._span(token, token))

    # programs

    def bare_program(self, children: Children) -> syntax.Program:
        where = self._over(children)
        name = syntax.Word("main", where=where)
        return syntax.Program(None, (syntax.Let(name, (), children[0], where=where),), where=where)

    def file_program(self, children: Children) -> syntax.Program:
        version, items = children[1], children[2:]
        if str(version) != "1":
            raise StrategyError(
                f"unknown version 'dsl {version}'",
                self._span(version, version),
                hint="this is version 1: write 'dsl 1'",
                code="version",
            )
        return syntax.Program(1, tuple(items), where=self._over(children))

    def use(self, children: Children) -> syntax.Use:
        alias = self._word(children[3]) if len(children) == 4 else None
        return syntax.Use(self.string([children[1]]), alias, where=self._over(children))

    def let(self, children: Children) -> syntax.Let:
        params = children[2] if isinstance(children[2], tuple) else ()
        return syntax.Let(self._word(children[1]), params, children[-1], where=self._over(children))

    def params(self, children: Children) -> tuple[syntax.Param, ...]:
        return _all(children, syntax.Param)

    def param(self, children: Children) -> syntax.Param:
        default = children[2] if len(children) > 2 else None
        return syntax.Param(children[0], default, where=self._over([child for child in children if child is not None]))

    def strategy(self, children: Children) -> syntax.Body:
        stages: syntax.Body = children[0]
        keyword = children[1] if len(children) > 1 else ""
        until = children[2] if keyword == "until" else None
        return replace(stages, until=until, patches=_all(children, syntax.Patch), where=self._over(children))

    def pipeline(self, children: Children) -> syntax.Body:
        return syntax.Body(tuple(children[::2]), where=self._over(children))

    def nothing(self, children: Children) -> syntax.Body:
        return syntax.Body((), where=self._over(children))

    # stages

    def stage(self, children: Children) -> syntax.Stage:
        block = next(iter(_all(children, syntax.Block)), None)
        label = self._word(children[-1]) if isinstance(children[-1], Token) else None
        return syntax.Stage(children[0], block, label, where=self._over(children))

    def when(self, children: Children) -> syntax.When:
        otherwise = children[4] if len(children) == 5 else None
        return syntax.When(children[1], children[2], otherwise, where=self._over(children))

    def block(self, children: Children) -> syntax.Block:
        where = self._over(children)
        body = children[1] if len(children) == 3 else syntax.Body((), where=where)
        return syntax.Block(body, where=where)

    def patch(self, children: Children) -> syntax.Patch:
        return syntax.Patch(children[0], children[2], where=self._over(children))

    def path(self, children: Children) -> syntax.Word:
        text = "".join(child.text if isinstance(child, syntax.Word) else str(child) for child in children)
        return syntax.Word(text, where=self._over(children))

    def name(self, children: Children) -> syntax.Word:
        return syntax.Word("".join(children), where=self._over(children))

    def key(self, children: Children) -> syntax.Word:
        return self._word(children[0])

    def call(self, children: Children) -> syntax.Call:
        return syntax.Call(children[0], _all(children, syntax.Arg), where=self._over(children))

    def named(self, children: Children) -> syntax.Arg:
        return syntax.Arg(children[2], key=children[0], where=self._over(children))

    def weighted(self, children: Children) -> syntax.Arg:
        return syntax.Arg(children[2], weight=children[0], where=self._over(children))

    def positional(self, children: Children) -> syntax.Arg:
        return syntax.Arg(children[0], where=self._over(children))

    # values

    def ramp(self, children: Children) -> syntax.Ramp:
        by = children[6] if len(children) == 7 else None
        return syntax.Ramp(children[0], children[2], children[4], by, where=self._over(children))

    def either(self, children: Children) -> syntax.Either:
        parts = [part.parts if isinstance(part, syntax.Either) else (part,) for part in children[::2]]
        return syntax.Either(tuple(chain.from_iterable(parts)), where=self._over(children))

    def both(self, children: Children) -> syntax.Both:
        parts = [part.parts if isinstance(part, syntax.Both) else (part,) for part in children[::2]]
        return syntax.Both(tuple(chain.from_iterable(parts)), where=self._over(children))

    def negation(self, children: Children) -> syntax.Not:
        return syntax.Not(children[1], where=self._over(children))

    def comparison(self, children: Children) -> syntax.Compare:
        return syntax.Compare(str(children[1]), children[0], children[2], where=self._over(children))

    def chain(self, children: Children) -> syntax.Chain:
        rest = tuple((str(op), operand) for op, operand in zip(children[1::2], children[2::2], strict=True))
        first: syntax.Value = children[0]
        if isinstance(first, syntax.Chain) and (first.rest[0][0] in "+-") == (rest[0][0] in "+-"):
            return syntax.Chain(first.first, first.rest + rest, where=self._over(children))  # (a + b) + c is a + b + c
        return syntax.Chain(first, rest, where=self._over(children))

    def minus(self, children: Children) -> syntax.Value:
        operand, where = children[1], self._over(children)
        if isinstance(operand, syntax.Number):
            return syntax.Number(-operand.value, where=where)
        return syntax.Minus(operand, where=where)

    def number(self, children: Children) -> syntax.Number:
        where = self._over(children)
        literal = str(children[0])
        whole = literal.isdecimal()
        value = int(literal) if whole and len(literal) < 40 else float(literal)
        if value == float("inf") or (whole and value >= LARGEST):
            raise StrategyError(
                "a number too large",
                where,
                hint="whole numbers go up to 2^64 - 1, others up to 1.8e308",
                code="number",
            )
        return syntax.Number(value, where=where)

    def string(self, children: Children) -> syntax.Text:
        where = self._over(children)
        return syntax.Text(unescape(str(children[0]), self.text, where.start, self.file), where=where)

    def raw_string(self, children: Children) -> syntax.Text:
        return syntax.Text(str(children[0])[2:-1], raw=True, where=self._over(children))

    def true(self, children: Children) -> syntax.Truth:
        return syntax.Truth(True, where=self._over(children))

    def false(self, children: Children) -> syntax.Truth:
        return syntax.Truth(False, where=self._over(children))

    def list(self, children: Children) -> syntax.ListOf:
        return syntax.ListOf(
            tuple(child for child in children if not isinstance(child, Token)), where=self._over(children)
        )

    def map(self, children: Children) -> syntax.MapOf:
        return syntax.MapOf(_all(children, tuple), where=self._over(children))

    def pair(self, children: Children) -> tuple[syntax.Value, syntax.Value]:
        return children[0], children[2]

    def parenthesis(self, children: Children) -> syntax.Value:
        inner: syntax.Value = children[1]
        return replace(inner, where=self._over(children))


def _all(children: Children, kind: type[Kind]) -> tuple[Kind, ...]:
    return tuple(child for child in children if isinstance(child, kind))


def _edges(part: Token | syntax.Node) -> tuple[int, int]:
    if isinstance(part, Token):
        return part.start_pos or 0, part.end_pos or 0
    assert isinstance(part.where, Span)  # this builder makes no other
    return part.where.start, part.where.end
