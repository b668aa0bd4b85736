"""Cases: distributions, histories and seeds that a law is tried at, as plain numbers, so that they can be shrunk."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core.context import Context
from ...core.dist import Dist
from ...core.rng import Noise
from . import bench

INF = float("inf")
ROWS, VOCAB = 5, 40
STEPS = 4  # tokens that laws of state commit
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """R rows: logits [R, V], the tokens before them, and what else a stage may look at."""

    logits: tuple[tuple[float, ...], ...]
    prompts: tuple[Tokens, ...]
    outputs: tuple[Tokens, ...]
    seeds: Tokens
    eos: Tokens = ()
    steps: int = 0

    @property
    def rows(self) -> int:
        return len(self.logits)

    @property
    def vocab(self) -> int:
        return len(self.logits[0])

    def dist(self, device: str = "cpu", dtype: torch.dtype = torch.float32, *, step: int = 0) -> Dist:
        """A fresh Dist. Each ``step`` has the logits of the one before, moved on by a token id."""
        return Dist(self._table.to(dtype, copy=True).roll(step, -1).to(device))

    @functools.cached_property
    def _table(self) -> Tensor:
        """float32 [R, V]."""
        return torch.tensor(self.logits, dtype=torch.float32)

    def context(self, dist: Dist, *, noise: type[Noise] = Noise) -> Context:
        """A fresh context around ``dist``, with a tokenizer."""
        places = [float(seed % 7) for seed in self.seeds]  # a row's own, in any company
        return bench.context(
            dist,
            [list(row) for row in self.prompts] if any(self.prompts) else [],
            [list(row) for row in self.outputs] if any(self.outputs) else [],
            seeds=self.seeds,
            eos=self.eos,
            tokenizer=bench.tokenizer(),
            scores=torch.tensor(places, dtype=torch.float64, device=dist.device)[:, None].neg(),
            elapsed=places,
            entropies=[[token % 5 / 2 for token in row] for row in self.outputs],
            noise=noise,
            prepared=_prepared(self.vocab, str(dist.device), self.eos),
        )

    def select(self, rows: Sequence[int]) -> Case:
        """Some of its rows; one may be named twice."""
        return replace(
            self,
            logits=tuple(self.logits[i] for i in rows),
            prompts=tuple(self.prompts[i] for i in rows),
            outputs=tuple(self.outputs[i] for i in rows),
            seeds=tuple(self.seeds[i] for i in rows),
        )

    def then(self, tokens: Sequence[int]) -> Case:
        """After one more token in each row."""
        return replace(self, outputs=tuple((*row, token) for row, token in zip(self.outputs, tokens, strict=True)))

    def __str__(self) -> str:
        """As a counterexample is shown."""
        many = self.rows > 1
        parts = [f"logits {_numbers(self.logits)}"]
        parts += [
            f"{name} {_numbers(rows if many else rows[0])}"
            for name, rows in (("prompt", self.prompts), ("output", self.outputs))
        ]
        return ", ".join(parts)


@functools.lru_cache(maxsize=8)
def _prepared(vocab: int, device: str, eos: Tokens) -> dict[Any, Any]:
    """Stages' constants over one vocabulary, made once as in an engine."""
    return {}


def _numbers(value: object) -> str:
    """``[[0, -inf], [1.5, 2]]``."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_numbers, value)) + "]"
    return _short(value) if isinstance(value, float) else str(value)


@functools.lru_cache(maxsize=4096)
def digits(value: float) -> int:
    """How many digits say this float32; 9 are enough for any."""
    packed = struct.pack("f", value)
    return next((n for n in range(1, 9) if struct.pack("f", float(f"{value:.{n}g}")) == packed), 9)


def _short(value: float) -> str:
    """A float32 in those digits, without an exponent where that is shorter."""
    enough = digits(value)
    return min((f"{value:.{n}g}" for n in range(enough, 10)), key=len)


def from_tensor(logits: Tensor, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Case:
    """A case of given logits [R, V] and histories; row i draws with seed i."""
    return Case(
        tuple(tuple(row) for row in logits.tolist()),
        tuple(map(tuple, prompts)),
        tuple(map(tuple, outputs)),
        tuple(range(len(logits))),
    )


def grid(rows: int = ROWS, vocab: int = VOCAB, seed: int = 0) -> Tensor:
    """Logits on a grid of 1/64 with ties, and with removed tokens in every other row."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randint(-256, 256, (rows, vocab), generator=random) / 64.0
    gone = torch.rand(rows, vocab, generator=random) < 0.2
    gone[::2] = False
    gone[torch.arange(rows), logits.argmax(-1)] = False
    return logits.masked_fill(gone, -INF)


def histories(rows: int = ROWS, seed: int = 0, tokens: int = 9) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and outputs of different lengths, none among them, from few tokens so that they repeat."""
    random = torch.Generator().manual_seed(seed)
    sizes = [(i * 3 % 7, i * 5 % 6) for i in range(rows)]
    drawn = [[torch.randint(0, tokens, (size,), generator=random).tolist() for size in pair] for pair in sizes]
    return [prompt for prompt, _ in drawn], [output for _, output in drawn]


@functools.cache
def ordinary(vocab: int = VOCAB, seed: int = 0) -> Case:
    """Rows of every kind: long and empty histories, ties, removed tokens."""
    return replace(from_tensor(grid(vocab=vocab, seed=seed), *histories(seed=seed)), eos=(2, 5), steps=STEPS)


@functools.cache
def repetitive(vocab: int = VOCAB) -> Case:
    """Histories that repeat themselves, and distributions that are flat, steep, and sure of a token before."""
    flat, sure = [0.0] * vocab, [0.0] * vocab
    sure[3] = 5.0
    prompts = [[1, 2, 3], [0, 0], [5] * 7, [], [4, 3, 4, 3]]
    outputs = [[1, 2, 3, 1, 2], [0, 0, 0], [5], [3], [4, 3, 4]]
    logits = torch.tensor([flat, sure, [i / 8 for i in range(vocab)], sure, flat])
    return replace(from_tensor(logits, prompts, outputs), eos=(2, 5), steps=STEPS)


EXTREME = [
    [3.4e38, 3.4e38, -3.4e38, 0.0],
    [-3.4e38, -3.3e38, -3.4e38, -INF],
    [1e-45, -1e-45, 0.0, -0.0],
    [65504.0, -65504.0, 3.4e38, -INF],
    [-INF, -INF, -INF, 12.0],
    [0.0, 0.0, 0.0, 0.0],
]


@functools.cache
def extreme(vocab: int = VOCAB) -> Case:
    """Logits at the ends of float32, over a vocabulary of which almost all is removed."""
    logits = torch.full((len(EXTREME), vocab), -INF)
    logits[:, :4] = torch.tensor(EXTREME)
    rows = len(EXTREME)
    return replace(from_tensor(logits, [[0, 1, 2]] * rows, [[3, 0, 1, 2]] * rows), eos=(2,))


@functools.cache
def lonely(vocab: int = 1) -> Case:
    """A vocabulary of one token."""
    return replace(from_tensor(torch.tensor([[4.0], [-3.0]]), [[0], []], [[0, 0], []]), eos=(0,))


__all__ = [
    "INF",
    "ROWS",
    "STEPS",
    "VOCAB",
    "Case",
    "digits",
    "extreme",
    "from_tensor",
    "grid",
    "histories",
    "lonely",
    "ordinary",
    "repetitive",
]
