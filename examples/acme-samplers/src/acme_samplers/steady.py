"""A sampler with state: what it remembers of a row is a tensor, moved by ``accept`` and kept by logitmill."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from logitmill import Context, Dist, Sampler, Scalar


class SteadyState(NamedTuple):
    """``log_temperature``: float32 [R, 1]."""

    log_temperature: Tensor


class Steady(Sampler, name="acme.steady"):
    """Draw at a temperature that keeps the surprise of the drawn tokens near a target.

    The law is softmax(l / T). After each token, ln T moves by rate * (target - surprise), where surprise is the
    token's -ln p under the law, in nats. T starts at 1 and stays between 0.1 and 10. A target of 0 cools down to the
    best token.
    """

    stochastic: ClassVar[bool] = True  # the default draw reads ctx.noise

    target: Scalar = Field(2.0, ge=0, description="the surprise to aim at, in nats")
    rate: Scalar = Field(0.1, ge=0, le=1, description="how fast the temperature follows; 0 leaves it at 1")

    def init(self, ctx: Context) -> SteadyState:
        return SteadyState(torch.zeros(ctx.rows, 1, device=ctx.device))

    def law(self, dist: Dist, state: SteadyState, ctx: Context) -> Dist:
        return dist.with_logits(dist.logits / state.log_temperature.exp())

    def accept(self, state: SteadyState, tokens: Tensor, law: Dist, ctx: Context) -> SteadyState:
        surprise = -law.logprob_of(tokens)  # [R, 1]
        moved = state.log_temperature + self.rate * (self.target - surprise)
        return SteadyState(moved.clamp(-2.302585, 2.302585).float())
