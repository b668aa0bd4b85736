"""Tests on how sure the model is: confidence, entropy_below."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.scalar import Scalar
from ..core.stage import StoppingCriterion


class Confidence(StoppingCriterion):
    """The model's own probability of the token that just came is below p.

    Its own: before anything that the pipeline did. A row ends behind the token that it was unsure of. p = 0 never
    ends a row.

    Source: transformers' ConfidenceCriteria, which looks at the probabilities after the pipeline and at the first row
    alone.
    """

    examples: ClassVar[tuple[str, ...]] = ("confidence(0.2)", "confidence(0.5 -> 0.1 over 64)")

    p: Scalar = Field(ge=0, le=1, description="the least probability at which a row goes on")

    def check(self, ctx: Context) -> Tensor:
        columns, present = ctx.raw.columns_of(ctx.last)  # [R, 1]
        low: Tensor = ctx.raw.probs.gather(-1, columns) < self.p
        return low & present & (ctx.lengths > ctx.prompt_lengths)


class EntropyBelow(StoppingCriterion):
    """The entropy of the model's own distribution has been below x for each of the last ``steps`` generated tokens.

    In nats, of the distributions that those tokens were drawn from, before anything that the pipeline did. In a
    phase's until, tokens count from where the phase began.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"history", "entropies"})
    examples: ClassVar[tuple[str, ...]] = ("entropy_below(0.1, steps=8)", "entropy_below(0.5)")

    x: Scalar = Field(ge=0, description="nats; 0 never ends a row")
    steps: int = Field(1, ge=1, description="how many tokens in a row")

    def check(self, ctx: Context) -> Tensor:
        entropies = ctx.entropies  # [R, T], NaN where none was recorded
        if self.steps > entropies.shape[1]:
            return torch.zeros_like(ctx.step, dtype=torch.bool)
        places = ctx.lengths - 1 - torch.arange(self.steps, device=ctx.device)  # [R, steps]
        low = entropies.gather(1, places.clamp(min=0)) < self.x
        return low.all(-1, keepdim=True) & (ctx.step >= self.steps)


__all__ = ["Confidence", "EntropyBelow"]
