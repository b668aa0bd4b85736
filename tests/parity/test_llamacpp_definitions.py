"""Stages against llama.cpp's definitions, written out one candidate at a time.

llama.cpp itself cannot be run here. What follows restates, in plain Python over lists, what its samplers do to an
array of candidates (src/llama-sampler.cpp): sums run in the order of the array, and nothing of a stage's own code is
used.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

import pytest
import torch

Candidates = list[tuple[int, float]]  # (token id, logit)
VOCAB = 24


def in_order(candidates: Candidates) -> Candidates:
    return sorted(candidates, key=lambda c: (-c[1], c[0]))


def softmax(candidates: Candidates) -> list[float]:
    best = max(logit for _, logit in candidates)
    weights = [math.exp(logit - best) for _, logit in candidates]
    return [w / sum(weights) for w in weights]


def top_k(candidates: Candidates, k: int) -> Candidates:
    return candidates if k <= 0 else in_order(candidates)[:k]


def top_p(candidates: Candidates, p: float, min_keep: int = 1) -> Candidates:
    if p >= 1:
        return candidates
    ordered, total = in_order(candidates), 0.0
    for i, share in enumerate(softmax(ordered)):
        total += share
        if total >= p and i + 1 >= min_keep:
            return ordered[: i + 1]
    return ordered


def min_p(candidates: Candidates, p: float) -> Candidates:
    if p <= 0:
        return candidates
    least = max(logit for _, logit in candidates) + math.log(p)
    return [c for c in candidates if c[1] >= least]


def typical(candidates: Candidates, p: float) -> Candidates:
    if p >= 1:
        return candidates
    ordered = in_order(candidates)
    shares = softmax(ordered)
    entropy = -sum(share * math.log(share) for share in shares)
    by_shift = sorted(range(len(ordered)), key=lambda i: abs(-math.log(shares[i]) - entropy))
    total = 0.0
    for n, i in enumerate(by_shift):
        total += shares[i]
        if total > p:
            return [ordered[j] for j in by_shift[: n + 1]]
    return ordered


def temperature(candidates: Candidates, value: float) -> Candidates:
    return [(i, logit / value) for i, logit in candidates] if value > 0 else in_order(candidates)[:1]


def temperature_ext(candidates: Candidates, value: float, spread: float, exponent: float) -> Candidates:
    if spread <= 0:
        return temperature(candidates, value)
    if len(candidates) <= 1:
        return candidates
    low, high = max(0.0, value - spread), value + spread
    entropy = -sum(share * math.log(share) for share in softmax(candidates) if share > 0)
    return temperature(candidates, low + (high - low) * (entropy / math.log(len(candidates))) ** exponent)


def top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    if n <= 0 or len(candidates) <= 1:
        return candidates
    logits = [logit for _, logit in candidates]
    mean = sum(logits) / len(logits)
    sigma = math.sqrt(sum((logit - mean) ** 2 for logit in logits) / len(logits))
    return [c for c in candidates if c[1] >= max(logits) - n * sigma]


def xtc(candidates: Candidates, threshold: float) -> Candidates:
    """When its coin has fallen for it."""
    if threshold > 0.5 or len(candidates) < 2:
        return candidates
    ordered, last = in_order(candidates), 0
    for i, share in enumerate(softmax(ordered)):
        if share < threshold:
            break
        last = i
    return ordered[last:]


def penalties(
    candidates: Candidates, tokens: list[int], last_n: int, repeat: float, freq: float, present: float
) -> Candidates:
    counts = Counter(deque(tokens, maxlen=last_n))
    after = []
    for i, logit in candidates:
        if counts[i]:
            logit = logit * repeat if logit <= 0 else logit / repeat
            logit -= counts[i] * freq + present
        after.append((i, logit))
    return after


def agree(bench: Any, stages: list[Any], expected: Candidates, logits: torch.Tensor, tokens: list[int]) -> None:
    ours = logits
    for stage in stages:
        ours = bench.apply(stage, ours, tokens)
    left = dict(expected)
    assert [i for i in range(VOCAB) if ours[0, i] > float("-inf")] == sorted(left)
    theirs = torch.tensor([[left.get(i, float("-inf")) for i in range(VOCAB)]], dtype=torch.float64)
    torch.testing.assert_close(ours.softmax(-1).double(), theirs.softmax(-1), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("written", "definition", "values"),
    [
        (("top_k",), top_k, [(0,), (1,), (5,), (100,)]),
        (("top_p",), top_p, [(0.0,), (0.2,), (0.9,), (1.0,)]),
        (("min_p",), min_p, [(0.0,), (0.05,), (0.5,), (1.0,)]),
        (("typical", "llamacpp"), typical, [(0.0,), (0.3,), (0.9,), (1.0,)]),
        (("temperature",), temperature, [(0.0,), (0.4,), (1.7,)]),
        (("top_n_sigma",), top_n_sigma, [(-1.0,), (0.0,), (0.7,), (2.0,)]),
    ],
    ids=lambda v: v[0] if isinstance(v, tuple) else "",
)
def test_one_value(bench: Any, seed: int, written: tuple[str, ...], definition: Any, values: list[Any]) -> None:
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2
    fields = {"dialect": written[1]} if len(written) > 1 else {}
    for value in values:
        expected = definition(list(enumerate(logits[0].tolist())), *value)
        agree(bench, [bench.stage(written[0], *value, **fields)], expected, logits, [])


@pytest.mark.parametrize("value", [(1.0, 0.5, 1.0), (0.5, 0.8, 2.0), (0.7, 0.0, 1.0), (1.0, 1.0, 0.5)])
def test_dynamic_temperature(bench: Any, value: tuple[float, float, float]) -> None:
    for seed in range(4):
        logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed))
        stage = bench.stage(
            "dynamic_temperature", value=value[0], range=value[1], exponent=value[2], dialect="llamacpp"
        )
        agree(bench, [stage], temperature_ext(list(enumerate(logits[0].tolist())), *value), logits, [])


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.1, 0.3, 0.5, 0.6])
def test_xtc(bench: Any, threshold: float) -> None:
    for seed in range(6):
        logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2
        agree(
            bench, [bench.stage("xtc", 1.0, threshold)], xtc(list(enumerate(logits[0].tolist())), threshold), logits, []
        )


@pytest.mark.parametrize("last_n", [0, 1, 7, 64, 1000])
def test_penalties(bench: Any, last_n: int) -> None:
    for seed in range(4):
        random = torch.Generator().manual_seed(seed)
        logits = torch.randn(1, VOCAB, generator=random) * 2
        tokens = torch.randint(0, VOCAB, (100,), generator=random).tolist()
        fields = {"dialect": "llamacpp", **({} if last_n == 64 else {"window": last_n})}
        stages = [bench.stage(n, v, **fields) for n, v in (("repetition", 1.3), ("frequency", 0.2), ("presence", 0.4))]
        agree(
            bench, stages, penalties(list(enumerate(logits[0].tolist())), tokens, last_n, 1.3, 0.2, 0.4), logits, tokens
        )


def test_a_chain(bench: Any) -> None:
    """llama.cpp's default order: penalties, top-n-sigma, top-k, typical, top-p, min-p, xtc, temperature."""
    for seed in range(8):
        random = torch.Generator().manual_seed(seed)
        logits = torch.randn(1, VOCAB, generator=random) * 2
        tokens = torch.randint(0, VOCAB, (30,), generator=random).tolist()
        left = penalties(list(enumerate(logits[0].tolist())), tokens, 64, 1.1, 0.1, 0.1)
        for step in (
            lambda c: top_n_sigma(c, 2.0), lambda c: top_k(c, 12), lambda c: typical(c, 0.95), lambda c: top_p(c, 0.93),
            lambda c: min_p(c, 0.05), lambda c: xtc(c, 0.15), lambda c: temperature(c, 0.8),
        ):  # fmt: skip
            left = step(left)
        of = bench.stage
        stages = [of(n, v, dialect="llamacpp") for n, v in (("repetition", 1.1), ("frequency", 0.1), ("presence", 0.1))]
        stages += [of("top_n_sigma", 2.0), of("top_k", 12), of("typical", 0.95, dialect="llamacpp"), of("top_p", 0.93)]
        stages += [of("min_p", 0.05), of("xtc", 1.0, 0.15), of("temperature", 0.8)]
        agree(bench, stages, left, logits, tokens)
