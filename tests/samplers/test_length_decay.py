"""length_decay against values worked on paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError

INF = float("inf")


def test_by_hand(bench: Any) -> None:
    """After two tokens, 1.5^(step - 2) - 1 of the logit's size is added: half of it at the third."""
    logits = [4.0, -2.0, 1.0]
    stage = bench.stage("length_decay", 2, 1.5)
    for output, expected in [([], [4.0, -2.0]), ([0, 0], [4.0, -2.0]), ([0] * 3, [6.0, -1.0]), ([0] * 4, [9.0, 0.5])]:
        after = bench.apply(stage, logits, [0] * 7, output, eos=(0, 1))
        assert after.tolist() == [[*expected, 1.0]], output


def test_below_one_it_lowers_and_at_one_it_is_off(bench: Any) -> None:
    assert bench.apply(bench.stage("length_decay", 0, 0.5), [4.0, -2.0], [], [0], eos=(0, 1)).tolist() == [[2.0, -3.0]]
    assert bench.stage("length_decay", 0, 1.0).is_identity()
    for factor in (0.0, -1.0):
        with pytest.raises(StrategyError, match="above 0"):
            bench.stage("length_decay", 0, factor)


def test_named_tokens(bench: Any) -> None:
    after = bench.apply(bench.stage("length_decay", 0, 2.0, ids=[1]), [4.0, -2.0, 1.0], [], [0], eos=(0,))
    assert after.tolist() == [[4.0, 0.0, 1.0]]


def test_edges(bench: Any) -> None:
    """Nothing moves a zero, brings back what is gone, or leaves float32."""
    stage = bench.stage("length_decay", 0, 1e30)
    after = bench.apply(stage, [0.0, -INF, 3.0, -3.0], [], [0] * 500, eos=(0, 1, 2, 3))
    largest = torch.finfo(torch.float32).max
    assert after.tolist() == [[0.0, -INF, largest, largest]]
    assert bench.apply(stage, [-INF, 2.0], [], [0] * 9, eos=(0,)).tolist() == [[-INF, 2.0]]


def test_a_value_for_each_row(bench: Any) -> None:
    stages = [bench.stage("length_decay", start, factor) for start, factor in ((0, 2.0), (1, 1.5), (5, 2.0))]
    after = bench.apply(stages, [[4.0, 1.0]] * 3, [[0], [], [1, 1]], [[0], [0, 0], [0, 0, 0]], eos=(0,))
    assert after.tolist() == [[8.0, 1.0], [6.0, 1.0], [4.0, 1.0]]


def test_on_a_narrowed_distribution(bench: Any) -> None:
    dist = Dist(torch.tensor([[0.5, 3.0, 1.0, 2.0]])).narrow(2)  # tokens 1 and 3
    for eos, expected in [(3, [3.0, 4.0]), (1, [6.0, 2.0]), (0, [3.0, 2.0])]:
        ctx = bench.context(dist, [], [1], eos=(eos,))
        assert bench.run(bench.stage("length_decay", 0, 2.0), dist, ctx).logits.tolist() == [expected]
