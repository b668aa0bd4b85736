"""The end of a pipeline written down for the kernel, where a GPU has many rows of a whole vocabulary.

torch sorts a vocabulary for top-p, and reads and writes it some forty times for a tail of four stages. A stage that
knows a head of candidates (``on_head``) says to ``Cuts`` what it would do to one, and the kernel does it all and draws.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ..dist import Dist
from ..transfer import to_device

DIVIDE, FIRST, SHARE, ABOVE = 1, 2, 3, 4
LEAST_ROWS = 8
"""Below, torch's sort of a row is as fast: the kernel gives a row one multiprocessor, torch the whole device."""
LEAST_COLUMNS = 4096
MOST_STEPS = 8
"""Each takes three bits of the kernel's code; it is compiled for every code that occurs."""

MOST_FEW = 1024
"""Up to so many tokens the kernel moves together."""

_trouble: list[str] = []
"""Why the kernel is not used any more."""


def serves(dist: Dist) -> bool:
    """Whether the kernel is for this Dist: on a GPU, the whole vocabulary, many rows."""
    if dist.device.type != "cuda" or dist.rows < LEAST_ROWS or dist.columns < LEAST_COLUMNS:
        return False
    return dist.ids is None and not _trouble and _available()


@cache
def _available() -> bool:
    return find_spec("triton") is not None


class Unfit(Exception):  # noqa: N818  # no error: torch's operators do it
    """What was asked of ``Cuts`` is not in the kernel."""


class Cuts:
    """Takes down what is done to R rows of logits; ``drawn`` does it.

    Anything else that a stage may ask of a head is an AttributeError, or Unfit.
    """

    def __init__(self, dist: Dist) -> None:
        self._dist = dist
        self._steps: list[int] = []
        self._values: list[Any] = []

    def divide(self, divisor: Any) -> None:
        """Every logit by a number above 0, or by a tensor [R, 1]. Once: dividing twice rounds twice."""
        if DIVIDE in self._steps or not (isinstance(divisor, Tensor) or divisor > 0):
            raise Unfit
        self._take(DIVIDE, divisor)

    def first(self, count: int) -> None:
        """No more than the ``count`` best, ties to the lower id."""
        self._take(FIRST, count)

    def share(self, p: Any, least: Any) -> None:
        """Those above which lies less than a share ``p`` (a number, or a tensor [R, 1]) of the mass; at 1 all."""
        if isinstance(least, Tensor) or least != 1:
            raise Unfit
        self._take(SHARE, p)

    def above(self, difference: Any, least: int) -> None:
        """Those whose logit is at least the best one's plus ``difference``, which is not above 0."""
        if least != 1:
            raise Unfit
        self._take(ABOVE, difference)

    def _take(self, step: int, value: Any) -> None:
        if len(self._steps) == MOST_STEPS:
            raise Unfit
        self._steps.append(step)
        self._values.append(value)

    def drawn(self, uniform: Tensor) -> tuple[Dist, Tensor] | None:
        """(the law, tokens int64 [R, 1]) for float64 [R, 1] in [0, 1); None where the kernel does not run here.

        Nothing is looked at: a row at fault shows in its law.
        """
        from .choice import choose

        try:
            law, tokens = choose(self._dist.logits, uniform, self._steps, self._parameters(), self._few())
        except Exception as error:  # a compiler, a driver: whatever it is, torch's operators do the same
            _trouble.append(f"{type(error).__name__}: {error}")
            warnings.warn(f"the Triton kernel does not run here, torch's operators are used: {error}", stacklevel=2)
            return None
        return Dist(law), tokens

    def _few(self) -> tuple[int, int] | None:
        """The first place behind which there are few tokens, and how many; None where there is none."""
        for place, (step, value) in enumerate(zip(self._steps, self._values, strict=True)):
            if step == FIRST and value <= MOST_FEW:
                return place, int(value)
        return None

    def _parameters(self) -> Tensor:
        """float32 [R, n]."""
        rows, device = self._dist.rows, self._dist.device
        if not any(isinstance(value, Tensor) for value in self._values):
            return _numbers(tuple(map(float, self._values)), rows, device)
        columns = [
            value.float().reshape(rows, 1) if isinstance(value, Tensor) else _numbers((float(value),), rows, device)
            for value in self._values
        ]
        return torch.cat(columns, -1)


@lru_cache(maxsize=256)
def _numbers(values: Sequence[float], rows: int, device: torch.device) -> Tensor:
    """float32 [R, n], kept: a strategy has the same numbers at every step."""
    return to_device([values] * rows, torch.float32, device)


__all__ = ["ABOVE", "DIVIDE", "FIRST", "SHARE", "Cuts", "Unfit", "serves"]
