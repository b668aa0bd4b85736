"""Epsilon sampling by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError

FOUR = [0.5, 0.25, 0.15, 0.1]
TIED = [0.2, 0.3, 0.3, 0.2]


@pytest.mark.parametrize(
    ("probs", "e", "left"),
    [
        (FOUR, 0.0, [0, 1, 2, 3]),
        (FOUR, 0.09, [0, 1, 2, 3]),
        (FOUR, 0.12, [0, 1, 2]),
        (FOUR, 0.3, [0]),
        (FOUR, 0.6, [0]),  # none is that likely: the best
        (FOUR, 1.0, [0]),
        (TIED, 0.25, [1, 2]),
        (TIED, 0.5, [1]),  # of two best ones the lower id
        ([0.25] * 4, 0.25, [0, 1, 2, 3]),  # not below it
        ([0.25] * 4, 0.26, [0]),
        ([0.0, 0.6, 0.4, 0.0], 0.1, [1, 2]),
        ([0.0, 0.6, 0.4, 0.0], 0.9, [1]),
        ([1.0], 1.0, [0]),
    ],
)
def test_by_hand(bench: Any, probs: list[float], e: float, left: list[int]) -> None:
    logits = bench.logits_of(probs)
    assert bench.kept(bench.stage("epsilon", e), logits) == [left]
    assert bench.kept([bench.stage("epsilon", e), bench.stage("epsilon", 0.3)], logits.expand(2, -1))[0] == left


@pytest.mark.parametrize(
    ("probs", "e", "left"),
    [(FOUR, 0.12, [0, 1, 2]), (FOUR, 0.6, [0]), (TIED, 0.5, [1, 2]), ([0.25] * 4, 0.9, [0, 1, 2, 3])],
)
def test_hf_keeps_what_ties_with_the_best(bench: Any, probs: list[float], e: float, left: list[int]) -> None:
    assert bench.kept(bench.stage("epsilon", e, dialect="hf"), bench.logits_of(probs)) == [left]


def test_hf_refuses_the_ends(bench: Any) -> None:
    for e in (0.0, 1.0):
        with pytest.raises(StrategyError, match="above 0 and below 1"):
            bench.stage("epsilon", e, dialect="hf")
    with pytest.raises(StrategyError, match="at most 1"):
        bench.stage("epsilon", 1.5)


def test_a_row_left_with_nothing_is_said_to_be_rescued(bench: Any) -> None:
    dist = Dist(bench.logits_of([FOUR, FOUR]))
    stages = [bench.stage("epsilon", e) for e in (0.6, 0.2)]
    after = bench.run(stages, dist, bench.context(dist))
    assert after.rescued.tolist() == [[True], [False]]


def test_extremes(bench: Any) -> None:
    logits = torch.tensor([[3.4e38, 3.4e38, -3.4e38], [-3.4e38, -3.3e38, float("-inf")], [0.0, -1e-30, -800.0]])
    assert bench.kept(bench.stage("epsilon", 0.01), logits) == [[0, 1], [1], [0, 1]]
