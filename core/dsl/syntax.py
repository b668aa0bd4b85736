"""The syntax tree of a strategy: what was written, before any name is looked up.

Text, YAML and JSON all become this tree. Every node says where it was written; two trees are equal when they say the
same, wherever they say it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import Where


@dataclass(frozen=True, slots=True)
class Node:
    """The base: ``where`` is a Span of the text or a Path in a document, and takes no part in equality."""

    where: Where = field(compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Word(Node):
    """A name as written: of a stage, a field, a label, a parameter. Dotted names are one word."""

    text: str


@dataclass(frozen=True, slots=True)
class Number(Node):
    """``0.8``."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Text(Node):
    """``"..."``, or ``r"..."`` where ``raw``."""

    value: str
    raw: bool = False  # written r"..."


@dataclass(frozen=True, slots=True)
class Truth(Node):
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """``[a, b]``."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    """``[" however": -2.0, 128009: -5]``; in a document, a list of pairs."""

    pairs: tuple[tuple[Value, Value], ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """``top_p(0.9)``; ``greedy`` is ``greedy()``. ``revision`` is the 1 of ``top_p@1``, which only documents write."""

    name: Word
    args: tuple[Arg, ...] = ()
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Arg(Node):
    """One argument: positional, named by ``key``, or a block under ``weight``."""

    value: Value
    key: Word | None = None
    weight: Value | None = None


@dataclass(frozen=True, slots=True)
class Minus(Node):
    """``-a``."""

    operand: Value


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """``first op operand op operand ...`` of one precedence, read from the left: + and -, or * and /."""

    first: Value
    rest: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """``a < b`` and its like."""

    op: str  # == != <= >= < > ~ in
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Not(Node):
    """``not a``."""

    operand: Value


@dataclass(frozen=True, slots=True)
class Both(Node):
    """All of the parts: ``and``."""

    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Either(Node):
    """Any of the parts: ``or``."""

    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Ramp(Node):
    """``start -> end over span by curve``."""

    start: Value
    end: Value
    over: Value
    by: Word | None = None


@dataclass(frozen=True, slots=True)
class Block(Node):
    """``{ strategy }``; ``{}`` changes nothing."""

    body: Body


Value = Number | Text | Truth | ListOf | MapOf | Call | Minus | Chain | Compare | Not | Both | Either | Ramp | Block


@dataclass(frozen=True, slots=True)
class Stage(Node):
    """A call in a pipeline, with its block and its label."""

    call: Call
    block: Block | None = None
    label: Word | None = None


@dataclass(frozen=True, slots=True)
class When(Node):
    """``when test { ... } else ...``."""

    test: Value
    then: Block
    otherwise: Block | Stage | When | None = None
    revision: int | None = None


Step = Stage | When


@dataclass(frozen=True, slots=True)
class Patch(Node):
    """``heat.value = 0.3``: ``path`` ends in a field's name."""

    path: Word
    value: Value


@dataclass(frozen=True, slots=True)
class Body(Node):
    """A strategy: its stages, its stop test, its patches."""

    stages: tuple[Step, ...]
    until: Value | None = None
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, slots=True)
class Use(Node):
    """``use "pack" as alias``."""

    source: Text
    alias: Word | None = None


@dataclass(frozen=True, slots=True)
class Param(Node):
    """``t=0.9`` behind a definition's name, or ``t`` where a call has to give it."""

    name: Word
    default: Value | None


@dataclass(frozen=True, slots=True)
class Let(Node):
    """``let name(params) = body``."""

    name: Word
    params: tuple[Param, ...]
    body: Body

    @property
    def needs(self) -> tuple[str, ...]:
        """The parameters that a call has to give."""
        return tuple(param.name.text for param in self.params if param.default is None)


Item = Use | Let


@dataclass(frozen=True, slots=True)
class Comment(Node):
    """``# ...`` up to the line's end; ``own_line`` when nothing stands before it."""

    text: str
    own_line: bool


@dataclass(frozen=True, slots=True)
class Program(Node):
    """A whole document. ``version`` is None for a bare strategy, whose only item is ``main``."""

    version: int | None
    items: tuple[Item, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False)

    @property
    def main(self) -> Let | None:
        """What runs: ``let main``, or the bare strategy itself. None for a pack of lets."""
        return next((item for item in self.items if isinstance(item, Let) and item.name.text == "main"), None)
