"""Criteria and signals against their sources' definitions, worked here in the sources' own way, token by token."""

from __future__ import annotations

import random
from typing import Any

import torch

from logitmill.core.dist import Dist


def circling(chance: random.Random) -> list[int]:
    """A few tokens, some of them in circles."""
    output = [chance.randrange(3) for _ in range(chance.randrange(8))]
    output += [chance.randrange(3) for _ in range(chance.randint(1, 5))] * chance.randint(1, 5)
    return output[: chance.randint(1, len(output))]


def vllm_repeats(tokens: list[int], longest: int, count: int) -> bool:
    """vLLM's repetition detection (vllm/v1/core/sched/utils.py): the smallest pattern first, each token of the last
    one against those one, two ... patterns before it; a pattern that does not fit ends the search.
    """
    for length in range(1, longest + 1):
        if length * count > len(tokens):
            return False
        if all(tokens[-n] == tokens[-n - length * m] for n in range(1, length + 1) for m in range(1, count)):
            return True
    return False


def test_loop(bench: Any, parity: Any) -> None:
    chance, held = random.Random(8), 0
    for _ in range(60):
        outputs = [circling(chance) for _ in range(8)]
        n, times = chance.randint(1, 6), chance.randint(2, 5)
        dist = Dist(torch.zeros(len(outputs), 3))
        got = bench.run(bench.stage("loop", n, times), dist, bench.context(dist, [0, 0], outputs))[:, 0].tolist()
        assert got == [vllm_repeats(output, n, times) for output in outputs]
        held += sum(got)
    assert 50 < held < 430
    parity.note("loop", "vllm (definition)", 0.0, 480)


def test_repetition_rate(bench: Any, parity: Any) -> None:
    """seq-rep-n of Welleck et al. (arXiv 1908.04319), 1 - |unique n-grams| / |n-grams|, of the last tokens."""
    chance, largest = random.Random(9), 0.0
    for _ in range(60):
        outputs = [circling(chance) for _ in range(8)]
        n = chance.randint(1, 4)
        window = chance.randint(n, 12)
        dist = Dist(torch.zeros(len(outputs), 3))
        signal = bench.stage("repetition_rate", n, window)
        got = bench.run(signal, dist, bench.context(dist, [0, 0], outputs))[:, 0].tolist()
        for value, output in zip(got, outputs, strict=True):
            recent = output[-window:]
            grams = list(zip(*(recent[k:] for k in range(n)), strict=False))
            want = 1 - len(set(grams)) / len(grams) if grams else 0.0
            largest = max(largest, abs(value - want))
    assert largest < 1e-6
    parity.note("repetition_rate", "paper", largest, 480)
