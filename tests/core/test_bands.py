"""What sums, thresholds and bins decide of a wide Dist."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from logitmill.core import bands
from logitmill.core.bands import Sums, deviation, halfway, keep_above, keep_between, keep_rows, reached_in
from logitmill.core.dist import NEG_INF, Dist

COLUMNS = 6007


def rows(spread: float, columns: int = COLUMNS) -> Tensor:
    """Normal; on a grid; and one token above others that are equal, at a distance that float32 rounds."""
    random = torch.Generator().manual_seed(columns)
    table = torch.randn(4, columns, generator=random) * spread
    table[1] = table[1].bfloat16().float()
    table[2] = 0.1
    table[2, 5] = 0.1 + 3 * spread + 1 / 3
    table[3, 7:500] = NEG_INF
    return table


def exactly(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(total, entropy, squares) in float64."""
    weights = (logits.double() - logits.amax(-1, keepdim=True)).exp()
    shares = weights / weights.sum(-1, keepdim=True)
    return (
        weights.sum(-1, keepdim=True),
        torch.special.entr(shares).sum(-1, keepdim=True),
        weights.square().sum(-1, keepdim=True),
    )


@pytest.mark.parametrize("columns", [4200, 49_152, 262_144])
@pytest.mark.parametrize("spread", [0.01, 1.0, 3.0, 8.0])
def test_sums_are_less_off_than_is_reckoned_with(columns: int, spread: float) -> None:
    logits = rows(spread, columns)
    total, entropy, squares = exactly(logits)
    for settled, most, most_entropy in ((False, bands.ROUGH, bands.ROUGH_ENTROPY), (True, bands.FINE, bands.FINE)):
        sums = Sums(Dist(logits), bands.ROUGH)
        if settled:
            sums.settle([0, 1, 2, 3])
        assert bool((sums.error == most).all())
        of_total, of_squares = (sums.total / total).log(), (sums.squares / squares).log()
        assert float(of_total.abs().max()) < most / 2
        assert float((of_squares - of_total).abs().max()) < most / 2
        assert float((sums.entropy - entropy).abs().max()) < most_entropy / 2


def test_deviation() -> None:
    logits = 1000 + rows(2.0)
    mean, sigma = deviation(Dist(logits))
    for row, values in enumerate(logits):
        left = values[values > NEG_INF].double()
        assert math.isclose(float(mean[row]), float(left.mean()), rel_tol=1e-12)
        assert math.isclose(float(sigma[row]), float(left.std(correction=0)), rel_tol=1e-12)


@pytest.mark.parametrize("at", [-100.0, -1.0, 2.0, 3.5])
def test_a_threshold_between_two_numbers(at: float) -> None:
    """With few kept, with many, with a row that keeps nothing; up to the last column, which no whole block holds."""
    logits = rows(1.0)
    logits[0, -1], logits[1, -2] = 9.0, 3.5
    low = torch.full((4, 1), at)
    kept = keep_between(Dist(logits), low, low)
    assert isinstance(kept, Dist)
    assert torch.equal(kept.dense().logits, Dist(logits).unlooked().keep(logits >= at).logits)


def test_the_rows_in_which_a_token_lies_too_close() -> None:
    logits = rows(1.0)
    logits[1, 3000] = logits[3, -1] = 3.0
    for far in (2.9, 3.0):
        low, high = torch.full((4, 1), far), torch.full((4, 1), 3.05)
        undecided = [row for row in range(4) if bool(((logits[row] >= far) & (logits[row] < 3.05)).any())]
        assert {1, 3} <= set(undecided)
        assert keep_between(Dist(logits), low, high) == undecided
        below = torch.full((4, 1), -1.0)
        assert keep_between(Dist(logits), torch.minimum(low, below), high) == [0, 1, 2, 3]
    assert keep_between(Dist(logits), low, torch.full((4, 1), float("nan"))) is None


