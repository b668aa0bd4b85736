"""Eta sampling by hand: .5 .25 .15 .1 has H = 1.20797, so exp(-H) = 0.29880."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.errors import StrategyError

FOUR = [0.5, 0.25, 0.15, 0.1]
TIED = [0.2, 0.3, 0.3, 0.2]


@pytest.mark.parametrize("dialect", ["logitmill", "hf"])
@pytest.mark.parametrize(
    ("probs", "e", "left"),
    [
        (FOUR, 0.3, [0, 1]),  # sqrt(.3) * .2988 = .1637
        (FOUR, 0.12, [0, 1, 2]),  # .34641 * .2988 = .1035
        (FOUR, 0.09, [0, 1, 2, 3]),  # .3 * .2988 = .0896
        (FOUR, 0.05, [0, 1, 2, 3]),  # .05 itself, since .2236 * .2988 = .0668
        (TIED, 0.99, [1, 2]),  # H = 1.3662: .995 * .2551 = .2538
        ([0.25] * 4, 0.5, [0, 1, 2, 3]),  # .7071 * .25 = .1768
        ([0.9, 0.06, 0.04], 0.05, [0, 1]),  # .05, since H = .3924 and .2236 * .6754 = .1510
        ([0.0, 0.9, 0.1, 0.0], 0.2, [1]),  # H = .3251: .2, since .4472 * .7225 = .3231
        ([1.0], 0.5, [0]),
    ],
)
def test_by_hand(bench: Any, dialect: str, probs: list[float], e: float, left: list[int]) -> None:
    logits = bench.logits_of(probs)
    assert bench.kept(bench.stage("eta", e, dialect=dialect), logits) == [left]
    stacked = [bench.stage("eta", e, dialect=dialect), bench.stage("eta", 0.01, dialect=dialect)]
    assert bench.kept(stacked, logits.expand(2, -1))[0] == left


def test_ends(bench: Any) -> None:
    assert bench.kept(bench.stage("eta", 0.0), [0.0, -500.0]) == [[0, 1]]
    assert bench.kept(bench.stage("eta", 1.0), bench.logits_of(FOUR)) == [[0]]  # above .2988
    assert bench.kept(bench.stage("eta", 1.0), torch.zeros(1, 5)) == [[0, 1, 2, 3, 4]]  # exp(-H) is 1 / 5
    for e in (0.0, 1.0):
        with pytest.raises(StrategyError, match="above 0 and below 1"):
            bench.stage("eta", e, dialect="hf")


@pytest.mark.parametrize("dialect", ["logitmill", "hf"])
def test_extremes(bench: Any, dialect: str) -> None:
    logits = torch.tensor([[3.4e38, 3.4e38, -3.4e38], [-3.4e38, -3.3e38, float("-inf")], [0.0, -1e-30, -800.0]])
    assert bench.kept(bench.stage("eta", 0.01, dialect=dialect), logits) == [[0, 1], [1], [0, 1]]
