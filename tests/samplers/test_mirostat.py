"""mirostat: what it draws from and how mu moves, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.planner import plan
from logitmill.core.session import Session
from logitmill.core.strategy import Strategy

INF = float("inf")
HALVES = [0.5, 0.25, 0.125, 0.125]  # surprises of 1, 2, 3 and 3 bits


def law(bench: Any, probs: Any, *args: Any, **fields: Any) -> list[float]:
    """Row 0's probabilities at the first step, where mu = 2 tau."""
    strategy = Strategy.of(bench.stage("mirostat", *args, **fields))
    return [round(float(p), 6) for p in strategy.distribution(bench.logits_of(probs))[0]]


def run(bench: Any, stage: Any, probs: Any, tokens: list[list[int]]) -> list[list[float]]:
    """mu of each row after each of some steps on the same distributions, the tokens given."""
    dist = Dist(bench.logits_of(probs))
    ctx = bench.context(dist)
    session = Session.opened(plan(Strategy.of(stage)), ctx)
    mus = []
    for step in tokens:
        proposal = session.propose(dist, ctx)
        ctx.history.append(torch.tensor(step)[:, None], step)
        session.commit(proposal, torch.tensor(step)[:, None], ctx)
        mus.append([float(mu) for mu in session.states[0].mu])
    return mus


@pytest.mark.parametrize(
    ("tau", "left"),
    [(0.0, 1), (0.49, 1), (0.5, 1), (0.9, 1), (1.0, 2), (1.4, 2), (1.5, 4), (50.0, 4)],
)
def test_two_keeps_what_surprises_by_mu_at_most(bench: Any, tau: float, left: int) -> None:
    kept = HALVES[:left] + [0.0] * (4 - left)
    assert law(bench, HALVES, tau) == [round(p / sum(kept), 6) for p in kept]


def test_two_keeps_the_best_where_all_surprise_too_much(bench: Any) -> None:
    assert law(bench, [0.125] * 8, 1.0) == [1.0] + [0.0] * 7  # 3 bits each, mu = 2: of equals the lowest id
    assert law(bench, [0.125] * 8, 1.5) == [0.125] * 8


@pytest.mark.parametrize(
    ("tau", "left"),
    [(0.0, 1), (0.7, 1), (0.8, 2), (1.0, 2), (1.37, 2), (1.4, 3), (1.75, 3), (1.8, 4), (40.0, 4), (600.0, 4)],
)
def test_one_keeps_the_k_best(bench: Any, tau: float, left: int) -> None:
    """p_i = c / i^2, so s = 2, e = 1 and k = sqrt(2^mu / (1 - 1/4)): 3 from mu = 2.76 on, 4 from mu = 3.59 on."""
    squares = [1 / i**2 for i in range(1, 5)]
    probs = [p / sum(squares) for p in squares]
    kept = probs[:left] + [0.0] * (4 - left)
    assert law(bench, probs, tau, 0.1, 1) == [round(p / sum(kept), 6) for p in kept]


def test_one_counts_the_whole_vocabulary_but_only_looks_at_what_is_left(bench: Any) -> None:
    """The same four among a hundred: k = sqrt(8 / (1 - 1/100)) = 2.84 at mu = 3, and sqrt(8 / (3/4)) = 3.27 before."""
    squares = [1 / i**2 for i in range(1, 5)]
    probs = [0.0] * 100
    for i, p in zip((7, 80, 3, 50), squares, strict=True):
        probs[i] = p / sum(squares)
    assert sum(p > 0 for p in law(bench, probs, 1.5, 0.1, 1)) == 2
    assert sum(p > 0 for p in law(bench, [p for p in probs if p], 1.5, 0.1, 1)) == 3


def test_one_in_its_limits(bench: Any) -> None:
    """All equal: s = 0, and k is endless above mu = log2(N - 1), 0 below. s = 1: k = 2^mu / ln N, 2.885 for mu = 2."""
    assert law(bench, [0.125] * 8, 1.41, 0.1, 1) == [0.125] * 8
    assert law(bench, [0.125] * 8, 1.40, 0.1, 1) == [1.0] + [0.0] * 7
    assert law(bench, HALVES, 1.0, 0.1, 1, m=2) == [0.666667, 0.333333, 0.0, 0.0]
    assert law(bench, [1.0], 1.0, 0.1, 1) == [1.0]
    assert law(bench, [0.0, 1.0, 0.0], 1.0, 0.1, 1) == [0.0, 1.0, 0.0]


def test_what_llamacpp_makes_of_a_k_too_large(bench: Any) -> None:
    fields = {"dialect": "llamacpp"}
    assert law(bench, [0.125] * 8, 1.41, 0.1, 1, **fields) == [1.0] + [0.0] * 7
    assert law(bench, HALVES, 1.0, 0.1, 1, m=2, **fields) == [1.0, 0.0, 0.0, 0.0]
    assert law(bench, HALVES, 64.0, 0.1, 1, **fields) == [1.0, 0.0, 0.0, 0.0]  # 2^128 is no float32
    assert law(bench, HALVES, 12.0, 0.1, 1, **fields) == HALVES
    assert law(bench, HALVES, 1.0, **fields) == law(bench, HALVES, 1.0)


