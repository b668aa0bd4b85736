"""What a trace says of a step, on a CPU by kernels: one call a distribution, and a pass over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .account import Book, Facts, Place, candidates
from .dist import Dist
from .kernels.accounts import ENTROPY, FACTS, KEPT, Accounts, Measured
from .session import Visit


class NativeBook(Book):
    """By kernels: numbers are the host's as soon as they are worked out."""

    def __init__(self, count: int, kernels: Accounts) -> None:
        super().__init__(count)
        self._kernels = kernels
        self._measured: dict[int, tuple[Measured, Dist]] = {}  # by the id of a Dist, which is held: it is nobody else's

    def measure(self, raw: Dist, visits: Sequence[Visit]) -> None:
        self._of(raw)
        for visit in visits:
            self._of(visit.before), self._of(visit.after)

    def _of(self, dist: Dist) -> Measured:
        if id(dist) not in self._measured:
            logits, ids = dist.candidates if dist.is_ranked else (dist.logits, dist.ids)
            found = self._kernels.measure(logits, ids, self.count, ranked=dist.is_ranked, look=dist.look)
            self._measured[id(dist)] = found, dist
        return self._measured[id(dist)][0]

    def removed(self, before: Dist, after: Dist) -> Place | None:
        if after is before or (after.ids is None and self._is_whole(after)):
            return None
        vocabulary = max(before.vocab_size, after.vocab_size)
        return Place(self._kernels.removed(self._of(before), self._of(after), vocabulary))

    def _is_whole(self, dist: Dist) -> bool:
        """Whether every column is left in every row."""
        return all(kept == dist.columns for kept in self._of(dist).facts[KEPT :: FACTS + 3 * self.count])

    def rescued(self, dist: Dist) -> Place | None:
        return None if dist.rescued is None else Place(dist.rescued[:, 0].tolist())

    def probs(self, dist: Dist, tokens: Tensor) -> Place:
        return Place(self._kernels.token(self._of(dist), tokens), 0, 2)

    def ranked(self, raw: Dist, tokens: Tensor) -> tuple[Place, Callable[[int], int]]:
        told = self._kernels.token(self._of(raw), tokens)
        return Place(told, 0, 2), lambda row: int(told[2 * row + 1])

    def read(self) -> None:
        pass

    def _facts_of(self, dist: Dist, row: int, text: Callable[[int], str]) -> Facts:
        ids, probs = FACTS + self.count, FACTS + 2 * self.count
        width = probs + self.count
        numbers = self._of(dist).facts[row * width : (row + 1) * width]
        top = candidates(numbers[FACTS:ids], numbers[ids:probs], numbers[probs:], text)
        return Facts(int(numbers[KEPT]), numbers[ENTROPY], top)


__all__ = ["NativeBook"]
