r"""Expressions of signals: ``0.3 + 0.2*entropy``, ``tail ~ r"\\d$"``, ``step > 8 and not within("<a>", "</a>")``.

A tree of frozen nodes with three kinds of value: a number or a truth, as tensors ``[R, 1]`` that stay on the device,
and text, as one string a row on the host. Building a node checks the kinds of its parts, whoever builds it: the DSL or
Python.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import regex
import torch
from torch import Tensor

from .errors import StrategyError
from .returned import signal_of

if TYPE_CHECKING:
    from .context import Context
    from .dist import Dist
    from .stage import Signal

Kind = Literal["number", "truth", "text"]
PATTERN_LENGTH, PATTERN_SECONDS = 1000, 0.25

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


_PIECE = regex.compile(r"\\?.", regex.DOTALL)  # a character, with the backslash before it
_VERBOSE_GROUP = regex.compile(r"\(\?[a-zA-Z0-9]*x")  # (?x:...), whose flag is no flag of the whole


def _writable(piece: str, verbose: bool) -> str:
    """The same part of a pattern as a raw string can hold it. Under (?x) blanks mean nothing, so they stay."""
    char = piece[-1]
    if char != '"' and (char.isprintable() or verbose):
        return piece
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@dataclass(frozen=True)
class Pattern:
    r"""A regular expression, as ``r"..."`` writes it: quotes, line ends and what cannot be seen become escapes, \x22.

    Run by the ``regex`` package under a length bound and a timeout.
    """

    source: str

    def __post_init__(self) -> None:
        self._bound(self.source)
        try:
            verbose = bool(regex.compile(self.source).flags & regex.VERBOSE or _VERBOSE_GROUP.search(self.source))
        except regex.error as error:
            raise StrategyError(f"not a regular expression: {error}", code="pattern") from None
        if verbose and any(char in self.source for char in "\n\r"):
            raise StrategyError("a pattern under (?x) stands on one line", hint="write it without (?x)", code="pattern")
        written = _PIECE.sub(lambda match: _writable(match[0], verbose), self.source)
        self._bound(written)
        object.__setattr__(self, "source", written)

    @staticmethod
    def _bound(source: str) -> None:
        if len(source) > PATTERN_LENGTH:
            raise StrategyError(
                f"a pattern has at most {PATTERN_LENGTH} characters, this one {len(source)}", code="pattern"
            )

    def search(self, text: str, start: int = 0, *, partial: bool = False) -> Any:
        """The first match from ``start`` on, or None; with ``partial`` also what more text could make one.

        Raises StrategyError when it takes longer than PATTERN_SECONDS.
        """
        try:
            return regex.search(self.source, text, pos=start, partial=partial, timeout=PATTERN_SECONDS)
        except TimeoutError:
            raise StrategyError(
                f"the pattern r{self.source!r} took over {PATTERN_SECONDS} s on a text of {len(text)} characters",
                hint="write it without nested repetitions",
                code="pattern",
            ) from None


class Expression:
    """Base of all nodes.

    ``evaluate`` gives a tensor [R, 1] (float32 or bool), or a list of R strings where kind is text.
    """

    kind: ClassVar[Kind]

    def evaluate(self, dist: Dist, ctx: Context) -> Any:
        raise TypeError(f"{type(self).__name__} has no value of its own")

    def nodes(self) -> Iterator[Expression]:
        """This node and all below it."""
        yield self
        for item in fields(self):  # type: ignore[arg-type]  # every concrete node is a dataclass
            value = getattr(self, item.name)
            for child in value if isinstance(value, tuple) else (value,):
                if isinstance(child, Expression):
                    yield from child.nodes()

    def reads(self) -> list[Read]:
        """Every signal it reads."""
        return [node for node in self.nodes() if isinstance(node, Read)]

    # Pydantic holds a field's ge/le/gt/lt by comparing. What an expression will be is known only at run time, where the
    # value is clamped to the field's range instead.
    def _unknown(self, other: object) -> bool:
        return True

    __ge__ = __le__ = __gt__ = __lt__ = _unknown


def _need(node: Expression, kind: Kind, where: str) -> None:
    if node.kind != kind:
        raise StrategyError(f"{where} takes a {kind}, got a {node.kind}", code="type")


@dataclass(frozen=True)
class Constant(Expression):
    """A number, a truth, a text, a pattern (kind text) or a list of numbers or texts (kind of its items)."""

    value: float | bool | str | Pattern | tuple[float | str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.value, tuple) and len({isinstance(item, str) for item in self.value}) > 1:
            raise StrategyError("a list holds numbers or texts, not both", code="type")
        for item in self.value if isinstance(self.value, tuple) else (self.value,):
            if isinstance(item, float) and not math.isfinite(item):
                raise StrategyError(f"a number in an expression is finite, got {item}", code="type")
            if isinstance(item, int | float) and abs(item) > torch.finfo(torch.float32).max:
                raise StrategyError(f"a number in an expression is at most 3.4e38, got {item:g}", code="range")

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # a constant's kind is its value's
        value = self.value[0] if isinstance(self.value, tuple) and self.value else self.value
        if isinstance(value, bool):
            return "truth"
        return "text" if isinstance(value, str | Pattern) else "number"

    def evaluate(self, dist: Dist, ctx: Context) -> Any:
        if self.kind == "text":
            return [self.value] * dist.rows
        dtype = torch.bool if self.kind == "truth" else torch.float32
        return torch.full((dist.rows, 1), self.value, dtype=dtype, device=dist.device)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Read(Expression):
    """The value of a signal, on the pipeline's distribution at that point or on the model's own (``raw.``)."""

    signal: Signal
    raw: bool = False

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        return self.signal.value_kind

    def nodes(self) -> Iterator[Expression]:
        """This node, and the expressions that its signal's own fields are written as."""
        yield self
        for name in self.signal.scalars:
            value = getattr(self.signal, name)
            if isinstance(value, Expression):
                yield from value.nodes()

    def evaluate(self, dist: Dist, ctx: Context) -> Any:
        dist = ctx.raw if self.raw else dist
        signal = self.signal
        if signal.scalars:
            ctx = ctx.reading(signal)
            values = {name: getattr(signal, name) for name in signal.scalars}
            now = {n: v if v is None else signal.scalars[n].stacked([v], dist, ctx) for n, v in values.items()}
            signal = signal.bound(now)
        value = signal_of(signal.read(dist, ctx), dist.rows, self.kind, signal.stage_name)
        if self.kind == "text":
            return value
        return value if value.dtype == torch.bool else value.float()


