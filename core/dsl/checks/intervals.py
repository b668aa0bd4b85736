"""What is known of an expression before anything runs: the range of its number, or its truth.

Numbers are intervals, by the ranges of signals and the arithmetic on them; what is known besides, inside a ``when`` for
instance, are facts. What divides or takes a logarithm may be no number at all, and nothing is said about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...expression import (
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    Function,
    Inverse,
    Logic,
    Negative,
    Read,
)
from ...vocab import Vocab

INF = math.inf


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``; an end that is ``open`` is no part of it."""

    low: float = -INF
    high: float = INF
    low_open: bool = False
    high_open: bool = False

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.high_open, self.low_open)

    def __and__(self, other: Interval) -> Interval:
        """What lies in both."""
        low, low_open = max((self.low, self.low_open), (other.low, other.low_open))
        high, high_closed = min((self.high, not self.high_open), (other.high, not other.high_open))
        return Interval(low, high, low_open, not high_closed)

    @property
    def empty(self) -> bool:
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    @property
    def has_zero(self) -> bool:
        return not (self & Interval(0.0, 0.0)).empty


ALL = Interval()
_UNIT, _POSITIVE = Interval(0.0, 1.0), Interval(0.0)
#: what each signal can be; a signal that is not here can be anything
RANGES: Mapping[str, Interval] = {
    "entropy": _POSITIVE,
    "varentropy": _POSITIVE,
    "max_p": Interval(0.0, 1.0, low_open=True),
    "margin": _UNIT,
    "kept": Interval(1.0),
    "mass": _UNIT,
    "step": _POSITIVE,
    "position": _POSITIVE,
    "last": Interval(-1.0),
    "repetition_rate": Interval(0.0, 1.0, high_open=True),
    "sum_logprob": Interval(high=0.0),
    "mean_logprob": Interval(high=0.0),
}
#: signals that read the sequence: no stage of a pipeline changes them
OF_THE_SEQUENCE = frozenset("step position last tail within repetition_rate sum_logprob mean_logprob".split())
#: the same comparison with its sides exchanged
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


@dataclass(frozen=True)
class Facts:
    """What holds at a place: ranges of numbers, and the truth of conditions."""

    numbers: Mapping[Expression, Interval] = field(default_factory=dict)
    truths: Mapping[Expression, bool] = field(default_factory=dict)

    def given(self, test: Expression, holds: bool) -> Facts:
        """These facts and that of a test."""
        if isinstance(test, Inverse):
            return self.given(test.of, not holds)
        if isinstance(test, Logic) and (test.op == "and") == holds:
            facts = self
            for item in test.items:
                facts = facts.given(item, holds)
            return facts
        numbers, truths = dict(self.numbers), {**self.truths, test: holds}
        if isinstance(test, Comparison) and test.op in _OPPOSITE and not _may_be_nan(test):
            op = test.op if holds else _OPPOSITE[test.op]
            truths[Comparison(_OPPOSITE[test.op], test.left, test.right)] = not holds
            for side, other, way in ((test.left, test.right, op), (test.right, test.left, FLIPPED[op])):
                value = _number(other)
                if value is not None and _number(side) is None and side.kind == "number":
                    numbers[side] = numbers.get(side, ALL) & _bounded(way, value)
        return Facts(numbers, truths)

    def behind_a_stage(self) -> Facts:
        """What of them still holds when the distribution has changed."""
        return Facts(
            {node: value for node, value in self.numbers.items() if not _reads_distribution(node)},
            {node: value for node, value in self.truths.items() if not _reads_distribution(node)},
        )


def _bounded(op: str, value: float) -> Interval:
    if op in ("<", "<="):
        return Interval(high=value, high_open=op == "<")
    if op in (">", ">="):
        return Interval(value, low_open=op == ">")
    return Interval(value, value) if op == "==" else ALL


def _number(node: Expression) -> float | None:
    value = node.value if isinstance(node, Constant) else None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _reads_distribution(node: Expression) -> bool:
    return any(not read.raw and read.signal.stage_name not in OF_THE_SEQUENCE for read in node.reads())


def _may_be_nan(node: Expression) -> bool:
    return any(
        (isinstance(part, Arithmetic) and part.op == "/")
        or (isinstance(part, Function) and part.name in ("log", "exp"))
        for part in node.nodes()
    )


