"""A vocabulary too wide to sort each step: the short ways give what the long ones give, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist

WIDE = 6000


def rows(seed: int) -> torch.Tensor:
    """Four rows on a grid full of ties; every other seed with most tokens removed."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randint(-300, 300, (4, WIDE), generator=random) / 64.0 * (1 + seed % 5)
    return logits.masked_fill(torch.rand(4, WIDE, generator=random) < 0.9, float("-inf")) if seed % 2 else logits


@pytest.mark.parametrize("seed", range(6))
def test_few_tokens_are_put_in_order_by_themselves(seed: int) -> None:
    logits = rows(seed)
    assert torch.equal(Dist(logits).order, logits.sort(dim=-1, descending=True, stable=True).indices)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_top_p_from_its_head(bench: Any, seed: int, p: float) -> None:
    """Whether the cut lies among the best thousand or further down, in this row or in a neighbour."""
    stage = bench.stage("top_p", p)
    for given in (
        stage,
        bench.stage("top_p", p, min_keep=3),
        [stage, *(bench.stage("top_p", q) for q in (0.3, 1.0, 0.5))],
    ):
        sorted_first = Dist(rows(seed))
        assert sorted_first.order.shape == (4, WIDE)
        assert sorted_first.is_sorted
        long = bench.run(given, sorted_first, bench.context(sorted_first))
        short = bench.run(given, Dist(rows(seed)), bench.context(Dist(rows(seed))))
        assert torch.equal(long.dense().logits, short.dense().logits)
