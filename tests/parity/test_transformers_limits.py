"""allow and max_tokens against transformers' PrefixConstrainedLogitsProcessor and MaxLengthCriteria, in process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.generation import logits_process, stopping_criteria

from logitmill.core.dist import Dist

PEER = "transformers"
ROWS, VOCAB = 6, 61


@pytest.mark.parametrize("allowed", [[0], [60], [3, 1, 4, 15, 9, 26], list(range(VOCAB)), [7, 7, 8]])
@pytest.mark.parametrize("kind", ["smooth", "ties", "removed"])
def test_allow(bench: Any, parity: Any, allowed: list[int], kind: str) -> None:
    """Where one token at least is left: transformers' processor is the stage's law, bit for bit."""
    source = torch.Generator().manual_seed(3)
    logits = torch.randn(ROWS, VOCAB, generator=source) * 4
    if kind == "ties":
        logits = logits.round()
    if kind == "removed":
        gone = torch.rand(ROWS, VOCAB, generator=source) < 0.4
        gone[:, allowed] = False
        logits = logits.masked_fill(gone, -torch.inf)
    processor = logits_process.PrefixConstrainedLogitsProcessor(lambda row, ids: allowed, num_beams=1)
    theirs = processor(torch.zeros(ROWS, 1, dtype=torch.long), logits.clone())
    assert torch.equal(bench.apply(bench.stage("allow", *allowed), logits), theirs)
    parity.note("allow", PEER, 0.0, cases=ROWS)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("prompt", [1, 4])
def test_max_tokens(bench: Any, parity: Any, n: int, prompt: int) -> None:
    """max_new_tokens is a bound on prompt and output together, as generate makes it."""
    criterion = stopping_criteria.MaxLengthCriteria(max_length=prompt + n)
    dist = Dist(torch.zeros(1, VOCAB))
    for length in range(1, 12):
        ids = torch.zeros(1, prompt + length, dtype=torch.long)
        ctx = bench.context(dist, [0] * prompt, [0] * length)
        ours = bool(bench.run(bench.stage("max_tokens", n), dist, ctx))
        assert ours == bool(criterion(ids, torch.zeros(1, VOCAB)).all())
        parity.note("max_tokens", PEER, 0.0)
