"""Penalties against vLLM's definition, restated in plain Python: nothing differs from the default, so no dialect.

vLLM (vllm/model_executor/layers/utils.py, apply_penalties): the repetition penalty looks at prompt and output and
divides what is above 0, multiplies anything else; then frequency, then presence, both of the output alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

VOCAB = 16


def float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))


def definition(
    logits: list[float], prompt: list[int], output: list[int], repetition: float, frequency: float, presence: float
) -> list[float]:
    """One token at a time, each operation rounded to float32."""
    counts, after = Counter(output), []
    for token, logit in enumerate(logits):
        if token in prompt or token in output:
            logit = float32(logit / repetition) if logit > 0 else float32(logit * repetition)
        logit = float32(logit - float32(frequency * counts[token]))
        after.append(float32(logit - presence * (counts[token] > 0)))
    return after


@pytest.mark.parametrize("seed", range(12))
def test_penalties(bench: Any, parity: Any, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, VOCAB, generator=random) * 4
    logits[0, :4] = 0.0
    draw = lambda n: torch.randint(0, VOCAB, (n,), generator=random).tolist()  # noqa: E731  # a row's tokens
    prompts, outputs = [draw(5), draw(1), draw(20)], [draw(9), [], draw(30)]
    values = [float32(v) for v in ((1.3, 0.25, 0.7), (0.8, -0.5, 1.5), (1.0, 1.1, -0.4))[seed % 3]]
    ours = logits
    for name, value in zip(("repetition", "frequency", "presence"), values, strict=True):
        ours = bench.apply(bench.stage(name, value), ours, prompts, outputs)
    theirs = torch.tensor(
        [definition(row.tolist(), p, o, *values) for row, p, o in zip(logits, prompts, outputs, strict=True)]
    )
    torch.testing.assert_close(ours, theirs, rtol=2**-22, atol=1e-6)
    difference = (ours.softmax(-1) - theirs.softmax(-1)).abs().max().item()
    for name in ("repetition", "frequency", "presence"):
        parity.note(name, "vllm (definition)", difference, cases=len(logits))
