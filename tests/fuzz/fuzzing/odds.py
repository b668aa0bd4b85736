"""Legal strategies on logits made by chance: probabilities come out, or an error that logitmill raises on purpose."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from fuzzing import laws
from fuzzing.documents import names
from fuzzing.writing import Writer

from logitmill.core.errors import LogitmillError, StrategyError
from logitmill.core.strategy import Strategy

VOCABULARIES = [1, 2, 7, 40, *[320] * 8]


def strategy(chance: Random) -> Strategy:
    """A strategy that reads, mostly a whole one."""
    writer = Writer(chance, names(), odd=0.0, deep=2)
    for _ in range(50):
        try:
            return Strategy.parse(writer.program())
        except StrategyError:
            continue
    return Strategy.parse("sample")


def logits(chance: Random, rows: int, vocabulary: int) -> torch.Tensor:
    """float32 [rows, vocabulary], with at least one finite logit in each row."""
    source = torch.Generator().manual_seed(chance.randrange(2**32))
    normal = torch.randn(rows, vocabulary, generator=source)
    match chance.choice(["plain", "plain", "sharp", "flat", "ties", "peak", "removed", "far", "half", "alone"]):
        case "sharp":
            return normal * 30
        case "flat":
            return torch.zeros(rows, vocabulary)
        case "ties":
            return (normal * 2).round() / 2
        case "peak":
            return torch.eye(vocabulary)[:1].expand(rows, -1) * 100
        case "removed":
            gone = torch.rand(rows, vocabulary, generator=source) < 0.7
            gone[:, chance.randrange(vocabulary)] = False
            return normal.masked_fill(gone, -torch.inf)
        case "far":
            return torch.where(normal > 0, 3.4e38, -3.4e38) if chance.random() < 0.5 else normal * 1e30
        case "half":
            return normal.half().float() * 100
        case "alone":
            made = torch.full((rows, vocabulary), -torch.inf)
            made[:, chance.randrange(vocabulary)] = 0.0
            return made
    return normal * 3


def case(seed: int, number: int, tokenizer: Any) -> tuple[Strategy, dict[str, Any]]:
    """Strategy and arguments of ``distribution`` for one number of a run."""
    chance = Random(f"odds {seed}/{number}")
    made = strategy(chance)
    vocabulary, rows = chance.choice(VOCABULARIES), chance.choice([1, 1, 2, 3])
    few = lambda: [chance.randrange(min(vocabulary, 12)) for _ in range(chance.choice([0, 0, 1, 4, 30]))]  # noqa: E731
    given = {
        "logits": logits(chance, rows, vocabulary),
        "prompt": [few() for _ in range(rows)],
        "output": [few() for _ in range(rows)],
        "seed": chance.randrange(2**31),
        "tokenizer": tokenizer if vocabulary == 320 and chance.random() < 0.95 else None,
    }
    return made, given


def tried(made: Strategy, given: dict[str, Any]) -> str:
    """Hold the laws for one case; how it ended."""
    try:
        probs = made.distribution(**given)
    except LogitmillError as error:
        said = str(error)
        laws.hold("an error speaks", len(said) > 10, lambda: repr(said))
        return f"refused: {type(error).__name__}"
    shape = given["logits"].shape
    laws.hold(
        "one row of probabilities for each of logits", probs.shape == shape, lambda: f"{probs.shape}, not {shape}"
    )
    laws.hold("probabilities are float32", probs.dtype == torch.float32, lambda: str(probs.dtype))
    laws.hold("probabilities are from 0 to 1", bool(((probs >= 0) & (probs <= 1.0001)).all()), lambda: f"{probs}")
    sums = probs.double().sum(-1)
    laws.hold("probabilities sum to 1", bool(((sums - 1).abs() < 1e-4).all()), lambda: f"{sums.tolist()}")
    gone = given["logits"] == -torch.inf
    laws.hold("what was removed stays removed", not bool((probs[gone] > 0).any()), lambda: f"{probs}")
    again = made.distribution(**given)
    laws.hold("the same twice", torch.equal(again, probs), lambda: f"{(again - probs).abs().max()}")
    if not made.complete:
        return "fragment"
    try:
        tokens = made.draw(**given)
    except LogitmillError as error:
        return f"refused: {type(error).__name__} in draw"
    drawn = probs.gather(-1, tokens[:, None])
    laws.hold("what is drawn can be drawn", bool((drawn > 0).all()), lambda: f"{tokens.tolist()} of {probs}")
    return "whole"
