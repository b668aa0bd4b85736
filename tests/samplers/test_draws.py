"""greedy and sample: the law, the draw, and the draw against the law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.strategy import Strategy

DRAWS = 20_000
#: chance that one chi-square test below fails although the draws are exact; a dozen of them: about one in 10^8
FALSE_ALARM = 1e-9


def test_greedy(bench: Any) -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, -1.0, -2.0, float("-inf")]])
    strategy = Strategy.of(bench.stage("greedy"))
    assert strategy.draw(logits).tolist() == [1, 0]  # ties to the lowest id
    assert strategy.distribution(logits).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_greedy_takes_the_same_token_from_any_columns(bench: Any) -> None:
    logits = torch.randn(8, 64)
    for before in (bench.stage("top_k", 3), bench.stage("temperature", 0.3), bench.stage("top_p", 0.5)):
        assert (before | bench.stage("greedy")).draw(logits).equal(logits.argmax(-1))


def test_greedy_reads_no_noise(bench: Any) -> None:
    strategy = Strategy.of(bench.stage("greedy"))
    assert (
        strategy.draw(torch.zeros(4, 9), seed=1).tolist()
        == strategy.draw(torch.zeros(4, 9), seed=2).tolist()
        == [0] * 4
    )


def test_a_seed_is_a_whole_number(bench: Any) -> None:
    assert bench.stage("sample", 2**64 - 1).seed == 2**64 - 1
    for seed in (-1, 2**64, 1.5, True):
        with pytest.raises(StrategyError):
            bench.stage("sample", seed=seed)


PROBS = [0.3, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02]


@pytest.mark.parametrize(
    "truncations",
    [
        [], [("top_k", 3)], [("top_p", 0.7)], [("min_p", 0.2)], [("typical", 0.6)], [("top_n_sigma", 1.0)],
        [("temperature", 1.7)], [("dynamic_temperature", 0.5, 1.5)],
        [("temperature", 0.6), ("top_k", 5), ("top_p", 0.9)],
        [("ban", 0, 3)],
    ],
    ids=lambda t: "+".join(s[0] for s in t) or "none",
)  # fmt: skip
def test_draws_have_the_exact_distribution(bench: Any, truncations: list[tuple[Any, ...]]) -> None:
    """20,000 rows with seeds of their own against exact probabilities, by chi-square; nothing outside the support."""
    strategy = Strategy.of(bench.stage("sample"))
    for stage in reversed(truncations):
        strategy = bench.stage(*stage) | strategy
    logits = bench.logits_of(PROBS)
    exact = strategy.distribution(logits)[0].double()
    drawn = strategy.draw(logits.expand(DRAWS, -1), seed=20)
    counts = torch.bincount(drawn, minlength=len(PROBS))
    support = exact > 0
    assert counts[~support].sum() == 0
    if support.sum() > 1:
        expected = exact[support] / exact[support].sum() * DRAWS
        assert stats.chisquare(counts[support].numpy(), expected.numpy()).pvalue > FALSE_ALARM


def test_xtc_draws_have_the_distribution_of_its_coin(bench: Any) -> None:
    """With probability 0.4 the best two of three top choices go: p = .6 p + .4 p', by chi-square."""
    logits = bench.logits_of(PROBS)
    drawn = (bench.stage("xtc", 0.4, 0.15) | bench.stage("sample")).draw(logits.expand(DRAWS, -1), seed=21)
    p = torch.tensor(PROBS, dtype=torch.float64)
    left = torch.tensor([0.0, 0.0, *PROBS[2:]], dtype=torch.float64)
    expected = (0.6 * p + 0.4 * left / left.sum()) * DRAWS
    counts = torch.bincount(drawn, minlength=len(PROBS))
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > FALSE_ALARM


def test_a_mix_draws_the_mixture(bench: Any) -> None:
    mix = bench.stage("mix", (0.7, bench.stage("top_k", 2)), (0.3, bench.stage("temperature", 2.0)))
    logits = bench.logits_of(PROBS)
    counts = torch.bincount((mix | bench.stage("sample")).draw(logits.expand(DRAWS, -1), seed=22), minlength=len(PROBS))
    p = torch.tensor(PROBS, dtype=torch.float64)
    flat = p.sqrt() / p.sqrt().sum()
    expected = (0.7 * torch.tensor([0.3, 0.22] + [0.0] * 6).double() / 0.52 + 0.3 * flat) * DRAWS
    assert stats.chisquare(counts.numpy(), (expected / expected.sum() * DRAWS).numpy()).pvalue > FALSE_ALARM


def test_a_draw_is_the_same_alone_and_in_company(bench: Any) -> None:
    strategy = (
        bench.stage("temperature", 1.2)
        | bench.stage("top_p", 0.9)
        | bench.stage("xtc", 0.5, 0.05)
        | bench.stage("sample")
    )
    logits = torch.randint(-128, 128, (32, 50), generator=torch.Generator().manual_seed(0)) / 64.0
    together = strategy.draw(logits, seed=list(range(100, 132)))
    for i in range(32):
        assert strategy.draw(logits[i : i + 1], seed=[100 + i]).item() == together[i]


def test_a_draw_is_the_same_from_the_whole_vocabulary_and_from_what_is_left(bench: Any) -> None:
    logits = torch.randint(-128, 128, (256, 50), generator=torch.Generator().manual_seed(1)) / 64.0
    sample = Strategy.of(bench.stage("sample"))
    cut = Dist(logits).narrow(7)
    assert (bench.stage("top_k", 7) | sample).draw(logits, seed=3).equal(sample.draw(cut.dense().logits, seed=3))
