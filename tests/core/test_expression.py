"""Expressions of signals: kinds, every operator against Python's own arithmetic, and the two ways to write them."""

from __future__ import annotations

import math
import operator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitmill as lm
from logitmill import signals
from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.expression import (
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
)  # fmt: skip
from logitmill.core.stage import Signal


class Given(Signal, name="test.given"):
    """The number in column 0 of each row's logits."""

    def read(self, dist: Dist, ctx: Any) -> torch.Tensor:
        return dist.logits[:, :1]


class Text(Signal, name="test.text"):
    value_kind = "text"

    def read(self, dist: Dist, ctx: Any) -> list[str]:
        return ["row " + "ab"[i % 2] for i in range(dist.rows)]


X, T = Read(Given()), Read(Text())
numbers = st.floats(-50, 50, width=32).map(lambda x: round(x * 8) / 8)


def value(expression: Expression, column: list[float]) -> list[Any]:
    dist = Dist(torch.tensor(column)[:, None].expand(-1, 2).contiguous())
    got = expression.evaluate(dist, None)  # type: ignore[arg-type]
    if expression.kind == "text":
        return list(got)
    assert got.shape == (len(column), 1)
    assert got.dtype == (torch.bool if expression.kind == "truth" else torch.float32)
    return got[:, 0].tolist()


def ieee_divide(a: float, b: float) -> float:
    return a / b if b else math.nan if a == 0 else math.copysign(math.inf, a) * math.copysign(1, b)


ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": ieee_divide}
ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


@given(st.lists(numbers, min_size=1, max_size=4), numbers, st.sampled_from(list(ARITHMETIC)))
def test_arithmetic(column: list[float], c: float, op: str) -> None:
    got = value(Arithmetic(op, X, Constant(c)), column)
    assert got == pytest.approx([ARITHMETIC[op](x, c) for x in column], rel=1e-6, nan_ok=True)
    assert value(Negative(X), column) == [-x for x in column]


@given(st.lists(numbers, min_size=1, max_size=4), numbers, st.sampled_from(list(ORDER)))
def test_order(column: list[float], c: float, op: str) -> None:
    assert value(Comparison(op, X, Constant(c)), column) == [ORDER[op](x, c) for x in column]


@given(st.lists(numbers, min_size=1, max_size=4), st.lists(numbers, min_size=2, max_size=5))
def test_functions(column: list[float], more: list[float]) -> None:
    items = (X, *map(Constant, more))
    assert value(Function("min", items), column) == [min(x, *more) for x in column]
    assert value(Function("max", items), column) == [max(x, *more) for x in column]
    low, high = sorted(more[:2])
    clamped = Function("clamp", (X, Constant(low), Constant(high)))
    assert value(clamped, column) == [min(max(x, low), high) for x in column]
    assert value(Function("exp", (X,)), column) == pytest.approx([math.exp(x) for x in column], rel=1e-5)
    logs = [math.nan if x < 0 else -math.inf if x == 0 else math.log(x) for x in column]
    assert value(Function("log", (X,)), column) == pytest.approx(logs, rel=1e-5, abs=1e-6, nan_ok=True)


@given(st.lists(numbers, min_size=1, max_size=4), numbers, numbers)
def test_logic_and_membership(column: list[float], a: float, b: float) -> None:
    above, below = Comparison(">", X, Constant(a)), Comparison("<", X, Constant(b))
    assert value(Logic("and", (above, below)), column) == [x > a and x < b for x in column]
    assert value(Logic("or", (above, below, Constant(False))), column) == [x > a or x < b for x in column]
    assert value(Inverse(above), column) == [not x > a for x in column]
    assert value(Comparison("in", X, Constant((a, b))), column) == [x in (a, b) for x in column]
    assert value(Comparison("in", X, Constant(())), column) == [False for _ in column]


