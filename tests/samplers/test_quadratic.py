"""Quadratic sampling by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.errors import StrategyError
from logitmill.core.scalar import Ramp

INF = float("inf")
LOGITS = [2.0, 1.0, -1.0, -INF]  # distances 0, -1 and -3


@pytest.mark.parametrize(
    ("factor", "curve", "after"),
    [
        (0.5, 1.0, [2.0, 1.5, -2.5, -INF]),  # -.5 d^2
        (0.5, 2.0, [2.0, 1.5, -7.0, -INF]),  # -.25 d^2 + .25 d^3
        (0.5, 3.0, [2.0, 1.5, -11.5, -INF]),  # .5 d^3
        (1.0, 1.0, [2.0, 1.0, -7.0, -INF]),
        (0.5, 5.0, [2.0, 1.5, -20.5, -INF]),  # +.5 d^2 + d^3
        (0.0, 1.0, LOGITS),
        (0.0, 4.0, LOGITS),
    ],
)
def test_by_hand(bench: Any, factor: float, curve: float, after: list[float]) -> None:
    stage = bench.stage("quadratic", factor, curve=curve)
    assert torch.equal(bench.apply(stage, LOGITS), torch.tensor([after]))
    stacked = bench.apply([stage, bench.stage("quadratic", 0.25, curve=1.5)], torch.tensor([LOGITS] * 2))
    assert torch.equal(stacked[:1], torch.tensor([after]))


def test_a_steep_curve_lets_a_near_token_pass_the_best(bench: Any) -> None:
    """At d = -1/4 a curve of 5 gives +.5 / 16 - 1 / 64 = +1/64."""
    assert torch.equal(bench.apply(bench.stage("quadratic", 0.5, curve=5.0), [0.0, -0.25]), torch.tensor([[0, 1 / 64]]))


def test_up_to_a_curve_of_three_the_order_stays(bench: Any) -> None:
    logits = torch.randn(8, 60, generator=torch.Generator().manual_seed(0)) * 4
    for curve in (1.0, 2.0, 3.0):
        after = bench.apply(bench.stage("quadratic", 0.3, curve=curve), logits)
        assert torch.equal(after.argsort(-1), logits.argsort(-1))


def test_equal_tokens_one_token_and_no_range_left(bench: Any) -> None:
    stage = bench.stage("quadratic", 0.5, curve=2.0)
    assert torch.equal(bench.apply(stage, [3.0, 3.0, 3.0]), torch.full((1, 3), 3.0))
    assert torch.equal(bench.apply(stage, [-5.0]), torch.tensor([[-5.0]]))
    largest = torch.finfo(torch.float32).max
    assert torch.equal(bench.apply(stage, [0.0, -3.4e38]), torch.tensor([[0.0, -largest]]))
    assert torch.equal(bench.apply(stage, [3.4e38, -3.4e38]), torch.tensor([[3.4e38, -largest]]))


def test_a_schedule_to_off(bench: Any) -> None:
    ramp = bench.stage("quadratic", Ramp(0.5, 0.0, 2, bench.stage_of_schedule("linear")))
    rows = bench.apply(ramp, torch.tensor([[2.0, 0.0]] * 3), [1], [[], [0], [0, 0]])
    assert torch.equal(rows, torch.tensor([[2.0, 0.0], [2.0, 1.0], [2.0, 0.0]]))


def test_ranges(bench: Any) -> None:
    with pytest.raises(StrategyError, match="at least 0"):
        bench.stage("quadratic", -0.1)
    with pytest.raises(StrategyError, match="at least 1"):
        bench.stage("quadratic", 0.1, curve=0.5)
