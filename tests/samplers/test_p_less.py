"""P-less by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist


@pytest.mark.parametrize(
    ("probs", "left"),
    [
        ([0.5, 0.25, 0.15, 0.1], [0]),  # the squares sum to .345
        ([0.2, 0.3, 0.3, 0.2], [1, 2]),  # .26
        ([0.3, 0.3, 0.3, 0.1], [0, 1, 2]),  # .28
        ([0.4, 0.35, 0.25], [0, 1]),  # .345
        ([0.25] * 4, [0, 1, 2, 3]),  # .25
        ([0.0, 0.5, 0.5, 0.0], [1, 2]),
        ([0.0, 0.0, 1.0], [2]),
        ([1.0], [0]),
    ],
)
def test_by_hand(bench: Any, probs: list[float], left: list[int]) -> None:
    assert bench.kept(bench.stage("p_less"), bench.logits_of(probs)) == [left]


@pytest.mark.parametrize("size", [2, 3, 7, 97, 1000, 50257])
def test_it_is_never_empty_and_equal_tokens_share_their_fate(bench: Any, size: int) -> None:
    """Where rounding could put the sum above the best probability, everything would go: nothing has to be rescued."""
    random = torch.Generator().manual_seed(size)
    rows = torch.stack([torch.zeros(size), torch.full((size,), 7.3), torch.randn(size, generator=random) * 1e-4])
    dist = Dist(rows)
    after = bench.run(bench.stage("p_less"), dist, bench.context(dist))
    assert not after.rescued.any()
    assert after.kept[:2].tolist() == [[size], [size]]


def test_extremes(bench: Any) -> None:
    logits = torch.tensor([[3.4e38, 3.4e38, -3.4e38], [-3.4e38, -3.3e38, float("-inf")], [0.0, -1e-30, -800.0]])
    assert bench.kept(bench.stage("p_less"), logits) == [[0, 1], [1], [0, 1]]
