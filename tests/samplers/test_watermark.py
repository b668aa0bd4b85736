"""The green-list watermark by hand: the share of green tokens, what decides it, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill import StrategyError
from logitmill.core.dist import Dist

INF = float("inf")


def greens(bench: Any, stage: Any, prompt: list[int], output: list[int] = [], vocab: int = 4000) -> set[int]:  # noqa: B006
    """The tokens of a flat distribution that a stage raises."""
    after = bench.apply(stage, torch.zeros(1, vocab), prompt, output)[0]
    assert set(after.tolist()) <= {0.0, 2.0}
    return set(after.nonzero()[:, 0].tolist())


def test_a_quarter_is_green_and_gets_the_bias(bench: Any) -> None:
    """4,000 fair draws at 1/4 lie within 6 standard deviations (27.4 each) of 1,000: a false alarm in 2e-9 runs."""
    assert abs(len(greens(bench, bench.stage("watermark"), [7])) - 1000) < 6 * 27.4


def test_only_the_key_and_the_last_tokens_decide(bench: Any) -> None:
    stage, wide = bench.stage("watermark"), bench.stage("watermark", context=2)
    assert greens(bench, stage, [7]) == greens(bench, stage, [1, 2], [3, 7])
    assert greens(bench, stage, [7]) != greens(bench, stage, [8])
    assert greens(bench, stage, [7]) != greens(bench, bench.stage("watermark", key=1), [7])
    assert greens(bench, wide, [3, 7]) == greens(bench, wide, [9], [3, 7])
    assert greens(bench, wide, [3, 7]) != greens(bench, wide, [4, 7])
    assert greens(bench, wide, [3, 7]) != greens(bench, wide, [7, 3])


def test_lists_of_different_contexts_are_independent(bench: Any) -> None:
    """Of 4,000 tokens 250 are green twice over, give or take 15.3; six of those fail once in 2e-9 runs."""
    stage = bench.stage("watermark")
    both = greens(bench, stage, [7]) & greens(bench, stage, [8])
    assert abs(len(both) - 250) < 6 * 15.3


def test_it_is_a_token_s_own_matter(bench: Any) -> None:
    """On a narrowed distribution the same tokens are green."""
    dist = Dist(torch.randn(2, 500, generator=torch.Generator().manual_seed(0)))
    stage = bench.stage("watermark", 0.5, 1.5)
    whole = bench.run(stage, dist, bench.context(dist, [[1], [2]]))
    few = dist.narrow(20)
    part = bench.run(stage, few, bench.context(dist, [[1], [2]]))
    assert torch.equal(part.logits, whole.logits.gather(-1, few.ids))


def test_a_row_without_enough_tokens_is_left_alone(bench: Any) -> None:
    logits = torch.zeros(2, 50)
    for fields in ({}, {"dialect": "hf"}, {"dialect": "hf", "scheme": "selfhash"}):
        after = bench.apply(bench.stage("watermark", context=3, **fields), logits, [[1, 2], [1, 2, 3]])
        assert torch.equal(after[0], logits[0])
        assert not torch.equal(after[1], logits[1])


@pytest.mark.parametrize("fields", [{}, {"dialect": "hf"}])
def test_removed_tokens_stay_removed(bench: Any, fields: dict[str, Any]) -> None:
    logits = torch.zeros(1, 60)
    logits[0, ::2] = -INF
    after = bench.apply(bench.stage("watermark", 0.9, **fields), logits, [5])
    assert (after[0, ::2] == -INF).all()


def test_what_it_refuses(bench: Any) -> None:
    for fields, words in (
        ({"ratio": 0.0}, "watermark.ratio must be above 0"),
        ({"ratio": 1.0}, "watermark.ratio must be below 1"),
        ({"context": 0}, "watermark.context must be at least 1"),
        ({"scheme": "selfhash"}, "hf dialect"),
    ):
        with pytest.raises(StrategyError, match=words):
            bench.stage("watermark", **fields)


def test_the_bias_may_follow_a_signal(bench: Any) -> None:
    """Nothing where the model is sure: its entropy is the bias."""
    import logitmill as lm

    logits = torch.zeros(2, 40)
    logits[1, 0] = 500.0
    strategy = lm.Strategy.parse("watermark(0.5, bias=entropy)")
    probs = strategy.distribution(logits, prompt=[1])
    assert len(set(probs[0].tolist())) == 2
    assert probs[1, 0] == 1.0
    up, down = max(probs[0].tolist()), min(probs[0].tolist())
    assert up / down == pytest.approx(40.0, rel=1e-5)  # exp(ln 40)
