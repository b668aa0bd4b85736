"""The short way to the best tokens gives what the long one gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from logitmill.core.selection import WIDTH, best, fast_best, tops

SIZES = [5 * WIDTH, 40 * WIDTH, 40 * WIDTH + 1, 60 * WIDTH - 1, 7001]


def table(seed: int, columns: int, kind: str) -> Tensor:
    """Three rows: without ties, on a grid full of them, of a few values, or with most tokens removed."""
    random = torch.Generator().manual_seed(seed)
    if kind == "plain":
        return torch.randn(3, columns, generator=random) * 3
    if kind == "grid":
        return torch.randint(-400, 400, (3, columns), generator=random) / 64.0
    if kind == "few":
        return torch.randint(0, 3, (3, columns), generator=random).float()
    held = torch.randn(3, columns, generator=random)
    return held.masked_fill(torch.rand(3, columns, generator=random) < 0.999, float("-inf"))


KINDS = ["plain", "grid", "few", "removed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("k", [1, 2, 7, 50])
def test_the_best_by_blocks(columns: int, k: int, kind: str) -> None:
    values = table(columns + k, columns, kind)
    expected = values.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(best(values, k), expected.indices[:, :k])
    for maxima in (None, tops(values)):
        found, chosen = fast_best(values, k, maxima)
        assert torch.equal(chosen, expected.indices[:, :k])
        assert torch.equal(found, expected.values[:, :k])
    for row in range(len(values)):  # by itself it goes another way
        one = values[row : row + 1]
        found, chosen = fast_best(one, k, tops(one))
        assert torch.equal(chosen, expected.indices[row : row + 1, :k])
        assert torch.equal(found, expected.values[row : row + 1, :k])


def test_nan_is_among_the_best() -> None:
    """So that whatever looks at the best finds it."""
    values = table(1, 4000, "plain")
    values[1, 3210] = float("nan")
    found, chosen = fast_best(values, 5, tops(values))
    assert int(chosen[1, 0]) == 3210
    assert bool(found[1, 0].isnan())
    assert torch.equal(chosen[0], best(values[:1], 5)[0])
    alone = values[1:2, : 40 * WIDTH].contiguous()
    found, chosen = fast_best(alone, 5, tops(alone))
    assert int(chosen[0, 0]) == 3210
    assert bool(found[0, 0].isnan())
    assert torch.equal(chosen, best(alone, 5))
