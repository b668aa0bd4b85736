"""Sides run in turn on the same work, and what the seconds of each come to.

Speeds of two engines are only worth a ratio: on a machine that others use, both drift together. So each turn runs
every side once, the next turn in the other order, and the ratio is the median over the turns, with the lowest and the
highest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...core.errors import RequestError
from ...core.strategy import Strategy

#: a ratio whose highest is so many times its lowest was measured on a machine with something else to do
NOISY = 1.25

Rows = list[list[int]]


class Side(Protocol):
    """One engine under one strategy."""

    def run(self, prompts: Rows, tokens: int, seed: int) -> tuple[float, Rows]:
        """Generate ``tokens`` new tokens a row, and their text. Returns the seconds it took, and the tokens."""


class EngineSide:
    """``engine.generate`` under a strategy that has no stop test of its own."""

    def __init__(self, engine: Any, strategy: Strategy) -> None:
        self.engine, self.text = engine, strategy.to_text()

    def run(self, prompts: Rows, tokens: int, seed: int) -> tuple[float, Rows]:
        whole = f"{self.text} until max_tokens({tokens})"
        begin = time.perf_counter()
        completions = self.engine.generate(prompts, strategy=whole, seed=seed, progress=False)
        seconds = time.perf_counter() - begin
        return seconds, [list(completion.raise_for_error().tokens) for completion in completions]


class PeerSide:
    """A peer's ``generate``, asked by ``ask(do, **settings)``; the peer takes the time itself."""

    def __init__(self, ask: Callable[..., Any], sampling: dict[str, Any]) -> None:
        self.ask, self.sampling = ask, sampling

    def run(self, prompts: Rows, tokens: int, seed: int) -> tuple[float, Rows]:
        answer = self.ask("generate", prompts=prompts, tokens=tokens, sampling=self.sampling, seed=seed)
        return answer["seconds"], answer["tokens"]


@dataclass(frozen=True)
class Spread:
    """A median and what lies around it."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    @property
    def noisy(self) -> bool:
        """Whether the values lie so far apart that the median says little."""
        return self.highest > NOISY * self.lowest


@dataclass
class Turns:
    """``seconds[side][turn]``, and what each side generated before the clock ran."""

    seconds: list[list[float]]
    first: list[Rows] = field(repr=False)
    made: int  # tokens of a turn, all rows together

    def speed(self, side: int) -> Spread:
        """Tokens a second, all rows together."""
        return Spread.of([self.made / seconds for seconds in self.seconds[side]])

    def ratio(self) -> Spread:
        """How many times faster the first side was than the second, turn by turn."""
        ours, theirs = self.seconds
        return Spread.of([b / a for a, b in zip(ours, theirs, strict=True)])

    def agreement(self) -> str:
        """How many tokens of a row are the same on both sides up to the first that is not: the least of all rows."""
        shared = []
        for a, b in zip(*self.first, strict=True):
            same = [x == y for x, y in zip(a, b, strict=True)]
            shared.append(same.index(False) if False in same else len(same))
        return f"{min(shared)} of {len(self.first[0][0])}"


def in_turn(sides: Sequence[Side], prompts: Rows, tokens: int, turns: int) -> Turns:
    """Every side once to warm up, then ``turns`` times in turn. Raises RequestError where a row came out shorter."""
    first = [side.run(prompts, tokens, 0)[1] for side in sides]
    for side, rows in zip(sides, first, strict=True):
        if [len(row) for row in rows] != [tokens] * len(prompts):
            raise RequestError(
                f"{type(side).__name__} made {sorted({len(row) for row in rows})} tokens a row, not {tokens}: "
                "the work would not be the same"
            )
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(1, turns + 1):
        order = list(zip(sides, seconds, strict=True))
        for side, taken in order if turn % 2 else reversed(order):
            taken.append(side.run(prompts, tokens, turn)[0])
    return Turns(seconds, first, tokens * len(prompts))