@dataclass(frozen=True)
class Negative(Expression):
    """``-x``."""

    kind: ClassVar[Kind] = "number"
    of: Expression

    def __post_init__(self) -> None:
        _need(self.of, "number", "'-'")

    def evaluate(self, dist: Dist, ctx: Context) -> Tensor:
        value: Tensor = -self.of.evaluate(dist, ctx)
        return value


@dataclass(frozen=True)
class Arithmetic(Expression):
    """``a + b``, ``a - b``, ``a * b``, ``a / b``."""

    kind: ClassVar[Kind] = "number"
    op: str
    left: Expression
    right: Expression

    def __post_init__(self) -> None:
        for side in (self.left, self.right):
            _need(side, "number", f"{self.op!r}")

    def evaluate(self, dist: Dist, ctx: Context) -> Tensor:
        value: Tensor = _ARITHMETIC[self.op](self.left.evaluate(dist, ctx), self.right.evaluate(dist, ctx))
        return value


@dataclass(frozen=True)
class Comparison(Expression):
    """``a < b`` and its like; ``text ~ pattern``; ``x in [..]``; ``"part" in text``."""

    kind: ClassVar[Kind] = "truth"
    op: str
    left: Expression
    right: Expression

    def __post_init__(self) -> None:
        many = isinstance(self.right, Constant) and isinstance(self.right.value, tuple)
        if isinstance(self.left, Constant) and isinstance(self.left.value, tuple):
            raise StrategyError("a list can stand only to the right of 'in'", code="type")
        if self.op == "~":
            for side in (self.left, self.right):
                _need(side, "text", "'~'")
            if isinstance(self.right, Constant) and isinstance(self.right.value, str):
                Pattern(self.right.value)
            return
        if many != (self.op == "in") and not (self.op == "in" and self.right.kind == "text"):
            what = "a list such as [1, 2], or a text," if self.op == "in" else "one value, not a list,"
            raise StrategyError(f"{self.op!r} takes {what} to its right", code="type")
        if self.left.kind != self.right.kind and not (many and self.right.value == ()):  # type: ignore[attr-defined]
            raise StrategyError(f"{self.op!r} compares a {self.left.kind} with a {self.right.kind}", code="type")
        if self.op in {"<", "<=", ">", ">="}:
            _need(self.left, "number", f"{self.op!r}")

    def evaluate(self, dist: Dist, ctx: Context) -> Tensor:
        left = self.left.evaluate(dist, ctx)
        if self.left.kind == "text":
            held = self._texts(left, dist, ctx)
            return torch.tensor(held, dtype=torch.bool).reshape(-1, 1).to(dist.device)
        if self.op == "in":
            choices = self.right.value  # type: ignore[attr-defined]
            return torch.isin(left, torch.tensor(choices, dtype=left.dtype, device=left.device))
        value: Tensor = _ORDER[self.op](left, self.right.evaluate(dist, ctx))
        return value

    def _texts(self, left: Sequence[str], dist: Dist, ctx: Context) -> list[bool]:
        if isinstance(self.right, Constant) and isinstance(self.right.value, tuple):
            return [text in self.right.value for text in left]
        right = self.right.evaluate(dist, ctx)
        if self.op == "~":
            patterns = [p if isinstance(p, Pattern) else Pattern(p) for p in right]
            return [pattern.search(text) is not None for pattern, text in zip(patterns, left, strict=True)]
        if self.op == "in":
            return [part in text for part, text in zip(left, right, strict=True)]
        return [(a == b) == (self.op == "==") for a, b in zip(left, right, strict=True)]


