"""A test on running in circles: loop."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.stage import StoppingCriterion


class Loop(StoppingCriterion):
    """The generated tokens end in one sequence of at most n tokens, ``times`` times over.

    A single repeated token is a sequence of one. The sequence is compared token by token, so a loop that counts, or
    that the tokenizer splits in another way each time, is none. In a phase's until, tokens count from where the phase
    began. By default a row ends after a token repeated eight times, or 256 tokens of a loop of 32; a table's rule is
    such a loop too, where it has that many columns.

    Source: vLLM's repetition detection, with max_pattern_size n, min_pattern_size 1 and min_count ``times``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    examples: ClassVar[tuple[str, ...]] = ("loop", "loop(16, times=4)")

    n: int = Field(32, ge=1, le=1024, description="how long the sequence is at most")
    times: int = Field(8, ge=2, le=1024, description="how often it comes, the first time counted")

    def check(self, ctx: Context) -> Tensor:
        tokens = ctx.tokens  # [R, T]
        longest = min(self.n, tokens.shape[1] // self.times)
        if longest == 0:
            return torch.zeros_like(ctx.step, dtype=torch.bool)
        periods = torch.arange(1, longest + 1, device=ctx.device)  # [P]
        reach = longest * (self.times - 1)
        places = ctx.lengths - 1 - torch.arange(reach + longest, device=ctx.device)  # the last token first
        recent = tokens.gather(1, places.clamp(min=0))  # [R, reach + P]
        earlier = recent.unfold(1, reach, 1)[:, 1:]  # [R, P, reach]: one period back, for each period
        due = torch.arange(reach, device=ctx.device) < periods[:, None] * (self.times - 1)  # [P, reach]
        same = ((earlier == recent[:, None, :reach]) | ~due).all(-1)  # [R, P]
        return (same & (ctx.step >= periods * self.times)).any(-1, keepdim=True)


__all__ = ["Loop"]
