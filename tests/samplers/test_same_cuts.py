"""A cut is the same on the whole vocabulary and on a narrowed set, also for a token that lies exactly on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist

VOCAB, ROWS, LEFT = 20_000, 40, 40


def peaked() -> Dist:
    """Forty tokens a row at random ids, most of the mass on a few of them; the other 19,960 are removed."""
    random = torch.Generator().manual_seed(1)
    logits = torch.full((ROWS, VOCAB), float("-inf"))
    ids = torch.stack([torch.randperm(VOCAB, generator=random)[:LEFT] for _ in range(ROWS)])
    return Dist(logits.scatter(-1, ids, torch.randn(ROWS, LEFT, generator=random) * 6))


def weights(dist: Dist, row: int) -> list[float]:
    """Descending, relative to the best, in float64."""
    best = dist.logits[row].sort(descending=True).values[:LEFT].tolist()
    return [math.exp(logit - best[0]) for logit in best]


def rounded(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))


def epsilon(w: list[float], k: int) -> float:
    """The probability of the k-th."""
    return w[k] / math.fsum(w)


def top_a(w: list[float], k: int) -> float:
    """What times the squared probability of the best is that of the k-th."""
    return w[k] * math.fsum(w)


def top_p(w: list[float], k: int) -> float:
    """The mass of the best k + 1."""
    return math.fsum(w[: k + 1]) / math.fsum(w)


def entropy(w: list[float]) -> float:
    """Of the normalised weights, from terms of one sign."""
    rest = math.fsum(w[1:])
    return math.log1p(rest) + math.fsum(-x * math.log(x) for x in w[1:]) / (1 + rest)


def top_h(w: list[float], k: int) -> float:
    """The share of the entropy that the best k + 1 have."""
    return entropy(w[: k + 1]) / entropy(w)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("cut", [epsilon, top_a, top_p, top_h], ids=lambda cut: cut.__name__)
def test_a_token_on_the_cut(bench: Any, cut: Callable[[list[float], int], float], k: int) -> None:
    """Each row with a value of its own, at which its k-th token is the last to stay."""
    dist = peaked()
    values = [rounded(cut(weights(dist, row), k)) for row in range(ROWS)]
    rows = [row for row in range(ROWS) if values[row] < 1]  # at 1 nothing is cut
    assert len(rows) > ROWS // 4
    stages = [bench.stage(cut.__name__, values[row]) for row in rows]
    whole = dist.select(rows)
    for given in (whole, whole.narrow(LEFT), whole.narrow(1000)):
        after = bench.run(stages, given, bench.context(given))
        assert after.kept.tolist() == [[k + 1]] * len(rows)


@pytest.mark.parametrize(
    "stage",
    ["eta", "p_less", "tail_free", "typical", "min_p", "top_n_sigma", "epsilon", "top_h", "top_a"],
)
def test_the_same_tokens_stay(bench: Any, stage: str) -> None:
    dist = peaked()
    for value in (0.001, 0.01, 0.2, 0.5, 0.9, 0.999):
        made = bench.stage(stage) if stage == "p_less" else bench.stage(stage, value)
        narrowed = dist.narrow(LEFT)
        assert torch.equal(
            bench.run(made, dist, bench.context(dist)).dense().logits,
            bench.run(made, narrowed, bench.context(narrowed)).dense().logits,
        )
