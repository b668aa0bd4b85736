"""Bounds: max_tokens, max_length, timeout. A row they end has finish_reason "length"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.stage import StoppingCriterion
from ..core.vocab import Vocab


class MaxTokens(StoppingCriterion):
    """n tokens have been generated; in a phase's until, since the phase began."""

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "length"
    examples: ClassVar[tuple[str, ...]] = ("max_tokens(256)",)

    n: int = Field(ge=1, description="how many tokens come at most")

    def check(self, ctx: Context) -> Tensor:
        return ctx.step >= self.n

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        return len(tokens) - start >= self.n

    def most_tokens(self, prompt: int) -> int | None:
        return self.n


class MaxLength(StoppingCriterion):
    """Prompt and output together have n tokens. A row whose prompt is that long already ends after one token."""

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "length"
    examples: ClassVar[tuple[str, ...]] = ("max_length(4096)",)

    n: int = Field(ge=1, description="how long prompt and output together get at most")

    def check(self, ctx: Context) -> Tensor:
        return ctx.lengths >= self.n

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        return len(tokens) >= self.n

    def most_tokens(self, prompt: int) -> int | None:
        return max(1, self.n - prompt)


class Timeout(StoppingCriterion):
    """So many seconds have passed since the request began. Looked at after each token; prefill counts."""

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "length"
    examples: ClassVar[tuple[str, ...]] = ("timeout(30)",)

    seconds: float = Field(gt=0, allow_inf_nan=False, description="wall clock, in seconds")

    def check(self, ctx: Context) -> Tensor:
        return ctx.elapsed >= self.seconds


__all__ = ["MaxLength", "MaxTokens", "Timeout"]
