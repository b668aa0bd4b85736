"""gumbel: an exact draw, coupled token by token."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats

from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.strategy import Strategy

INF = float("inf")
DRAWS = 20_000
#: chance that one of the tests below that draw fails although the draws are exact; four of them
FALSE_ALARM = 1e-9


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``fixed(numbers)``: the noise of each token id, the same in every row."""

    def fix(numbers: list[float]) -> None:
        table = torch.tensor(numbers, dtype=torch.float64)
        monkeypatch.setattr(Context, "noise_by_token", lambda self, stage, dist: table[dist.token_ids()])

    return fix


def test_the_token_with_the_largest_sum(bench: Any, fixed: Any) -> None:
    """g = -ln(-ln u): 0 for u = 1/e, ln 2 for u = e^-1/2. Logits 0, 0.5 and 0.7 against 0.693 for token 0."""
    gumbel = Strategy.of(bench.stage("gumbel"))
    fixed([math.exp(-0.5), math.exp(-1), math.exp(-1), math.exp(-1)])
    assert gumbel.draw([[0.0, 0.5, 0.6, -INF], [0.0, 0.5, 0.7, -INF], [0.0, -INF, -INF, 0.1]]).tolist() == [0, 2, 0]


def test_ties_go_to_the_lowest_id(bench: Any, fixed: Any) -> None:
    fixed([0.5] * 4)
    assert Strategy.of(bench.stage("gumbel")).draw([[-INF, 2.0, 2.0, 1.0]]).tolist() == [1]


def test_noise_of_zero_is_no_minus_infinity(bench: Any, fixed: Any) -> None:
    """A token whose number is 0 may still be the only one, and draws nothing that was removed."""
    gumbel = Strategy.of(bench.stage("gumbel"))
    fixed([0.0, 0.0, 1 - 2.0**-53, 0.0])
    assert gumbel.draw([[-INF, 1.0, -INF, -INF], [-INF, 1.0, -INF, 2.0], [0.0, 0.0, -INF, 0.0]]).tolist() == [1, 3, 0]
    assert gumbel.draw([[0.0, 0.0, 0.0, 0.0]]).tolist() == [2]


def test_huge_logits_do_not_swallow_the_noise(bench: Any) -> None:
    logits = torch.tensor([3.4e38, 3.4e38, -3.4e38, -INF]).expand(2000, -1)
    counts = torch.bincount(Strategy.of(bench.stage("gumbel")).draw(logits, seed=5), minlength=4).tolist()
    assert counts[2:] == [0, 0]
    assert stats.binomtest(counts[0], 2000, 0.5).pvalue > FALSE_ALARM


def test_the_law_is_the_distribution(bench: Any) -> None:
    logits = torch.randn(3, 9)
    assert torch.equal(Strategy.of(bench.stage("gumbel")).distribution(logits), logits.softmax(-1))


def test_strategies_with_one_seed_agree_where_their_distributions_are_equal(bench: Any) -> None:
    """Whatever their columns: a narrowed, a dense and a shifted one."""
    logits = torch.randint(-128, 128, (512, 50), generator=torch.Generator().manual_seed(1)) / 64.0
    gumbel = Strategy.of(bench.stage("gumbel"))
    cut = Dist(logits).narrow(7).dense().logits
    drawn = (bench.stage("top_k", 7) | gumbel).draw(logits, seed=3)
    assert drawn.equal(gumbel.draw(cut, seed=3))
    assert drawn.equal(gumbel.draw(cut + 2.5, seed=3))


def test_close_distributions_agree_more_often_than_by_inverse_cdf(bench: Any) -> None:
    """Two distributions with the ids of p reversed in the tail: a maximal coupling would agree in 1 - TV of the draws.

    Gumbel's agrees in sum_i 1 / (1 + sum_j!=i max(q_j / q_i, p_j / p_i)) of them, by exact binomial.
    """
    p, q = [0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.1, 0.2]
    gumbel = Strategy.of(bench.stage("gumbel"))
    seeds = list(range(DRAWS))
    one = gumbel.draw(bench.logits_of(p).expand(DRAWS, -1), seed=seeds)
    other = gumbel.draw(bench.logits_of(q).expand(DRAWS, -1), seed=seeds)
    agree = sum(1 / sum(max(p[j] / p[i], q[j] / q[i]) for j in range(4)) for i in range(4))
    assert stats.binomtest(int((one == other).sum()), DRAWS, agree).pvalue > FALSE_ALARM


@pytest.mark.parametrize("other", ["sample", "gumbel as second"])
def test_draws_of_two_samplers_with_one_seed_are_independent(bench: Any, other: str) -> None:
    """20,000 pairs of draws by chi-square of their table: one seed is not one stream."""
    logits = bench.logits_of([0.4, 0.3, 0.2, 0.1]).expand(DRAWS, -1)
    one = Strategy.parse("gumbel").draw(logits, seed=9)
    two = Strategy.parse(other).draw(logits, seed=9)
    table = torch.bincount(one * 4 + two, minlength=16).reshape(4, 4)
    assert stats.chi2_contingency(table.numpy()).pvalue > FALSE_ALARM


def test_a_draw_is_the_same_alone_and_in_company(bench: Any) -> None:
    gumbel = bench.stage("top_p", 0.9) | bench.stage("gumbel")
    logits = torch.randint(-128, 128, (32, 50), generator=torch.Generator().manual_seed(0)) / 64.0
    together = gumbel.draw(logits, seed=list(range(100, 132)))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert gumbel.draw(logits[order], seed=[100 + int(i) for i in order]).equal(together[order])
    for i in range(32):
        assert gumbel.draw(logits[i : i + 1], seed=[100 + i]).item() == together[i]


def test_a_seed_is_a_whole_number(bench: Any) -> None:
    assert bench.stage("gumbel", 2**64 - 1).seed == 2**64 - 1
    for name, args in (("gumbel", ()), ("mirostat", ()), ("adaptive_p", (0.5,))):
        for seed in (-1, 2**64, 1.5, True):
            with pytest.raises(StrategyError):
                bench.stage(name, *args, seed=seed)
