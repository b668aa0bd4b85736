"""Penalties and DRY against text-generation-webui's definitions, restated in plain Python.

Its modules/sampler_hijack.py loops over rows; a range (our window) is the last so many tokens of prompt and output,
and 0 is all of them. Presence and frequency have the same range as repetition. DRY follows a match for at most 50
tokens and, of each breaker, knows the last token of the breaker's text behind an "a".
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

VOCAB = 12


def float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))


def ranged(tokens: list[int], size: int) -> list[int]:
    return tokens[-size:]  # of 0: all


def repetition(logits: list[float], tokens: list[int], penalty: float) -> list[float]:
    return [(x * penalty if x < 0 else x / penalty) if i in tokens else x for i, x in enumerate(logits)]


def presence(logits: list[float], tokens: list[int], value: float) -> list[float]:
    return [x - value if i in tokens else x for i, x in enumerate(logits)]


def frequency(logits: list[float], tokens: list[int], value: float) -> list[float]:
    counts = Counter(tokens)
    return [x - float32(value * counts[i]) for i, x in enumerate(logits)]


def dry(
    logits: list[float], tokens: list[int], multiplier: float, base: float, allowed: int, breakers: set[int]
) -> list[float]:
    after = list(logits)
    if not tokens or tokens[-1] in breakers:
        return after
    lengths: dict[int, int] = {}
    for place in [i for i, token in enumerate(tokens[:-1]) if token == tokens[-1]]:
        following, length = tokens[place + 1], 1
        if following in breakers:
            continue
        while length < 50 and place >= length:
            earlier = tokens[-1 - length]
            if tokens[place - length] != earlier or earlier in breakers:
                break
            length += 1
        lengths[following] = max(length, lengths.get(following, 0))
    for token, length in lengths.items():
        if length >= allowed:
            after[token] -= float32(multiplier * base ** (length - allowed))
    return after


def rows(seed: int) -> tuple[Tensor, list[list[int]], list[list[int]]]:
    random = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(0, 4, (n,), generator=random).tolist()  # noqa: E731  # a row's tokens
    prompts = [draw(6), draw(1), draw(40), [0, 1, 2] * 30, [1] * 70]
    outputs = [draw(9), [], draw(30), [0, 1], [1] * 20]
    return torch.randn(len(prompts), VOCAB, generator=random) * 3, prompts, outputs


def compare(parity: Any, name: str, ours: Tensor, theirs: list[list[float]]) -> None:
    expected = torch.tensor(theirs, dtype=torch.float64).float()
    torch.testing.assert_close(ours, expected, rtol=2**-22, atol=1e-6)
    difference = (ours.softmax(-1) - expected.softmax(-1)).abs().max().item()
    parity.note(name, "textgen (definition)", difference, cases=len(theirs))


@pytest.mark.parametrize("size", [0, 1, 5, 64, 1024])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition", 1.3),
        ("repetition", 0.8),
        ("presence", 0.6),
        ("presence", -0.6),
        ("frequency", 0.3),
        ("frequency", -0.3),
    ],
)
def test_penalties(bench: Any, parity: Any, name: str, value: float, size: int) -> None:
    """For repetition the default is textgen's; the others have a dialect, since they look at the output alone."""
    dialect = {} if name == "repetition" else {"dialect": "textgen"}
    window = {"window": size} if size else {}
    for seed in range(3):
        logits, prompts, outputs = rows(seed)
        ours = bench.apply(bench.stage(name, value, **window, **dialect), logits, prompts, outputs)
        of = {"repetition": repetition, "presence": presence, "frequency": frequency}[name]
        sequences = [ranged(p + o, size) for p, o in zip(prompts, outputs, strict=True)]
        compare(parity, name, ours, [of(x.tolist(), t, value) for x, t in zip(logits, sequences, strict=True)])


@pytest.mark.parametrize("size", [0, 7, 55, 1024])
@pytest.mark.parametrize("values", [(0.8, 1.75, 2), (1.5, 1.1, 1), (0.25, 1.0, 0), (0.01, 1.25, 50), (2.0, 1.5, 51)])
@pytest.mark.parametrize("breakers", [(), (2,), (0, 3)])
def test_dry(bench: Any, parity: Any, values: tuple[float, float, int], breakers: tuple[int, ...], size: int) -> None:
    window = {"window": size} if size else {}
    for seed in range(3):
        logits, prompts, outputs = rows(seed)
        stage = bench.stage("dry", *values, breakers=breakers, dialect="textgen", **window)
        ours = bench.apply(stage, logits, prompts, outputs)
        sequences = [ranged(p + o, size) for p, o in zip(prompts, outputs, strict=True)]
        theirs = [dry(x.tolist(), t, *values, set(breakers)) for x, t in zip(logits, sequences, strict=True)]
        compare(parity, "dry", ours, theirs)


def test_the_dry_breakers_of_a_tokenizer(bench: Any, parity: Any) -> None:
    tokenizer = bench.tokenizer()
    texts = ["\n", ":", '"', "*", " the cat", "however"]
    breakers = {tokenizer.encode(f"a{text}", add_special_tokens=False)[-1] for text in texts}
    for text in ("User: yes\nUser: yes", " the cat sat on the cat sat", "12 however 34 12 however", "yes*yes*yes*"):
        tokens = tokenizer.encode(text, add_special_tokens=False)
        logits = torch.zeros(1, len(tokenizer))
        ours = bench.apply(
            bench.stage("dry", 0.8, allowed_length=1, breakers=texts, dialect="textgen"),
            logits,
            tokens,
            tokenizer=tokenizer,
        )
        compare(parity, "dry", ours, [dry(logits[0].tolist(), tokens, 0.8, 1.75, 1, breakers)])
