"""Penalties on tokens that are already there: repetition, presence, frequency."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

LLAMACPP_WINDOW = 64  # llama.cpp's default penalty_last_n
TEXTGEN_RANGE = "text-generation-webui reads a range of 0 as the whole sequence: leave window out for that"
_LARGEST, _SMALLEST = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny

Over = Literal["all", "output", "prompt"]


def occurrences(dist: Dist, ctx: Context, over: Over, window: int | None) -> Tensor:
    """How often each of dist's tokens occurs in the output, the prompt or both, or in their last ``window`` tokens.

    Returns int32 [R, C].
    """
    if window is not None and over == "prompt":
        return dist.lookup(_prompt_end(ctx, window))
    if window is not None:
        return dist.lookup(ctx.recent_counts(window, output_only=over == "output"))
    if over == "prompt":
        return dist.lookup(ctx.prompt_counts)
    counts = dist.lookup(ctx.counts)
    return counts if over == "output" else counts + dist.lookup(ctx.prompt_counts)


def _prompt_end(ctx: Context, window: int) -> Tensor:
    """Occurrences among the last ``window`` tokens of the prompt: int32 [R, V]."""
    places = torch.arange(ctx.tokens.shape[1], device=ctx.device)
    inside = (places < ctx.prompt_lengths) & (places >= ctx.prompt_lengths - window)  # [R, T]
    counts = torch.zeros(ctx.rows, ctx.vocab_size, dtype=torch.int32, device=ctx.device)
    return counts.scatter_add_(1, ctx.tokens.clamp(min=0), inside.int())


class Repetition(LogitsProcessor):
    """Make tokens that are already there less likely: l' = l * penalty where l < 0, else l / penalty.

    Once for each token, however often it is there. Looks at prompt and output, at one of them, or at the last
    ``window`` tokens of that. A penalty of 1 is off, below 1 rewards repetition.

    Source: Keskar et al., "CTRL", arXiv 1909.05858, with the rule for negative logits that transformers, vLLM,
    text-generation-webui and llama.cpp share. transformers' encoder_repetition_penalty p is 1/p over the prompt.
    Dialects: transformers, vLLM and text-generation-webui (its range is ``window``) share the default; llamacpp looks
    at the last 64 tokens where no window is given.
    """

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"penalty": 1.0, "window": 0}
    examples: ClassVar[tuple[str, ...]] = (
        "repetition(1.1)",
        "repetition(1.1, window=256)",
        'repetition(0.8, over="prompt")',
        'repetition(1.1, dialect="llamacpp")',
    )

    penalty: Scalar = Field(gt=0, description="above 1 lowers what is already there, below 1 raises it")
    over: Over = Field("all", description="all: prompt and output; output: what was generated; prompt: what was given")
    window: int | None = Field(None, ge=0, description="only the last so many tokens; 0 is off")
    dialect: Literal["logitmill", "llamacpp"] = Field("logitmill", description="llamacpp: a window of 64 unless given")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        seen = occurrences(dist, ctx, self.over, _window(self.window, self.dialect)) > 0
        penalty = self.penalty.clamp(min=_SMALLEST) if isinstance(self.penalty, Tensor) else self.penalty
        logits = dist.logits
        lowered = torch.where(logits < 0, logits * penalty, (logits / penalty).clamp(max=_LARGEST))
        return dist.with_logits(torch.where(seen, lowered, logits))


class _Subtracted(LogitsProcessor):
    """What presence and frequency share: which tokens they count."""

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"value": 0.0, "window": 0}

    value: Scalar = Field(description="what is taken from a logit")
    over: Over | None = Field(
        None,
        description="all: prompt and output; output: what was generated; prompt: what was given "
        "(output unless given; all in the dialects)",
    )
    window: int | None = Field(None, ge=0, description="only the last so many tokens; 0 is off")
    dialect: Literal["logitmill", "llamacpp", "textgen"] = Field(
        "logitmill", description="textgen: prompt and output; llamacpp: the last 64 tokens of them"
    )

    @model_validator(mode="after")
    def _window_as_said(self) -> Self:
        if self.dialect == "textgen" and self.window == 0:
            raise ValueError(TEXTGEN_RANGE)
        return self

    def _counts(self, dist: Dist, ctx: Context) -> Tensor:
        """How often each of dist's tokens is there: int32 [R, C]."""
        over = self.over or ("output" if self.dialect == "logitmill" else "all")
        return occurrences(dist, ctx, over, _window(self.window, self.dialect))


class Presence(_Subtracted):
    """Lower tokens that are already there by a fixed amount: l' = l - value where the token's count is above 0.

    Looks at the output. A value of 0 is off, below 0 raises.

    Source: OpenAI's presence_penalty; vLLM's, which it equals.
    Dialects: llamacpp looks at the last 64 tokens (or ``window``) of prompt and output; textgen looks at all of prompt
    and output (or their last ``window`` tokens: its range).
    """

    examples: ClassVar[tuple[str, ...]] = (
        "presence(0.5)",
        'presence(0.5, over="all")',
        'presence(0.5, dialect="llamacpp")',
    )

    value: Scalar = Field(description="what is taken from the logit of a token that is already there")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.with_logits((dist.logits - self.value * (self._counts(dist, ctx) > 0)).clamp(max=_LARGEST))


class Frequency(_Subtracted):
    """Lower tokens that are already there by an amount for each time: l' = l - value * count.

    Looks at the output. A value of 0 is off, below 0 raises.

    Source: OpenAI's frequency_penalty; vLLM's, which it equals.
    Dialects: llamacpp looks at the last 64 tokens (or ``window``) of prompt and output; textgen looks at all of prompt
    and output (or their last ``window`` tokens: its range).
    """

    examples: ClassVar[tuple[str, ...]] = (
        "frequency(0.5)",
        "frequency(0.5, window=64)",
        'frequency(0.5, dialect="textgen")',
    )

    value: Scalar = Field(description="what is taken from a token's logit for each time it is already there")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.with_logits((dist.logits - self.value * self._counts(dist, ctx)).clamp(max=_LARGEST))


def _window(window: int | None, dialect: str) -> int | None:
    return LLAMACPP_WINDOW if window is None and dialect == "llamacpp" else window


__all__ = ["TEXTGEN_RANGE", "Frequency", "Over", "Presence", "Repetition"]
