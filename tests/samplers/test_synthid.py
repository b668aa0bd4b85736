"""SynthID-Text by hand: the tournament's arithmetic, when it steps aside, and its mean over keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill import StrategyError
from logitmill.core.dist import Dist
from logitmill.samplers.synthid import Synthid, all_g_values, context_hash, sampling_table

INF = float("inf")
MULTIPLIER, WRAP = 6364136223846793005, 2**64


def hashed(values: list[int]) -> int:
    """The published hash, in plain integers."""
    h = 1
    for value in values:
        h = ((h + value) * MULTIPLIER + 1) % WRAP
    return h


def test_the_hash_in_plain_integers() -> None:
    contexts = torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4], [49151, 0, 128255, 7]])
    for row, context in zip(context_hash(contexts).tolist(), contexts.tolist(), strict=True):
        assert row % WRAP == hashed(context)


def test_one_round_by_hand(bench: Any) -> None:
    """p' = p (1 + g - sum of p g): worked with the g that plain integers give."""
    stage = Synthid((77,), ngram=3)
    table = sampling_table(stage).tolist()
    probs = [0.5, 0.25, 0.125, 0.125]
    for output in ([], [3], [3, 1], [0, 2, 1]):
        context = ([0, 0, *output])[-2:]
        g = [table[hashed([*context, token, 77]) % 65536] for token in range(4)]
        won = sum(p * w for p, w in zip(probs, g, strict=True))
        expected = [p * (1 + w - won) for p, w in zip(probs, g, strict=True)]
        after = bench.apply(stage, bench.logits_of(probs), [9 % 4, 1], output).softmax(-1)
        assert after[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_context_that_was_there_is_left_alone(bench: Any) -> None:
    logits = bench.logits_of([0.5, 0.25, 0.125, 0.125])
    again = [1, 2, 3, 1, 2]  # behind the second 1, 2 the context is the first one's
    changed = lambda stage, output: not torch.allclose(bench.apply(stage, logits, [], output), logits)  # noqa: E731
    keys = tuple(range(1, 20))
    assert changed(Synthid(keys, ngram=3), again[:4])
    assert not changed(Synthid(keys, ngram=3), again)
    assert changed(Synthid(keys, ngram=3, history=2), again)  # it has been forgotten
    assert not changed(Synthid(keys, ngram=3, history=3), again)
    assert changed(Synthid(keys, ngram=3, history=0), again)
    assert not changed(Synthid(keys, ngram=2), [1, 1])


def test_the_prompt_does_not_count(bench: Any) -> None:
    logits = bench.logits_of([0.5, 0.25, 0.125, 0.125])
    stage = Synthid(tuple(range(1, 9)), ngram=3)
    first = bench.apply(stage, logits, [1, 2, 3], [2])
    assert torch.equal(first, bench.apply(stage, logits, [], [2]))
    assert torch.equal(first, bench.apply(stage, logits, [2, 2, 2, 2], [2]))


def test_the_first_tokens_may_be_left_alone(bench: Any) -> None:
    logits = bench.logits_of([0.5, 0.25, 0.125, 0.125])
    stage = Synthid(tuple(range(1, 9)), ngram=3, skip_first=True)
    assert torch.equal(bench.apply(stage, logits, [1]), logits)
    assert torch.equal(bench.apply(stage, logits, [1], [2]), logits)
    assert not torch.equal(bench.apply(stage, logits, [1], [2, 3]), logits)


def test_averaged_over_keys_the_model_s_own_distribution_stays() -> None:
    """2,000 keys: each of 4 means lies within 6 standard errors of the probability, a false alarm in 8e-9 runs."""
    probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    logits = probs.log()[None]
    from logitmill.core.strategy import Strategy

    runs = torch.cat([Strategy.of(Synthid((key, key + 7))).distribution(logits, output=[3]) for key in range(2000)])
    error = runs.std(0) / 2000**0.5
    assert ((runs.mean(0) - probs).abs() < 6 * error).all()


def test_a_narrowed_distribution_has_the_same_winners(bench: Any) -> None:
    stage = Synthid((5, 6, 7))
    dist = Dist(torch.randn(2, 300, generator=torch.Generator().manual_seed(0))).narrow(25)
    narrow = bench.run(stage, dist, bench.context(dist, [1], [2, 3])).dense().probs
    dense = bench.run(stage, dist.dense(), bench.context(dist, [1], [2, 3])).probs
    torch.testing.assert_close(narrow, dense, rtol=1e-5, atol=1e-7)


def test_edges(bench: Any) -> None:
    stage = Synthid((5, 6, 7))
    assert torch.equal(bench.apply(stage, [[0.0, -INF, -INF]]), torch.tensor([[0.0, -INF, -INF]]))
    alone = bench.apply(stage, [[3.0]])
    assert torch.isfinite(alone).all()
    assert all_g_values(stage, [1, 2, 3, 4, 5, 6]).shape == (2, 3)
    for fields, words in (
        ({"ngram": 1}, "at least 2"),
        ({"table_size": 2**25}, "at most"),
        ({"keys": (-1,)}, "at least 0"),
    ):
        with pytest.raises(StrategyError, match=words):
            bench.stage("synthid", **{"keys": (1,), **fields})
