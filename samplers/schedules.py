"""Schedules: the shapes of ``a -> b over n by shape``. All start at a and end at b, exactly."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import StrategyError
from ..core.stage import Schedule


class Linear(Schedule):
    """a + (b - a) f: the same change each token."""

    examples: ClassVar[tuple[str, ...]] = ("temperature(1.2 -> 0.6 over 64)",)

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        return start * (1.0 - fraction) + end * fraction


class Cosine(Schedule):
    """a + (b - a)(1 - cos(pi f)) / 2: slow at both ends.

    Source: Loshchilov and Hutter, arXiv 1608.03983.
    """

    examples: ClassVar[tuple[str, ...]] = ("temperature(1.2 -> 0.6 over 64 by cosine)",)

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        share = torch.where(fraction < 1.0, (1.0 - torch.cos(math.pi * fraction)) / 2.0, 1.0)
        return start * (1.0 - share) + end * share


class Exp(Schedule):
    """a (b / a) ** f: the same ratio each token. Both ends lie on one side of 0."""

    examples: ClassVar[tuple[str, ...]] = ("temperature(1.5 -> 0.3 over 64 by exp)",)

    def check(self, start: float, end: float) -> None:
        if start * end <= 0:
            raise StrategyError(
                f"a schedule 'by exp' joins two numbers on one side of 0, got {start:g} and {end:g}",
                hint="use by linear or by cosine",
                code="range",
            )

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        low, high = math.log(abs(start)), math.log(abs(end))  # their ratio may be more than a float holds
        between = math.copysign(1.0, start) * (low + (high - low) * fraction).exp()
        return torch.where(fraction < 1.0, torch.where(fraction > 0.0, between, start), end)


class Step(Schedule):
    """a until the end, then b at once."""

    examples: ClassVar[tuple[str, ...]] = ("temperature(1.5 -> 0.7 over 8 by step)",)

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        return torch.where(fraction < 1.0, torch.full_like(fraction, start), end)


__all__ = ["Cosine", "Exp", "Linear", "Step"]