@dataclass(frozen=True)
class Known:
    """What can be told of expressions at a place. ``ranges``: what narrows the signals' own there."""

    facts: Facts = field(default_factory=Facts)
    ranges: Mapping[str, Interval] = field(default_factory=dict)

    def interval(self, node: Expression) -> Interval:
        """Where the number of an expression lies."""
        return self._interval(node) & self.facts.numbers.get(node, ALL)

    def _interval(self, node: Expression) -> Interval:
        match node:
            case Constant():
                value = _number(node)
                return ALL if value is None else Interval(value, value)
            case Read(signal=signal):
                name = signal.stage_name
                return RANGES.get(name, ALL) & self.ranges.get(name, ALL)
            case Negative():
                return -self.interval(node.of)
            case Arithmetic():
                return _arithmetic(node.op, self.interval(node.left), self.interval(node.right))
            case Function():
                return _function(node.name, [self.interval(arg) for arg in node.args])
        return ALL

    def finite(self, node: Expression) -> bool:
        """Whether no part of an expression divides by what may be 0."""
        return not any(
            isinstance(part, Arithmetic) and part.op == "/" and self.interval(part.right).has_zero
            for part in node.nodes()
        )

    def truth(self, node: Expression) -> bool | None:
        """Whether a condition always holds (True) or never (False); None where it may do either."""
        if node in self.facts.truths:
            return self.facts.truths[node]
        match node:
            case Constant(value=bool() as value):
                return value
            case Inverse():
                inner = self.truth(node.of)
                return None if inner is None else not inner
            case Logic():
                return self._logic(node)
            case Comparison() if node.left.kind == "number" and not _may_be_nan(node):
                return self._comparison(node)
        return None

    def _logic(self, node: Logic) -> bool | None:
        """An ``and`` with a part that cannot hold beside those before it never holds; an ``or`` is its mirror."""
        fatal = node.op == "or"
        known, sure = self, True
        for item in node.items:
            truth = known.truth(item)
            if truth is fatal:
                return fatal
            sure = sure and truth is not None
            known = Known(known.facts.given(item, not fatal), self.ranges)
        return (not fatal) if sure else None

    def _comparison(self, node: Comparison) -> bool | None:
        left = self.interval(node.left)
        if node.op == "in":
            items: Iterable[object] = node.right.value if isinstance(node.right, Constant) else ()  # type: ignore[assignment]
            inside = [x for x in items if isinstance(x, int | float) and not (left & Interval(x, x)).empty]
            return None if inside else False
        right = self.interval(node.right)
        if left.empty or right.empty:
            return None
        if node.op in ("==", "!="):
            equal = _equal(left, right)
            return equal if equal is None or node.op == "==" else not equal
        if node.op in (">", ">="):
            left, right = right, left
        return _less(left, right, strict=node.op in ("<", ">"))


def _equal(left: Interval, right: Interval) -> bool | None:
    if (left & right).empty:
        return False
    return True if left.low == left.high == right.low == right.high else None


def _less(left: Interval, right: Interval, *, strict: bool) -> bool | None:
    """left < right, or left <= right where not strict."""
    touch_above = left.high_open or right.low_open  # left's highest and right's lowest are not both there
    if left.high < right.low or (left.high == right.low and (touch_above or not strict)):
        return True
    touch_below = left.low_open or right.high_open
    if left.low > right.high or (left.low == right.high and (touch_below or strict)):
        return False
    return None


def _arithmetic(op: str, left: Interval, right: Interval) -> Interval:
    if op == "-":
        return _arithmetic("+", left, -right)
    if op == "+":
        low, high = left.low + right.low, left.high + right.high
        if math.isnan(low) or math.isnan(high):
            return ALL
        return Interval(low, high, left.low_open or right.low_open, left.high_open or right.high_open)
    if op == "/":
        if right.has_zero:
            return ALL
        inverse = Interval(-INF if right.high == 0 else 1 / right.high, INF if right.low == 0 else 1 / right.low)
        return _arithmetic("*", left, inverse)
    ends = [_times(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
    return Interval(min(ends), max(ends))


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _function(name: str, args: list[Interval]) -> Interval:
    match name:
        case "min":
            return Interval(min(a.low for a in args), min(a.high for a in args))
        case "max":
            return Interval(max(a.low for a in args), max(a.high for a in args))
        case "clamp":
            value, low, high = args
            return _function("min", [_function("max", [value, low]), high])
        case "exp":
            return Interval(_exp(args[0].low), _exp(args[0].high))
        case "log" if args[0].low >= 0:
            return Interval(_log(args[0].low), _log(args[0].high))
    return ALL


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -INF


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else INF


def of_vocabulary(vocab: Vocab | None) -> dict[str, Interval]:
    """What a vocabulary's size says of the signals."""
    if vocab is None:
        return {}
    return {
        "entropy": Interval(high=math.log(vocab.size)),
        "kept": Interval(high=vocab.size),
        "last": Interval(high=vocab.size - 1),
    }


__all__ = ["ALL", "FLIPPED", "Facts", "Interval", "Known", "of_vocabulary"]
