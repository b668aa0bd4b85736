"""Stages against text-generation-webui's definitions, written out one token at a time.

Its samplers (modules/sampler_hijack.py) cannot be run without its whole application. What follows restates, in plain
Python over lists of floats, what they do to one row of logits; nothing of a stage's own code is used. Its top-k,
top-p, min-p, typical, epsilon and eta are transformers' own, held in process elsewhere: here they stand in the chain.
Where it sorts, it promises no order among ties: the lower id stays here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

PEER = "textgen (definition)"
VOCAB = 16
GONE = -math.inf
RTOL = 1e-5
Row = list[float]


def softmax(row: Row) -> Row:
    best = max(row)
    weights = [math.exp(logit - best) for logit in row]
    return [w / sum(weights) for w in weights]


def descending(row: Row) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def without(row: Row, drop: Callable[[int], bool]) -> Row:
    return [GONE if drop(i) else logit for i, logit in enumerate(row)]


def temperature(row: Row, value: float) -> Row:
    return [logit / value for logit in row]


def dynamic_temperature(row: Row, low: float, high: float, exponent: float) -> Row:
    """N counts what is not -inf; entropy and ln N are at least 1e-10."""
    entropy = max(-sum(p * math.log(p) for p in softmax(row) if p > 0), 1e-10)
    most = math.log(sum(logit > GONE for logit in row)) or 1e-10
    return temperature(row, low + (high - low) * (entropy / most) ** exponent)


def quadratic(row: Row, factor: float, curve: float) -> Row:
    """Active with a factor above 0."""
    if factor <= 0:
        return row
    best, k, s = max(row), (3 - curve) / 2, (curve - 1) / 2
    bent = []
    for logit in row:
        d = logit - best
        bent.append(-(k * factor * d**2) + (s * factor * d**3) + best if logit > GONE else GONE)
    return bent


def top_n_sigma(row: Row, n: float) -> Row:
    """torch.std, with -inf as 0. Active with n above 0. One logit has no deviation, and nothing is below NaN."""
    if n <= 0 or len(row) == 1:
        return row
    finite = [logit if logit > GONE else 0.0 for logit in row]
    mean = sum(finite) / len(row)
    sigma = math.sqrt(sum((logit - mean) ** 2 for logit in finite) / (len(row) - 1))
    return without(row, lambda i: row[i] < max(row) - n * sigma)


def tail_free(row: Row, z: float) -> Row:
    """Active with z below 1. Second differences have two places fewer than tokens: the first and last stand apart."""
    if z >= 1:
        return row
    order, shares = descending(row), softmax(row)
    p = [shares[i] for i in order]
    bends = [abs((p[i + 2] - p[i + 1]) - (p[i + 1] - p[i])) for i in range(len(p) - 2)]
    whole, running, remove = sum(bends), 0.0, [False]
    for bend in bends:
        running += bend
        remove.append(whole > 0 and running / whole > z)  # 0 / 0 is NaN, which is not above z
    gone = {i for i, drop in zip(order, [*remove, True][: len(order)], strict=True) if drop}
    return without(row, lambda i: i in gone)


def top_a(row: Row, a: float) -> Row:
    """Active with a above 0."""
    probs = softmax(row)
    return without(row, lambda i: probs[i] < max(probs) ** 2 * a)


def xtc(row: Row, threshold: float, special: set[int]) -> Row:
    """When its coin has fallen for it: a token goes where the next one in order still reaches the threshold."""
    order, probs = descending(row), softmax(row)
    gone = {i for i, following in itertools.pairwise(order) if probs[following] >= threshold}
    return row if gone & special else without(row, lambda i: i in gone)


def top_k(row: Row, k: int) -> Row:
    kth = sorted(row)[-min(k, len(row))]
    return without(row, lambda i: row[i] < kth)


def top_p(row: Row, p: float) -> Row:
    probs, total, gone = softmax(row), 0.0, set()
    for i in descending(row)[:0:-1]:
        total += probs[i]
        if total <= 1 - p:
            gone.add(i)
    return without(row, lambda i: i in gone)


def min_p(row: Row, p: float) -> Row:
    probs = softmax(row)
    return without(row, lambda i: probs[i] < p * max(probs))


def epsilon(row: Row, e: float) -> Row:
    probs = softmax(row)
    return without(row, lambda i: probs[i] < e and row[i] < max(row))


def rows() -> Iterator[Any]:
    """One row of logits each: random, tied at cuts, flat, peaked, with removed tokens, far out, one or two tokens."""
    random = torch.Generator().manual_seed(5)
    for i in range(8):
        yield pytest.param((torch.randn(VOCAB, generator=random) * (0.5 + i)).tolist(), id=f"random-{i}")
    for i in range(4):
        yield pytest.param((torch.randint(-4, 4, (VOCAB,), generator=random) / 2.0).tolist(), id=f"ties-{i}")
    yield pytest.param([0.0] * VOCAB, id="flat")
    yield pytest.param([2.5, 2.5] + [0.0] * 14, id="two best")
    yield pytest.param([30.0] + [0.0] * 15, id="peaked")
    yield pytest.param([1.0, GONE, 0.5, GONE, 2.0, 2.0] + [GONE] * 10, id="removed")
    yield pytest.param([0.25] * 5 + [GONE] * 11, id="flat and removed")
    yield pytest.param([GONE] * 15 + [-3.0], id="one left")
    yield pytest.param(torch.tensor([3.4e38, -3.4e38, 3.4e38, 0.0] * 4).tolist(), id="extreme")
    yield pytest.param([4.0], id="vocabulary of one")
    yield pytest.param([4.0, 3.0], id="vocabulary of two")


SOME = list(rows())
every_row = pytest.mark.parametrize("row", SOME)


@every_row
@pytest.mark.parametrize(
    ("name", "dialect", "definition", "values"),
    [
        ("temperature", "hf", temperature, [(0.3,), (1.0,), (1.9,)]),
        ("dynamic_temperature", "logitmill", dynamic_temperature, [(0.1, 1.7, 1.0), (0.5, 0.5, 2.0), (1.5, 0.3, 0.7)]),
        ("quadratic", None, quadratic, [(0.0, 1.0), (0.2, 1.0), (0.3, 2.2), (0.25, 6.0)]),
        ("top_n_sigma", "textgen", top_n_sigma, [(0.0,), (0.3,), (1.0,), (2.0,), (5.0,)]),
        ("tail_free", "textgen", tail_free, [(0.0,), (0.3,), (0.7,), (0.95,), (1.0,)]),
        ("top_a", None, top_a, [(0.05,), (0.3,), (1.0,)]),
        ("epsilon", "hf", epsilon, [(0.01,), (0.3,), (0.9,)]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_one_stage(
    bench: Any, difference: Any, parity: Any, row: Row, name: str, dialect: str | None, definition: Any, values: Any
) -> None:
    fields = {} if dialect is None else {"dialect": dialect}
    for value in values:
        ours = bench.apply(bench.stage(name, *value, **fields), row)
        parity.note(name, PEER, difference(ours, definition(row, *value)))


@every_row
@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.1, 0.2, 0.5])
def test_xtc(bench: Any, difference: Any, parity: Any, row: Row, threshold: float) -> None:
    """Its special tokens are the newline's and the end's: here 0 and, where there is one, 3."""
    eos = (3,) if len(row) > 3 else ()
    stage = bench.stage("xtc", 1.0, threshold, protect=[0], dialect="textgen")
    theirs = xtc(row, threshold, {0, *eos})
    parity.note("xtc", PEER, difference(bench.apply(stage, row, eos=eos), theirs))
    free = bench.apply(bench.stage("xtc", 1.0, threshold, dialect="textgen"), row)
    if len(set(row)) == len(row):  # which of tied tokens is the last is its sort's choice: here the highest id
        parity.note("xtc", PEER, difference(free, xtc(row, threshold, set())))
    never = bench.apply(bench.stage("xtc", 0.0, threshold, dialect="textgen"), row)
    parity.note("xtc", PEER, difference(never, row))


@pytest.mark.parametrize("row", [p for p in SOME if p.id != "extreme"])
def test_a_preset(bench: Any, difference: Any, row: Row) -> None:
    """In its order of priority: the temperatures, quadratic, top-n-sigma, top-k, top-p, epsilon, tfs, top-a, min-p."""
    theirs: Row = row
    ours: Any = row
    for name, values, definition, fields in [
        ("temperature", (1.2,), temperature, {"dialect": "hf"}),
        ("dynamic_temperature", (0.5, 1.5, 1.0), dynamic_temperature, {}),
        ("quadratic", (0.1, 1.5), quadratic, {}),
        ("top_n_sigma", (3.0,), top_n_sigma, {"dialect": "textgen"}),
        ("top_k", (12,), top_k, {"dialect": "hf"}),
        ("top_p", (0.98,), top_p, {"dialect": "hf"}),
        ("epsilon", (0.001,), epsilon, {"dialect": "hf"}),
        ("tail_free", (0.97,), tail_free, {"dialect": "textgen"}),
        ("top_a", (0.05,), top_a, {}),
        ("min_p", (0.02,), min_p, {"dialect": "hf"}),
    ]:
        ours, theirs = bench.apply(bench.stage(name, *values, **fields), ours), definition(theirs, *values)  # type: ignore[operator]
        difference(ours, theirs)
