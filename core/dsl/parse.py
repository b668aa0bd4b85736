"""Text to syntax tree."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..errors import Span, StrategyError
from . import scan, syntax

if TYPE_CHECKING:
    from lark import Lark


def parse_program(text: str, file: str | None = None) -> syntax.Program:
    """The tree of a whole document: a bare strategy, or ``dsl 1`` with its ``use`` and ``let`` items.

    ``file`` is only named in errors. Raises StrategyError at the first mistake, and for a text over 64 KB or nested
    deeper than 64.
    """
    text = scan.normalise(text, file)
    if all(line.isspace() or not line or line.lstrip()[0] == "#" for line in text.split("\n")):
        raise StrategyError(
            "the text is empty", Span(text, len(text), len(text), file), hint="the least is 'sample'", code="empty"
        )
    program = _tree(text, file, "program")
    assert isinstance(program, syntax.Program)
    return syntax.Program(program.version, program.items, scan.comments(text, file), where=program.where)


def parse_expression(text: str, file: str | None = None) -> syntax.Value:
    """The tree of one value: a test such as ``entropy < 0.4``, a number, a list, a schedule."""
    value: syntax.Value = _tree(scan.normalise(text, file), file, "value")
    return value


def check_depth(root: syntax.Node, limit: int = scan.MAX_NESTING) -> None:
    """Refuse a tree nested deeper than 64, so that what walks it may recurse."""
    todo: list[tuple[Any, int]] = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, tuple):
            todo.extend((child, depth) for child in reversed(node))
            continue
        if not isinstance(node, syntax.Node):
            continue
        if isinstance(node, _DEEPER):
            depth += 1
        if depth > limit:
            raise scan.too_deep(node.where)
        names: tuple[str, ...] = type(node).__match_args__
        for name in reversed(names):
            child = getattr(node, name)
            chained = name == "otherwise" and not isinstance(child, syntax.Block)
            todo.append((child, depth + chained))


_DEEPER = (
    syntax.Minus, syntax.Not, syntax.Both, syntax.Either, syntax.Block, syntax.ListOf, syntax.MapOf, syntax.Call,
)  # fmt: skip


@cache
def _parser() -> Lark:
    from lark import Lark  # half of what a first parse costs, so not paid at import

    grammar = files(__package__).joinpath("grammar.lark").read_text("utf-8")
    return Lark(
        grammar,
        parser="lalr",
        lexer="basic",
        start=["program", "value"],
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def _tree(text: str, file: str | None, start: str) -> Any:
    from lark.exceptions import UnexpectedInput, VisitError

    from .build import Builder
    from .complain import syntax_error

    scan.check_nesting(text, file)
    try:
        tree = _parser().parse(text, start=start)
        node = Builder(text, file).transform(tree)
    except UnexpectedInput as error:
        raise syntax_error(error, _parser(), text, file) from None
    except VisitError as error:
        raise error.orig_exc from None
    check_depth(node)
    return node
