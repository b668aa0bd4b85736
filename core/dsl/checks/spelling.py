"""Whether tokens can write a string, and how many it takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable


class Spelling:
    """What can be written with some tokens' bytes. A string may begin and end anywhere inside tokens."""

    def __init__(self, tokens: Iterable[bytes]) -> None:
        self._tokens = frozenset(tokens) - {b""}
        self._forwards = sorted(self._tokens)
        self._backwards = sorted(token[::-1] for token in self._tokens)

    def fewest(self, string: bytes) -> int | None:
        """The fewest tokens in whose bytes, one after another, the string stands; None where none have it."""
        if any(string in token for token in self._tokens):
            return 1
        size = len(string)
        cost: list[int | None] = [None] * (size + 1)  # of having the first bytes, a token ending just behind them
        best: int | None = None
        for end in range(1, size + 1):
            if _begins(self._backwards, string[:end][::-1]):  # the first token may begin with something else
                cost[end] = 1
                continue
            ways = [c + 1 for start in range(1, end) if (c := cost[start]) and string[start:end] in self._tokens]
            cost[end] = min(ways, default=None)
        for start in range(1, size):
            c = cost[start]
            if c is not None and _begins(self._forwards, string[start:]):  # and the last one end with more
                best = c + 1 if best is None else min(best, c + 1)
        whole = cost[size]
        return whole if best is None else best if whole is None else min(best, whole)


def _begins(ordered: list[bytes], prefix: bytes) -> bool:
    """Whether one of the tokens, in order, begins with ``prefix``."""
    place = bisect_left(ordered, prefix)
    return place < len(ordered) and ordered[place].startswith(prefix)


__all__ = ["Spelling"]