@pytest.mark.parametrize(("m", "left"), [(2, 4), (3, 2), (4, 3), (100, 3)])
def test_one_looks_at_the_m_best(bench: Any, m: int, left: int) -> None:
    """b = (0, ln 4, 0), t = (ln 2, ln 3/2, ln 4/3) and mu = 1.97.

    One pair: s = 0, k endless. Two: s = 0.8717, k = (-0.1283 * 3.918 / (1 - 4^0.1283))^(1/s) = 2.97. Three: s =
    0.7725, k = 3.11.
    """
    got = law(bench, [0.4, 0.4, 0.1, 0.1], 0.985, 0.1, 1, m=m)
    assert [p > 0 for p in got] == [True] * left + [False] * (4 - left)


@pytest.mark.parametrize("variant", [1, 2])
def test_mu_moves_by_the_surprise_under_the_law(bench: Any, variant: int) -> None:
    """tau = 1, eta = 1/2. First law (2/3, 1/3): token 1 surprises by log2 3. Then mu = 1.708: token 0 alone, 0 bits."""
    first = 2 - 0.5 * (math.log2(3) - 1)
    if variant == 2:
        mus = run(bench, bench.stage("mirostat", 1.0, 0.5), HALVES, [[1], [0]])
        second = first + 0.5
    else:  # s = 1 from the one pair, and k = 2^1.708 / ln 4 = 2.36: still two, and token 0 surprises by log2 1.5
        mus = run(bench, bench.stage("mirostat", 1.0, 0.5, 1, m=2), [0.5, 0.125, 0.125, 0.25], [[3], [0]])
        second = first - 0.5 * (math.log2(1.5) - 1)
    assert [mu for (mu,) in mus] == pytest.approx([first, second], abs=1e-6)


def test_rows_have_a_mu_each_and_a_token_without_mass_moves_none(bench: Any) -> None:
    mus = run(bench, bench.stage("mirostat", 1.0, 0.5), [HALVES, HALVES, HALVES], [[0, 1, 3]])
    assert mus[0] == [
        pytest.approx(2 - 0.5 * (math.log2(1.5) - 1), abs=1e-6),
        pytest.approx(2 - 0.5 * (math.log2(3) - 1), abs=1e-6),
        2.0,  # token 3 was cut: it was put there by something else
    ]


def test_tau_and_eta_may_be_schedules(bench: Any) -> None:
    """tau falls from 1 to 0 over two tokens: mu0 = 2, and the error is taken against the tau of its step."""
    strategy = Strategy.parse("mirostat(1 -> 0 over 2, 0.5)")
    mus = run(bench, strategy.pipeline[0].stage, HALVES, [[0], [0], [0]])
    first = 2 - 0.5 * (math.log2(1.5) - 1)  # 2.2075
    second = first - 0.5 * (math.log2(1.5) - 0.5)  # 2.1650
    third = second - 0.5 * math.log2(1.5)
    assert [mu for (mu,) in mus] == pytest.approx([first, second, third], abs=1e-6)


def test_a_wild_learning_rate_never_ends_in_nan(bench: Any) -> None:
    for eta in (1e30, 3e38):
        mus = run(bench, bench.stage("mirostat", 1.0, eta), [HALVES, HALVES], [[1, 0], [0, 0], [0, 0], [0, 1]])
        assert all(math.isfinite(mu) for step in mus for mu in step)


def test_extreme_logits(bench: Any) -> None:
    table = torch.tensor([[3.4e38, -3.4e38, 0.0, -INF], [3.4e38, 3.4e38, -3.4e38, -INF], [-3.4e38, -INF, -INF, -INF]])
    for variant in (1, 2):
        got = Strategy.of(bench.stage("mirostat", 1.0, 0.1, variant)).distribution(table)
        assert got[0].tolist() == [1, 0, 0, 0]
        assert got[2].tolist() == [1, 0, 0, 0]
        assert got[1].sum() == pytest.approx(1.0)
        assert got[1, 2:].tolist() == [0, 0]
    half = Strategy.of(bench.stage("mirostat", 1.1)).distribution(bench.logits_of(HALVES).half())
    assert half[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=1e-3)


def test_a_large_vocabulary_is_cut_as_a_small_one(bench: Any) -> None:
    """The same cut whether k falls in the part that a CPU sorts or beyond it, for rows with each."""
    ranks = torch.arange(1, 9001, dtype=torch.float64)
    logits = torch.stack([-(ranks.log() * 1.2), -(ranks.log() * 3)]).float()
    got = Strategy.of(bench.stage("mirostat", 6.0, 0.1, 1)).distribution(logits)
    for row, s in enumerate((1.2, 3.0)):
        k = ((s - 1) * 2**12 / (1 - 9000 ** (1 - s))) ** (1 / s)
        assert (got[row] > 0).sum() == pytest.approx(k, abs=1.01)
        assert (got[row, : int(k) - 1] > 0).all()


def test_distribution_starts_at_the_prompt(bench: Any) -> None:
    strategy = Strategy.of(bench.stage("mirostat", 1.0, 0.5))
    logits = bench.logits_of(HALVES)
    assert torch.equal(strategy.distribution(logits, [1], [1, 2, 3]), strategy.distribution(logits))


def test_wrong_arguments(bench: Any) -> None:
    for args in ((-1.0,), (1.0, -0.1), (1.0, 0.1, 3), (1.0, 0.1, 2, 1)):
        with pytest.raises(StrategyError, match="mirostat"):
            bench.stage("mirostat", *args)