def test_a_row_is_summed_again_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = rows(1.0)
    total = exactly(logits)[0]

    def depth(sums: Sums) -> Tensor:
        asked.append(sums.error.flatten().tolist())
        return (0.001 * sums.total).log()

    expected = (logits - logits.amax(-1, keepdim=True)).double() >= (0.001 * total).log()
    for rough, fine, asks in ((bands.ROUGH, bands.FINE, 1), (0.5, bands.FINE, 2), (0.5, 0.5, 2)):
        monkeypatch.setattr(bands, "FINE", fine)
        asked: list[list[float]] = []
        kept = keep_above(Dist(logits), depth, rough=rough)
        assert len(asked) == asks
        if fine == 0.5:
            assert kept is None
        else:
            assert kept is not None
            assert torch.equal(kept.dense().alive, expected & (logits > NEG_INF))
        if asks == 2:
            assert fine in asked[1]


def test_no_depth_above_the_most_lifts_the_threshold() -> None:
    logits = rows(1.0)
    kept = keep_above(Dist(logits), lambda sums: torch.zeros_like(sums.total), most=0.0)
    assert kept is not None
    assert torch.equal(kept.dense().alive, logits == logits.amax(-1, keepdim=True))
    assert keep_above(Dist(logits), lambda sums: torch.full_like(sums.total, -70.0)) is None  # too deep to round
    every = keep_above(Dist(logits), lambda sums: torch.full_like(sums.total, NEG_INF))
    assert every is not None
    assert torch.equal(every.dense().logits, logits)


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 1, 40), (2048, 5, 7), (2049, 1, 1)])
def test_few_tokens_kept_are_narrowed_to(counts: tuple[int, ...]) -> None:
    """Whichever they are: other columns stand in for those that a row keeps fewer."""
    random = torch.Generator().manual_seed(1)
    logits = torch.randint(0, 4, (3, COLUMNS), generator=random).float()
    for first in (True, False):
        mask = torch.zeros(3, COLUMNS, dtype=torch.bool)
        for row, count in enumerate(counts):
            mask[row, torch.arange(count) if first else torch.randperm(COLUMNS, generator=random)[:count]] = True
        kept = keep_rows(Dist(logits), list(mask))
        assert kept.columns == (max(counts) if max(counts) <= 2048 else COLUMNS)
        assert torch.equal(kept.dense().logits, torch.where(mask, logits, NEG_INF))
        if kept.is_ranked:
            values, ids = kept.candidates
            order = (values[:, 1:] < values[:, :-1]) | (ids[:, 1:] > ids[:, :-1])
            assert bool((order & (values[:, 1:] <= values[:, :-1])).all())  # descending, ties to the lower id


def test_the_bin_where_a_sum_is_reached() -> None:
    keys = torch.tensor([0.0, 5.0, 0.001, 3.0, 500.0, 3.005, 700.0], dtype=torch.float64)
    ones = torch.ones_like(keys)

    def found(count: int) -> bands.Near:
        return reached_in(keys, (ones, keys), lambda sums: sums[0] >= count)

    first, third, last = found(1), found(3), found(7)
    assert first.columns.tolist() == [0, 2]
    assert first.low == -math.inf
    assert not bool(first.before.any())
    assert third.columns.tolist() == [3, 5]
    assert third.before.nonzero()[:, 0].tolist() == [0, 2]
    assert third.low <= 3.0 < 3.005 < third.high
    assert torch.allclose(third.sums, torch.tensor([[2.0], [0.001]], dtype=torch.float64))
    assert third.first(torch.tensor([5])).nonzero()[:, 0].tolist() == [0, 2, 5]
    assert last.columns.tolist() == [4, 6]  # beyond the bins
    assert last.high == math.inf


def test_where_rounding_to_a_number_ends() -> None:
    values = torch.tensor([0.1, 0.5, 0.0])
    down, up = halfway(values, 0.0), halfway(values, math.inf)
    assert torch.equal((down * (1 + 1e-12)).float(), values)
    assert torch.equal((up * (1 - 1e-12)).float(), values)
    assert bool(((down * (1 - 1e-12)).float() < values)[:2].all())
    assert bool(((up * (1 + 1e-12)).float() > values)[:2].all())
