"""Every signal of the distribution, by hand: on raw, behind stages, narrowed, with removed tokens, in half floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.expression import Read
from logitmill.core.strategy import Strategy

LN2 = math.log(2)
#: .5 .25 .125 .125: surprises of 1 2 3 3 bits about a mean of 1.75
PROBS = [0.5, 0.25, 0.125, 0.125]
FULL = {
    "entropy": 1.75 * LN2,
    "varentropy": (0.5 * 0.75**2 + 0.25 * 0.25**2 + 0.25 * 1.25**2) * LN2**2,
    "max_p": 0.5,
    "margin": 0.25,
    "kept": 4.0,
    "mass": 1.0,
}
#: the first two of them, as 2/3 and 1/3
H2 = math.log(3) - 2 / 3 * LN2
CUT = {
    "entropy": H2,
    "varentropy": 2 / 3 * (math.log(1.5) - H2) ** 2 + 1 / 3 * (math.log(3) - H2) ** 2,
    "max_p": 2 / 3,
    "margin": 1 / 3,
    "kept": 2.0,
    "mass": 0.75,
}
names = pytest.mark.parametrize("name", FULL)


def value(bench: Any, name: str, dist: Dist, raw: Dist, *, of_raw: bool = False) -> float:
    return float(Read(bench.stage(name), of_raw).evaluate(dist, bench.context(raw, raw=raw)).item())


@names
def test_whole_and_cut(bench: Any, name: str) -> None:
    raw = Dist(bench.logits_of([PROBS]))
    narrowed, removed = raw.narrow(2), raw.keep(torch.tensor([[True, True, False, False]]))
    assert value(bench, name, raw, raw) == pytest.approx(FULL[name], abs=1e-6)
    for cut in (narrowed, removed, removed.narrow(3)):
        assert value(bench, name, cut, raw) == pytest.approx(CUT[name], abs=1e-6)
    for cut in (narrowed, removed):
        assert value(bench, name, cut, raw, of_raw=True) == pytest.approx(FULL[name], abs=1e-6)


@names
def test_half_precision(bench: Any, name: str) -> None:
    """Logits that a half holds exactly give what the float32 ones do."""
    logits = torch.tensor([[3.0, 1.5, -2.0, 0.25, -math.inf]])
    whole, half = Dist(logits), Dist(logits.half())
    assert value(bench, name, half, half) == value(bench, name, whole, whole)
    assert value(bench, name, half, half) == pytest.approx(value(bench, name, whole.narrow(4), whole), abs=1e-6)


@names
def test_one_token(bench: Any, name: str) -> None:
    wanted = {"entropy": 0.0, "varentropy": 0.0, "max_p": 1.0, "margin": 1.0, "kept": 1.0, "mass": 0.5}[name]
    raw = Dist(bench.logits_of([PROBS]))
    for one in (raw.narrow(1), raw.keep(torch.tensor([[True, False, False, False]]))):
        assert value(bench, name, one, raw) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ("max_p > 0.6", True),  # 2/3 of what is left
        ("raw.max_p > 0.6", False),
        ("kept == 2", True),
        ("raw.kept == 4", True),
        ("mass < 0.8 and mass > 0.7", True),
        ("raw.mass == 1", True),
        ("margin > 0.3", True),
        ("raw.margin > 0.3", False),
        ("entropy < 0.7", True),
        ("raw.entropy < 0.7", False),
        ("varentropy < 0.2", True),
        ("raw.varentropy < 0.2", False),
    ],
)
def test_in_a_pipeline_behind_a_truncation(bench: Any, test: str, holds: bool) -> None:
    strategy = Strategy.parse(f"top_k(2) | when {test} {{ ban(0) }}")
    left = strategy.distribution(bench.logits_of([PROBS])[0])[0]
    assert (left[0].item() == 0.0) == holds


def test_of_the_sequence_on_raw(bench: Any) -> None:
    """Where a row is does not depend on the distribution: with and without raw, on any number of columns."""
    raw = Dist(bench.logits_of([PROBS]))
    ctx = bench.context(raw, [3, 1], [2], raw=raw)
    for name, wanted in (("step", 1.0), ("position", 3.0), ("last", 2.0), ("repetition_rate", 0.0)):
        for of_raw in (False, True):
            assert Read(bench.stage(name), of_raw).evaluate(raw.narrow(2), ctx).item() == wanted
