"""What a trace says of a step: the host's side. Numbers of all rows are worked out at once, and read in one go.

A `Book` takes in distributions and tokens, and is asked for them behind that. `account_tensors` works them out by
torch's operators, and `account_native` by kernels.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .dist import Dist
from .session import Visit

#: (token, text, probability)
Candidate = tuple[int, str, float]


@dataclass(frozen=True)
class Facts:
    """One row of one Dist: how many candidates are left, the entropy in nats, and the likeliest."""

    kept: int
    entropy: float
    top: tuple[Candidate, ...]


class Place(NamedTuple):
    """Where numbers of rows stand among others: those of row i from ``first + i * stride`` on."""

    numbers: Sequence[float] | ctypes.Array[ctypes.c_double]
    first: int = 0
    stride: int = 1

    def number(self, row: int) -> float:
        """The one of a row."""
        found: float = self.numbers[self.first + row * self.stride]
        return found

    def some(self, row: int, count: int) -> list[float]:
        """The first ``count`` of a row."""
        first = self.first + row * self.stride
        return list(self.numbers[first : first + count])


class Book(ABC):
    """The numbers of one step of a session. ``count``: how many candidates are listed of a Dist.

    What ``removed`` and its like give can be read behind ``read``, and is None where all of it is 0.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._facts: dict[tuple[int, int], Facts] = {}

    @abstractmethod
    def measure(self, raw: Dist, visits: Sequence[Visit]) -> None:
        """Take in every Dist of a step. What one stage leaves is what the next is given: each is measured once."""

    @abstractmethod
    def removed(self, before: Dist, after: Dist) -> Place | None:
        """The probability in ``before`` of what ``after`` does not hold: Dists that were measured."""

    @abstractmethod
    def rescued(self, dist: Dist) -> Place | None:
        """Whether a row kept its best token because nothing else was left."""

    @abstractmethod
    def probs(self, dist: Dist, tokens: Tensor) -> Place:
        """The probability of a token (int64 [R, 1]) in any Dist of these rows; 0 for one that it does not hold."""

    @abstractmethod
    def ranked(self, raw: Dist, tokens: Tensor) -> tuple[Place, Callable[[int], int]]:
        """``probs``, and what tells of a row how many tokens are better than its own, ties to the lower id."""

    @abstractmethod
    def read(self) -> None:
        """Bring what was taken in to the host."""

    @abstractmethod
    def _facts_of(self, dist: Dist, row: int, text: Callable[[int], str]) -> Facts: ...

    def facts(self, dist: Dist, row: int, text: Callable[[int], str]) -> Facts:
        """What is said of one row of a Dist that was measured. ``text``: of a token."""
        key = id(dist), row
        found = self._facts.get(key)
        if found is None:
            found = self._facts[key] = self._facts_of(dist, row, text)
        return found


def candidates(
    logits: Iterable[float], ids: Iterable[float], probs: Iterable[float], text: Callable[[int], str]
) -> tuple[Candidate, ...]:
    """Those that are left of some."""
    left = ((int(token), p) for logit, token, p in zip(logits, ids, probs, strict=True) if logit > NOTHING)
    return tuple([(token, text(token), p) for token, p in left])


NOTHING = float("-inf")

__all__ = ["Book", "Candidate", "Facts", "Place", "candidates"]
