"""Ranges and truths of expressions: by hand, and never against what an expression is."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.dsl.checks.intervals import Facts, Interval, Known
from logitmill.core.expression import Comparison, Expression
from logitmill.core.strategy import Strategy

INF = math.inf


def number(text: str) -> Expression:
    """The expression of a field."""
    value: Any = Strategy.parse(f"presence({text})").pipeline[0].stage
    assert isinstance(value.value, Expression)
    return value.value


def truth(text: str) -> Expression:
    stage: Any = Strategy.parse(f"when {text} {{ top_k(3) }}").pipeline[0].stage
    assert isinstance(stage.test, Expression)
    return stage.test


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("entropy", 0, INF),
        ("max_p", 0, 1),
        ("-max_p", -1, 0),
        ("1 - max_p", 0, 1),
        ("2 * entropy - 1", -1, INF),
        ("-2 * margin", -2, 0),
        ("(margin - 1) * (margin - 1)", 0, 1),
        ("(margin - 1) * margin", -1, 0),
        ("1 / max_p", 1, INF),
        ("1 / margin", -INF, INF),
        ("1 / (1 + margin)", 0.5, 1),
        ("-1 / (1 + margin)", -1, -0.5),
        ("min(margin, 0.5)", 0, 0.5),
        ("max(entropy, 0.5)", 0.5, INF),
        ("clamp(entropy, 0.3, 1.2)", 0.3, 1.2),
        ("exp(margin)", 1, math.e),
        ("log(max_p)", -INF, 0),
        ("log(margin - 1)", -INF, INF),
        ("exp(entropy) - exp(entropy)", -INF, INF),
        ("mean_logprob", -INF, 0),
        ("kept", 1, INF),
        ("repetition_rate", 0, 1),
        ("last", -1, INF),
    ],
)
def test_ranges_by_hand(text: str, low: float, high: float) -> None:
    found = Known().interval(number(text))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("entropy < 0", False),
        ("entropy <= 0", None),
        ("0 > entropy", False),
        ("max_p > 0", True),
        ("repetition_rate < 1", True),
        ("margin < 1", None),
        ("kept == 0", False),
        ("kept != 0", True),
        ("not kept != 0", False),
        ("margin in [2, 3]", False),
        ("margin in [1, 3]", None),
        ("entropy < varentropy", None),
        ("entropy < 1 and entropy > 1", False),
        ("entropy < 1 and entropy >= 1", False),
        ("entropy <= 1 and entropy >= 1", None),
        ("entropy < 1 or entropy >= 1", True),
        ("entropy < 1 or entropy > 1", None),
        ("entropy < 2 or entropy > 1", True),
        ("entropy == 1 and entropy == 2", False),
        ("1 < entropy and 1 > entropy", False),
        ("entropy < varentropy and entropy >= varentropy", False),
        ("entropy < varentropy or not entropy < varentropy", True),
        ('tail ~ r"a" and not (tail ~ r"a" or entropy < 1)', False),
        ("(entropy < 1 or margin > 0.5) and not (entropy < 1 or margin > 0.5)", False),
        ("entropy / 2 < 0", None),
        ("log(entropy) < 1 or log(entropy) >= 1", None),
        ('"a" in tail', None),
        ("raw.entropy < 1 and entropy >= 1", None),
        ("1 < 2", True),
    ],
)
def test_truths_by_hand(text: str, holds: bool | None) -> None:
    assert Known().truth(truth(text)) is holds


def test_facts_and_what_is_left_of_them() -> None:
    facts = Facts().given(truth("entropy < 1 and step > 5 and not raw.max_p > 0.5"), True)
    known = Known(facts)
    assert known.interval(number("entropy")) == Interval(0.0, 1.0, high_open=True)
    assert known.truth(truth("step >= 3")) is True
    behind = Known(facts.behind_a_stage())
    assert behind.interval(number("entropy")) == Interval(0.0)
    assert behind.truth(truth("step >= 3")) is True
    assert behind.truth(truth("raw.max_p <= 0.5")) is True
    other = Known(Facts().given(truth("entropy < 1 or step > 5"), False))
    assert other.truth(truth("entropy < 1")) is False
    assert other.truth(truth("step <= 5")) is True


def test_nested_conditions_take_no_time() -> None:
    """Twelve levels of and, or and not: each part is looked at once or twice, not twice more for each level."""
    text = "entropy < 1"
    for level in range(12):
        text = f"not (margin > 0.{level + 10} and ({text} or step > {level}))"
    assert Known().truth(truth(text)) is None


def test_never_against_what_is(maker: Any, bench: Any) -> None:
    """Random conditions on random distributions: what is said to hold holds, and numbers lie in their ranges.

    Up to float32's rounding, of which the values in a comparison have some: those within 1e-4 are passed over.
    """
    chance, told = Random(5), 0
    probs = torch.distributions.Dirichlet(torch.full((7,), 0.4)).sample((6,)).clamp(min=1e-6)
    dist = Dist(probs.log().float())
    ctx = bench.context(dist, [1, 2], [3])
    for _ in range(800):
        text = maker(chance).joined(maker(chance).comparison)
        test = truth(text)
        if any(read.kind == "text" or read.signal.stage_name == "within" for read in test.reads()):
            continue
        sides = [side for node in test.nodes() if isinstance(node, Comparison) for side in (node.left, node.right)]
        values = [(side, side.evaluate(dist, ctx)) for side in sides if side.kind == "number" and side.reads()]
        for side, value in values:
            found, finite = Known().interval(side), value[value.isfinite()]
            slack = 1e-4 * finite.abs().clamp(min=1)
            assert (finite >= found.low - slack).all(), text
            assert (finite <= found.high + slack).all(), text
        holds = Known().truth(test)
        if holds is not None and test.reads():
            told += 1
            assert bool((test.evaluate(dist, ctx) == holds).all()), text
    assert told > 20
