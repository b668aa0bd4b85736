"""Stages against vLLM's definitions, written out one token at a time.

vLLM cannot be run here. What follows restates, in plain Python over lists of floats, what it does to one row of
logits: the temperature and the greedy rule of vllm/v1/sample/sampler.py, min-p, logit bias and min_tokens of
vllm/v1/sample/logits_processor, top-k and top-p of vllm/v1/sample/ops/topk_topp_sampler.py (its PyTorch functions).
Nothing of a stage's own code is used. Where vLLM sorts, it promises no order among ties: the lower id stays here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

PEER = "vllm (definition)"
VOCAB = 16
GONE = -math.inf
RTOL = 2e-6
Row = list[float]


def softmax(row: Row) -> Row:
    best = max(row)
    weights = [math.exp(logit - best) for logit in row]
    return [w / sum(weights) for w in weights]


def without(row: Row, drop: Callable[[int], bool]) -> Row:
    return [GONE if drop(i) else logit for i, logit in enumerate(row)]


def temperature(row: Row, value: float) -> Row:
    """Below 1e-5 a request is greedy: the first of the largest logits is its token."""
    if value < 1e-5:
        return without(row, lambda i: i != row.index(max(row)))
    return [logit / value for logit in row]


def min_p(row: Row, p: float) -> Row:
    probs = softmax(row)
    return without(row, lambda i: probs[i] < p * max(probs))


def top_k(row: Row, k: int) -> Row:
    """0 (and -1) mean all. What ties with the k-th is not below it."""
    if k <= 0 or k >= len(row):
        return row
    kth = sorted(row)[len(row) - k]
    return without(row, lambda i: row[i] < kth)


def top_p(row: Row, p: float) -> Row:
    """From the least likely upwards, what sums to at most 1 - p goes; the last never does."""
    probs, total, gone = softmax(row), 0.0, set()
    for i in sorted(range(len(row)), key=lambda i: (row[i], -i))[:-1]:
        total += probs[i]
        if total <= 1 - p:
            gone.add(i)
    return without(row, lambda i: i in gone)


def logit_bias(row: Row, biases: dict[int, float]) -> Row:
    return [logit + biases.get(i, 0.0) for i, logit in enumerate(row)]


def rows() -> Iterator[Any]:
    """One row of logits each: random, tied at cuts, flat, peaked, with removed tokens, far out, a vocabulary of one."""
    random = torch.Generator().manual_seed(3)
    for i in range(8):
        yield pytest.param((torch.randn(VOCAB, generator=random) * (0.5 + i)).tolist(), id=f"random-{i}")
    for i in range(4):
        yield pytest.param((torch.randint(-4, 4, (VOCAB,), generator=random) / 2.0).tolist(), id=f"ties-{i}")
    yield pytest.param([0.0] * VOCAB, id="flat")
    yield pytest.param([2.5, 2.5] + [0.0] * 14, id="two best")
    yield pytest.param([30.0] + [0.0] * 15, id="peaked")
    yield pytest.param([1.0, GONE, 0.5, GONE, 2.0, 2.0] + [GONE] * 10, id="removed")
    yield pytest.param([GONE] * 15 + [-3.0], id="one left")
    yield pytest.param(torch.tensor([3.4e38, -3.4e38, 3.4e38, 0.0] * 4).tolist(), id="extreme")
    yield pytest.param([4.0], id="vocabulary of one")


every_row = pytest.mark.parametrize("row", list(rows()))


@every_row
@pytest.mark.parametrize(
    ("name", "dialect", "definition", "values"),
    [
        ("temperature", "vllm", temperature, (0.0, 9e-6, 0.01, 0.7, 2.0)),
        ("top_k", "vllm", top_k, (0, 1, 2, 5, 15, 16, 1000)),
        ("top_p", "hf", top_p, (0.0, 0.1, 0.5, 0.9, 0.99)),
        ("min_p", "hf", min_p, (0.01, 0.1, 0.6, 1.0)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_one_stage(
    bench: Any, difference: Any, parity: Any, row: Row, name: str, dialect: str, definition: Any, values: Any
) -> None:
    for value in values:
        ours = bench.apply(bench.stage(name, value, dialect=dialect), row)
        parity.note(name, PEER, difference(ours, definition(row, value)))


@every_row
def test_the_default_top_p_and_min_p_keep_what_vllm_keeps(bench: Any, difference: Any, row: Row) -> None:
    """Their dialects differ from it by rounding alone, and in what has underflowed."""
    for value in (0.1, 0.5, 0.9, 0.99):
        difference(bench.apply(bench.stage("top_p", value), row), top_p(row, value))
        difference(bench.apply(bench.stage("min_p", value), row), min_p(row, value))


@every_row
def test_bias(bench: Any, difference: Any, parity: Any, row: Row) -> None:
    biases = {0: 2.5, **({3: -100.0, 5: 7.0} if len(row) > 5 else {})}
    ours = bench.apply(bench.stage("bias", tuple(biases.items())), row)
    parity.note("bias", PEER, difference(ours, logit_bias(row, biases)))


@pytest.mark.parametrize("generated", range(6))
def test_min_tokens(bench: Any, difference: Any, parity: Any, generated: int) -> None:
    """Every stop token is out of reach while fewer than min_tokens were generated; the prompt does not count."""
    row = [float(i % 5) for i in range(VOCAB)]
    ours = bench.apply(bench.stage("min_tokens", 3, ids=(4, 9)), row, [1, 2, 3, 4], [7] * generated)
    theirs = without(row, lambda i: i in (4, 9)) if generated < 3 else row
    parity.note("min_tokens", PEER, difference(ours, theirs))


@every_row
def test_a_request(bench: Any, difference: Any, row: Row) -> None:
    """In vLLM's order: bias, temperature, min-p, top-k, top-p."""
    theirs = logit_bias(row, {0: 1.5})
    theirs = top_p(top_k(min_p(temperature(theirs, 0.8), 0.02), 6), 0.93)
    ours: Any = row
    for name, value, fields in [
        ("bias", ((0, 1.5),), {}),
        ("temperature", 0.8, {"dialect": "vllm"}),
        ("min_p", 0.02, {"dialect": "hf"}),
        ("top_k", 6, {"dialect": "vllm"}),
        ("top_p", 0.93, {"dialect": "hf"}),
    ]:
        ours = bench.apply(bench.stage(name, value, **fields), ours)
    difference(ours, theirs)
