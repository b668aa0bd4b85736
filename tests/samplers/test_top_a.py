"""Top-a by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

FOUR = [0.5, 0.25, 0.15, 0.1]


@pytest.mark.parametrize(
    ("probs", "a", "left"),
    [
        (FOUR, 0.0, [0, 1, 2, 3]),
        (FOUR, 0.3, [0, 1, 2, 3]),  # .075
        (FOUR, 0.5, [0, 1, 2]),  # .125
        (FOUR, 0.9, [0, 1]),  # .225
        ([0.9, 0.06, 0.04], 0.06, [0, 1]),  # .0486
        ([0.9, 0.06, 0.04], 0.2, [0]),  # .162
        ([0.2, 0.3, 0.3, 0.2], 1.0, [0, 1, 2, 3]),  # .09
        ([0.0, 0.7, 0.3, 0.0], 0.7, [1]),  # .343
        ([1.0], 1.0, [0]),
    ],
)
def test_by_hand(bench: Any, probs: list[float], a: float, left: list[int]) -> None:
    logits = bench.logits_of(probs)
    assert bench.kept(bench.stage("top_a", a), logits) == [left]
    assert bench.kept([bench.stage("top_a", a), bench.stage("top_a", 0.2)], logits.expand(2, -1))[0] == left


def test_a_sure_token_lies_on_its_own_threshold_and_stays(bench: Any) -> None:
    assert bench.kept(bench.stage("top_a", 1.0), torch.tensor([[0.0, -200.0, -200.0]])) == [[0]]
    assert bench.kept(bench.stage("top_a", 1.0), torch.zeros(1, 1)) == [[0]]


def test_equal_tokens_share_their_fate(bench: Any) -> None:
    for a in (0.2, 1.0):
        assert bench.kept(bench.stage("top_a", a), torch.zeros(1, 30)) == [list(range(30))]


def test_extremes(bench: Any) -> None:
    logits = torch.tensor([[3.4e38, 3.4e38, -3.4e38], [-3.4e38, -3.3e38, float("-inf")], [0.0, -1e-30, -800.0]])
    assert bench.kept(bench.stage("top_a", 0.2), logits) == [[0, 1], [1], [0, 1]]
