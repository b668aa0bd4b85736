"""Stages that no engine runs as they are, against their papers' definitions, written out one token at a time.

Epsilon and eta (arXiv 2210.15191), p-less (arXiv 2509.23234), Top-H with its prefix normalised (arXiv 2509.02510),
tail-free sampling as llama.cpp had it, and a product of experts, in plain Python over lists of floats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from logitmill.core.strategy import Strategy

PEER = "paper"
VOCAB = 24
GONE = -math.inf
Row = list[float]
Kept = set[int]


def softmax(row: Row) -> Row:
    best = max(row)
    weights = [math.exp(logit - best) for logit in row]
    return [w / math.fsum(weights) for w in weights]


def entropy(probs: Row) -> float:
    total = math.fsum(probs)
    return -math.fsum(p / total * math.log(p / total) for p in probs if p > 0)


def in_order(row: Row) -> list[int]:
    """The tokens not removed, ties by id."""
    return sorted((i for i, logit in enumerate(row) if logit > GONE), key=lambda i: (-row[i], i))


def epsilon(row: Row, e: float) -> Kept:
    probs = softmax(row)
    return {i for i in in_order(row) if probs[i] >= e} or {in_order(row)[0]}


def eta(row: Row, e: float) -> Kept:
    return epsilon(row, min(e, math.sqrt(e) * math.exp(-entropy(softmax(row)))))


def p_less(row: Row) -> Kept:
    """Not below the chance that a guess drawn from the distribution is right."""
    return epsilon(row, math.fsum(p * p for p in softmax(row)))


def top_h(row: Row, alpha: float) -> Kept:
    """Greedily, the best first, while the entropy of what is taken, normalised, is at most alpha times the whole."""
    probs, taken = softmax(row), list[int]()
    for i in in_order(row):
        if taken and entropy([probs[j] for j in (*taken, i)]) > alpha * entropy(probs):
            break
        taken.append(i)
    return set(taken)


def tail_free(row: Row, z: float) -> Kept:
    order, probs = in_order(row), softmax(row)
    p = [probs[i] for i in order]
    if len(p) <= 2:
        return set(order)
    first = [a - b for a, b in itertools.pairwise(p)]
    second = [abs(a - b) for a, b in itertools.pairwise(first)]
    running = 0.0
    for i, bend in enumerate(second):
        running += bend / sum(second)
        if running > z:
            return set(order[: max(i, 1)])
    return set(order)


def rows() -> Iterator[Any]:
    """One row of logits each: random, tied, two levels, peaked, with removed tokens, a vocabulary of one."""
    random = torch.Generator().manual_seed(9)
    for i in range(10):
        yield pytest.param((torch.randn(VOCAB, generator=random) * (0.3 + i)).tolist(), id=f"random-{i}")
    for i in range(4):
        yield pytest.param((torch.randint(-4, 4, (VOCAB,), generator=random) / 2.0).tolist(), id=f"ties-{i}")
    yield pytest.param([2.5, 2.5, 2.5] + [0.0] * 21, id="two levels")
    yield pytest.param([30.0, 12.0] + [0.0] * 22, id="peaked")
    yield pytest.param([1.0, GONE, 0.5, GONE, 2.0, 1.75] + [GONE] * 18, id="removed")
    yield pytest.param([GONE] * 23 + [-3.0], id="one left")
    yield pytest.param([4.0], id="vocabulary of one")


every_row = pytest.mark.parametrize("row", list(rows()))


def difference(ours: torch.Tensor, row: Row, left: Kept) -> float:
    """The largest difference of two probabilities; what is kept has to be the same, token by token."""
    assert set((ours[0] > GONE).nonzero()[:, 0].tolist()) == left
    theirs = torch.tensor([[logit if i in left else GONE for i, logit in enumerate(row)]], dtype=torch.float64)
    return float((ours.softmax(-1).double() - theirs.softmax(-1)).abs().max())


@every_row
@pytest.mark.parametrize(
    ("definition", "values"),
    [
        (epsilon, [(1e-4,), (0.01,), (0.1,), (0.7,)]),
        (eta, [(1e-4,), (0.01,), (0.1,), (0.7,)]),
        (p_less, [()]),
        (top_h, [(0.1,), (0.4,), (0.7,), (0.95,)]),
        (tail_free, [(0.1,), (0.5,), (0.9,), (0.99,)]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_one_stage(bench: Any, parity: Any, row: Row, definition: Any, values: Any) -> None:
    for value in values:
        ours = bench.apply(bench.stage(definition.__name__, *value), row)
        gap = difference(ours, row, definition(row, *value))
        assert gap < 1e-6
        parity.note(definition.__name__, PEER, gap)


@every_row
def test_a_product_of_experts(bench: Any, parity: Any, row: Row) -> None:
    """The distribution itself, its three best tokens, and it at temperature 2, to the powers 0.5, 1.5 and 1."""
    parts = [(0.5, Strategy()), (1.5, bench.stage("top_k", 3)), (1.0, bench.stage("temperature", 2.0))]
    ours = bench.law(bench.stage("product", *parts), [row]).dense().probs.double()
    best = set(in_order(row)[:3])
    experts = [row, [logit if i in best else GONE for i, logit in enumerate(row)], [logit / 2 for logit in row]]
    shares = [softmax(expert) for expert in experts]
    powers = [math.prod(p[i] ** w for p, w in zip(shares, (0.5, 1.5, 1.0), strict=True)) for i in range(len(row))]
    theirs = torch.tensor([[power / math.fsum(powers) for power in powers]], dtype=torch.float64)
    gap = float((ours - theirs).abs().max())
    assert gap < 1e-6
    parity.note("product", PEER, gap)
