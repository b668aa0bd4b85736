"""Tides for logitmill: a signal, a schedule, a combinator and a preset in one module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from logitmill import Combinator, Context, Dist, Schedule, Signal, Strategy, hookimpl

api = 1


class Height(Signal, name="tides.height"):
    """A wave over the generated tokens: sin(2 pi step / period), from -1 to 1, 0 at the first token."""

    examples: ClassVar[tuple[str, ...]] = ("tides.height(16) > 0",)

    period: int = Field(16, ge=2, description="how many tokens a wave takes")

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return torch.sin(2 * math.pi * (ctx.step % self.period) / self.period).float()  # [R, 1]


class Slack(Schedule, name="tides.slack"):
    """a + (b - a) f^2 (3 - 2 f): slow at both ends, quick in the middle."""

    examples: ClassVar[tuple[str, ...]] = ("temperature(1.2 -> 0.6 over 64 by tides.slack)",)

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        share = fraction * fraction * (3 - 2 * fraction)
        return start * (1 - share) + end * share


class Turn(Combinator, name="tides.turn"):
    """Two pipelines in turn: ``flood`` for the first half of every period, ``ebb`` for the second."""

    examples: ClassVar[tuple[str, ...]] = ("tides.turn(8, flood={ top_p(0.95) }, ebb={ top_k(3) })",)

    period: int = Field(ge=2, description="how many tokens both take together")
    flood: Strategy = Field(description="for the first half")
    ebb: Strategy = Field(description="for the second half")

    def children(self) -> tuple[Strategy, ...]:
        return (self.flood, self.ebb)

    def weights(self, dist: Dist, ctx: Context) -> Tensor:
        rising = 2 * (ctx.step % self.period) < self.period  # bool [R, 1]
        return torch.cat([rising, ~rising], -1).float()


PRESET = """
dsl 1
let calm = temperature(0.9 -> 0.5 over 32 by tides.slack) | min_p(0.1) | sample until eos or max_tokens(256)
let restless(period=8) = tides.turn(period, flood={ temperature(1.2) }, ebb={ temperature(0.6) }) | min_p(0.05) | sample
"""


@hookimpl
def register_signals(register: Callable[..., None]) -> None:
    register(Height)


@hookimpl
def register_schedules(register: Callable[..., None]) -> None:
    register(Slack)


@hookimpl
def register_combinators(register: Callable[..., None]) -> None:
    register(Turn)


@hookimpl
def register_presets(register: Callable[..., None]) -> None:
    register("tides", PRESET)
