"""Penalties on tokens that are already there: repetition, presence, frequency."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

LLAMACPP_WINDOW = 64  # llama.cpp's default penalty_last_n
_LARGEST, _SMALLEST = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny

Over = Literal["all", "output"]


def occurrences(dist: Dist, ctx: Context, over: Over, window: int | None) -> Tensor:
    """How often each of dist's tokens occurs in the output, or the prompt too, or their last ``window`` tokens.

    Returns int32 [R, C].
    """
    if window is not None:
        return dist.lookup(ctx.recent_counts(window, output_only=over == "output"))
    counts = dist.lookup(ctx.counts)
    return counts if over == "output" else counts + dist.lookup(ctx.prompt_counts)


class Repetition(LogitsProcessor):
    """Make tokens that are already there less likely: l' = l * penalty where l < 0, else l / penalty.

    Once for each token, however often it is there. Looks at prompt and output, or at the output alone, or at the last
    ``window`` tokens of either. A penalty of 1 is off, below 1 rewards repetition.

    Source: Keskar et al., "CTRL", arXiv 1909.05858, with the rule for negative logits that transformers and llama.cpp
    share.
    Dialects: transformers' is the default; llamacpp looks at the last 64 tokens where no window is given.
    """

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"penalty": 1.0, "window": 0}

    penalty: Scalar = Field(gt=0, description="above 1 lowers what is already there, below 1 raises it")
    over: Over = Field("all", description="all: prompt and output; output: what was generated")
    window: int | None = Field(None, ge=0, description="only the last so many tokens; 0 is off")
    dialect: Literal["logitmill", "llamacpp"] = Field("logitmill", description="llamacpp: a window of 64 unless given")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        seen = occurrences(dist, ctx, self.over, _window(self.window, self.dialect)) > 0
        penalty = self.penalty.clamp(min=_SMALLEST) if isinstance(self.penalty, Tensor) else self.penalty
        logits = dist.logits
        lowered = torch.where(logits < 0, logits * penalty, (logits / penalty).clamp(max=_LARGEST))
        return dist.with_logits(torch.where(seen, lowered, logits))


class Presence(LogitsProcessor):
    """Lower tokens that are already there by a fixed amount: l' = l - value where the token's count is above 0.

    Looks at the output. A value of 0 is off, below 0 raises.

    Source: OpenAI's presence_penalty.
    Dialects: llamacpp looks at the last 64 tokens (or ``window``) of prompt and output.
    """

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"value": 0.0, "window": 0}

    value: Scalar = Field(description="what is taken from the logit of a token that is already there")
    over: Over | None = Field(
        None, description="all: prompt and output; output: what was generated (llamacpp: all, else output)"
    )
    window: int | None = Field(None, ge=0, description="only the last so many tokens; 0 is off")
    dialect: Literal["logitmill", "llamacpp"] = Field(
        "logitmill", description="llamacpp: the last 64 tokens, prompt included"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        counts = occurrences(dist, ctx, _over(self.over, self.dialect), _window(self.window, self.dialect))
        return dist.with_logits((dist.logits - self.value * (counts > 0)).clamp(max=_LARGEST))


class Frequency(LogitsProcessor):
    """Lower tokens that are already there by an amount for each time: l' = l - value * count.

    Looks at the output. A value of 0 is off, below 0 raises.

    Source: OpenAI's frequency_penalty.
    Dialects: llamacpp looks at the last 64 tokens (or ``window``) of prompt and output.
    """

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"value": 0.0, "window": 0}

    value: Scalar = Field(description="what is taken from a token's logit for each time it is already there")
    over: Over | None = Field(
        None, description="all: prompt and output; output: what was generated (llamacpp: all, else output)"
    )
    window: int | None = Field(None, ge=0, description="only the last so many tokens; 0 is off")
    dialect: Literal["logitmill", "llamacpp"] = Field(
        "logitmill", description="llamacpp: the last 64 tokens, prompt included"
    )

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        counts = occurrences(dist, ctx, _over(self.over, self.dialect), _window(self.window, self.dialect))
        return dist.with_logits((dist.logits - self.value * counts).clamp(max=_LARGEST))


def _over(over: Over | None, dialect: str) -> Over:
    return over or ("all" if dialect == "llamacpp" else "output")


def _window(window: int | None, dialect: str) -> int | None:
    return LLAMACPP_WINDOW if window is None and dialect == "llamacpp" else window


__all__ = ["Frequency", "Presence", "Repetition"]