def test_text() -> None:
    column = [0.0, 0.0, 0.0]
    cases = {
        Comparison("==", T, Constant("row a")): [True, False, True],
        Comparison("!=", T, Constant("row a")): [False, True, False],
        Comparison("~", T, Constant("b$")): [False, True, False],
        Comparison("~", T, Constant(Pattern(r"^row [ab]"))): [True, True, True],
        Comparison("in", T, Constant(("row b", "x"))): [False, True, False],
        Comparison("in", Constant("ow"), T): [True, True, True],
        Comparison("in", T, Constant("a row b")): [False, True, False],
    }
    for expression, expected in cases.items():
        assert value(expression, column) == expected, expression


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Arithmetic("+", X, T), "'[+]' takes a number, got a text"),
        (lambda: Arithmetic("*", Comparison("<", X, X), X), "'[*]' takes a number, got a truth"),
        (lambda: Negative(T), "'-' takes a number"),
        (lambda: Comparison("<", T, T), "'<' takes a number, got a text"),
        (lambda: Comparison("==", X, T), "'==' compares a number with a text"),
        (lambda: Comparison("~", X, Constant("a")), "'~' takes a text"),
        (lambda: Comparison("~", T, Constant("(")), "not a regular expression"),
        (lambda: Comparison("in", X, Constant(1)), "'in' takes a list"),
        (lambda: Comparison("in", X, Constant(("a", "b"))), "'in' compares a number with a text"),
        (lambda: Comparison("<", X, Constant((1, 2))), "'<' takes one value, not a list"),
        (lambda: Comparison("in", Constant((1, 2)), X), "a list can stand only to the right"),
        (lambda: Constant((1, "a")), "a list holds numbers or texts"),
        (lambda: Logic("and", (X, X)), "'and' takes a truth, got a number"),
        (lambda: Inverse(X), "'not' takes a truth"),
        (lambda: Function("clamp", (X, X)), "clamp takes 3 arguments, got 2"),
        (lambda: Function("min", (X,)), "min takes 2 to 16 arguments, got 1"),
        (lambda: Function("exp", (T,)), "exp takes a number"),
        (lambda: Pattern("a" * 1001), "at most 1000 characters"),
        (lambda: Pattern("(?x)a\nb"), "stands on one line"),
        (lambda: Pattern("(?ix:a\nb)"), "stands on one line"),
    ],
)
def test_kinds_are_checked_where_a_node_is_built(build: Any, says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        build()


def test_a_blank_that_a_part_of_a_pattern_passes_over_stays_one() -> None:
    pattern = Pattern('(?x:a\t"b)c')
    assert pattern.source == "(?x:a\t\\x22b)c"
    assert pattern.search('a"bc') is not None


def test_a_slow_pattern_is_cut_off() -> None:
    with pytest.raises(StrategyError, match="took over"):
        Pattern(r"(a|a)*\d").search("a" * 3000)


def test_reads_are_found_at_any_depth() -> None:
    expression = Logic(
        "or", (Comparison("<", Arithmetic("+", X, Negative(X)), Constant(1)), Comparison("~", T, Constant("a")))
    )
    assert expression.reads() == [X, X, T]


def test_raw_reads_the_models_own() -> None:
    changed, own = Dist(torch.tensor([[1.0, 0.0]])), Dist(torch.tensor([[5.0, 0.0]]))

    class Ctx:
        raw = own

    assert float(Read(Given()).evaluate(changed, Ctx)) == 1.0  # type: ignore[arg-type]
    assert float(Read(Given(), raw=True).evaluate(changed, Ctx)) == 5.0  # type: ignore[arg-type]


# -- two ways to write one thing ---------------------------------------------------------------------------------------

PAIRS = [
    ("entropy < 0.4", lambda: signals.entropy < 0.4),
    ("entropy <= 0.4", lambda: signals.entropy <= 0.4),
    ("entropy > 1", lambda: signals.entropy > 1),
    ("entropy >= 1", lambda: signals.entropy >= 1),
    ("last == 5", lambda: signals.last == 5),
    ("last != 5", lambda: signals.last != 5),
    ("0.3 + 0.2*entropy > 1", lambda: 0.3 + 0.2 * signals.entropy > 1),
    ("entropy*2 - 1 < 4", lambda: signals.entropy * 2 - 1 < 4),
    ("1 - entropy < 4", lambda: 1 - signals.entropy < 4),
    ("entropy/2 < max_p", lambda: signals.entropy / 2 < signals.max_p),
    ("2/entropy < max_p", lambda: 2 / signals.entropy < signals.max_p),
    ("entropy + 2 < max_p", lambda: signals.entropy + 2 < signals.max_p),
    ("-entropy < max_p", lambda: -signals.entropy < signals.max_p),
    ("raw.entropy < 1", lambda: signals.raw.entropy < 1),
    ("clamp(entropy, 0.3, 1.2) < 1", lambda: signals.clamp(signals.entropy, 0.3, 1.2) < 1),
    (
        "min(entropy, max_p, 3) < exp(max_p)",
        lambda: signals.min(signals.entropy, signals.max_p, 3) < signals.exp(signals.max_p),
    ),
    ("log(max_p) > max(entropy, 0)", lambda: signals.log(signals.max_p) > signals.max(signals.entropy, 0)),
    ('tail ~ r"\\d$"', lambda: signals.tail.matches(r"\d$")),
    ("last in [1, 2]", lambda: signals.last.in_([1, 2])),
    ('tail in ["a", "b"]', lambda: signals.tail.in_(("a", "b"))),
    ('within("<a>", "</a>")', lambda: signals.within("<a>", "</a>")),
    ('not within("<a>", "</a>")', lambda: signals.within("<a>", "</a>").not_()),
    ("step > 2 and entropy < 1", lambda: (signals.step > 2).and_(signals.entropy < 1)),
    ("step > 2 or entropy < 1 or last == 3", lambda: (signals.step > 2).or_(signals.entropy < 1, signals.last == 3)),
    (
        "step > 2 and (entropy < 1 or not max_p > 0.5)",
        lambda: (signals.step > 2).and_((signals.entropy < 1).or_((signals.max_p > 0.5).not_())),
    ),
]


@pytest.mark.parametrize(("text", "build"), PAIRS, ids=[text for text, _ in PAIRS])
def test_python_builds_what_the_text_says(text: str, build: Any) -> None:
    written = lm.Strategy.parse(f"greedy until {text}")
    assert lm.greedy().until(build()) == written
    conditioned = lm.Strategy.parse(f"when {text} {{ greedy }} else {{ sample }}")
    assert lm.Strategy.of(lm.when(build(), lm.greedy(), lm.sample())) == conditioned
    assert lm.greedy().until(build()).hash == written.hash


def test_a_condition_has_no_truth_in_python() -> None:
    for wrong in (
        lambda: 0.1 < signals.entropy < 0.4,
        lambda: signals.entropy < 1 and signals.step > 2,
        lambda: not signals.entropy,
        lambda: 1 if signals.step == 3 else 2,
    ):
        with pytest.raises(StrategyError, match="join conditions by and_, or_ and not_"):
            wrong()


def test_what_is_no_operand() -> None:
    for wrong in (object(), {"a": 1}, None):
        with pytest.raises(StrategyError, match="cannot stand in an expression"):
            signals.entropy + wrong
    with pytest.raises(StrategyError, match=r"'\+' takes a number"):
        signals.entropy + "text"
    with pytest.raises(StrategyError, match="a stop test is a truth"):
        lm.greedy().until(signals.entropy)
    with pytest.raises(AttributeError, match="did you mean 'entropy'"):
        signals.entrpy  # noqa: B018
    with pytest.raises(TypeError, match="only a signal takes arguments"):
        (signals.entropy + 1)()


def test_every_function_is_reachable_from_python() -> None:
    for name in FUNCTIONS:
        assert callable(getattr(signals, name))
        assert name in dir(signals)