@dataclass(frozen=True)
class Logic(Expression):
    """``a and b and ...`` or ``a or b or ...``."""

    kind: ClassVar[Kind] = "truth"
    op: Literal["and", "or"]
    items: tuple[Expression, ...]

    def __post_init__(self) -> None:
        for item in self.items:
            _need(item, "truth", f"{self.op!r}")

    def evaluate(self, dist: Dist, ctx: Context) -> Tensor:
        values = torch.cat([item.evaluate(dist, ctx) for item in self.items], -1)
        return values.all(-1, keepdim=True) if self.op == "and" else values.any(-1, keepdim=True)


@dataclass(frozen=True)
class Inverse(Expression):
    """``not a``."""

    kind: ClassVar[Kind] = "truth"
    of: Expression

    def __post_init__(self) -> None:
        _need(self.of, "truth", "'not'")

    def evaluate(self, dist: Dist, ctx: Context) -> Tensor:
        return torch.logical_not(self.of.evaluate(dist, ctx))


#: name -> (least and most arguments, what it computes)
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Tensor]]] = {
    "min": (2, 16, lambda *values: torch.cat(values, -1).amin(-1, keepdim=True)),
    "max": (2, 16, lambda *values: torch.cat(values, -1).amax(-1, keepdim=True)),
    "clamp": (3, 3, lambda x, low, high: torch.minimum(torch.maximum(x, low), high)),
    "exp": (1, 1, torch.exp),
    "log": (1, 1, torch.log),
}


@dataclass(frozen=True)
class Function(Expression):
    """``min``, ``max``, ``clamp``, ``exp``, ``log`` of numbers."""

    kind: ClassVar[Kind] = "number"
    name: str
    args: tuple[Expression, ...]

    def __post_init__(self) -> None:
        least, most, _ = FUNCTIONS[self.name]
        if not least <= len(self.args) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise StrategyError(f"{self.name} takes {wanted} arguments, got {len(self.args)}", code="arguments")
        for item in self.args:
            _need(item, "number", self.name)

    def evaluate(self, dist: Dist, ctx: Context) -> Tensor:
        value: Tensor = FUNCTIONS[self.name][2](*(item.evaluate(dist, ctx) for item in self.args))
        return value
