"""Epsilon, eta and Top-H against transformers' own warpers, in process: what is kept, token by token, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

INF = float("inf")
VOCAB, ROWS = 131, 6  # more than the 100 tokens that Top-H looks at


def tables() -> Iterator[Any]:
    """Logits [R, V]: smooth, sharp, full of ties, flat, nearly flat, peaked, with removed tokens, half, far out."""
    random = torch.Generator().manual_seed(11)
    normal = torch.randn(ROWS, VOCAB, generator=random)
    gone = torch.rand(ROWS, VOCAB, generator=random) < 0.6
    gone[:, 0] = False
    for name, table in {
        "smooth": normal * 3,
        "sharp": normal * 20,
        "nearly flat": normal * 1e-3,
        "removed": (normal * 3).masked_fill(gone, -INF),
        "half": (normal * 3).half().float(),
        "far": normal * 1e4,
        "wide": torch.randn(2, 5003, generator=random) * 2,
        "few": torch.randn(ROWS, 7, generator=random) * 2,
        "one": torch.randn(ROWS, 1, generator=random),
        "extreme": torch.tensor([[3.4e38, -3.4e38, 0.0], [-3.4e38, -3.3e38, -3.4e38], [0.0, -90.0, -INF]]),
    }.items():
        yield pytest.param(table, id=name)
    yield pytest.param(torch.randint(-8, 8, (ROWS, VOCAB), generator=random) / 4.0, id="ties")
    yield pytest.param(torch.zeros(ROWS, VOCAB), id="flat")
    yield pytest.param(torch.eye(ROWS, VOCAB) * 50, id="peaked")


def untied(logits: Tensor) -> bool:
    return all(len(row.unique()) == len(row) for row in logits)


SOME = list(tables())
any_logits = pytest.mark.parametrize("logits", SOME)
untied_logits = pytest.mark.parametrize("logits", [p for p in SOME if untied(p.values[0])])


@any_logits
@pytest.mark.parametrize("e", [1e-6, 3e-4, 9e-4, 0.01, 0.2, 0.9])
def test_epsilon(bench: Any, parity: Any, logits: Tensor, e: float) -> None:
    theirs = hf.EpsilonLogitsWarper(e)(None, logits)
    assert torch.equal(bench.apply(bench.stage("epsilon", e, dialect="hf"), logits), theirs)
    parity.note("epsilon", "transformers", 0.0, cases=len(logits))


@any_logits
@pytest.mark.parametrize("e", [1e-6, 3e-4, 4e-3, 0.05, 0.3, 0.9])
def test_eta(bench: Any, parity: Any, logits: Tensor, e: float) -> None:
    theirs = hf.EtaLogitsWarper(e)(None, logits)
    assert torch.equal(bench.apply(bench.stage("eta", e, dialect="hf"), logits), theirs)
    parity.note("eta", "transformers", 0.0, cases=len(logits))


@any_logits
@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.4, 0.7, 0.95, 1.0])
def test_top_h(bench: Any, parity: Any, logits: Tensor, alpha: float) -> None:
    """Among tied logits transformers' survivors are torch.topk's: there the kept logits are compared, sorted."""
    ours, theirs = (
        bench.apply(bench.stage("top_h", alpha, dialect="hf"), logits),
        hf.TopHLogitsWarper(alpha)(None, logits),
    )
    assert torch.equal(ours.sort(-1).values, theirs.sort(-1).values)
    if untied(logits):
        assert torch.equal(ours, theirs)
    parity.note("top_h", "transformers", 0.0, cases=len(logits))


@any_logits
@pytest.mark.parametrize("stage", ["epsilon", "eta"])
def test_the_default_differs_only_at_a_cut_or_where_all_would_go(bench: Any, logits: Tensor, stage: str) -> None:
    """Within 1e-6 of a share of the threshold, and in rows whose best token is below it."""
    for e in (3e-4, 0.01, 0.2):
        warper = hf.EpsilonLogitsWarper(e) if stage == "epsilon" else hf.EtaLogitsWarper(e)
        ours, theirs = bench.apply(bench.stage(stage, e), logits) > -INF, warper(None, logits) > -INF
        probs = logits.double().softmax(-1)
        entropy = torch.special.entr(probs).sum(-1, keepdim=True)
        threshold = torch.full_like(entropy, e)
        if stage == "eta":
            threshold = torch.minimum(threshold, e**0.5 * torch.exp(-entropy))
        near = (probs / threshold - 1).abs() < 1e-6
        lost = probs.amax(-1, keepdim=True) < threshold
        assert torch.equal(ours | near | lost, theirs | near | lost)


@untied_logits
def test_a_chain(bench: Any, logits: Tensor) -> None:
    """Temperature, top-k, top-p, epsilon, eta, Top-H: each on what the one before left."""
    ours = theirs = logits
    for name, value, peer in [
        ("temperature", 1.3, hf.TemperatureLogitsWarper(1.3)),
        ("top_k", 120, hf.TopKLogitsWarper(120)),
        ("top_p", 0.99, hf.TopPLogitsWarper(0.99)),
        ("epsilon", 3e-4, hf.EpsilonLogitsWarper(3e-4)),
        ("eta", 4e-3, hf.EtaLogitsWarper(4e-3)),
        ("top_h", 0.8, hf.TopHLogitsWarper(0.8)),
    ]:
        ours, theirs = bench.apply(bench.stage(name, value, dialect="hf"), ours), peer(None, theirs)
        assert torch.equal(ours, theirs), name
