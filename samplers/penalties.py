"""Penalties on tokens that are already there: repetition, presence, frequency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.kernels.repeats import Repeats, repeats
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

FEWER = 8  # times fewer tokens in the sequence than columns: then only these are touched
LLAMACPP_WINDOW = 64  # llama.cpp's default penalty_last_n
TEXTGEN_RANGE = "text-generation-webui reads a range of 0 as the whole sequence: leave window out for that"
_LARGEST, _SMALLEST = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny

Over = Literal["all", "output", "prompt"]


def occurrences(dist: Dist, ctx: Context, over: Over, window: int | None) -> Tensor:
    """How often each of dist's tokens occurs in the output, the prompt or both, or in their last ``window`` tokens.

    Returns int32 [R, C].
    """
    return sum_of([dist.lookup(table) for table in _tables(ctx, over, window)])


def changed(
    dist: Dist, ctx: Context, over: Over, window: int | None, change: Callable[[Tensor, Tensor], Tensor],
    by_kernel: Callable[[Repeats, Tensor, list[Tensor]], Tensor] | None = None,
) -> Dist:  # fmt: skip
    """``dist`` with ``change(logits, counts)`` in place of the logits of every token that occurs.

    ``change`` takes float32 and int32 [R, n], of any of the tokens, and leaves alone what has a count of 0. On the
    whole vocabulary it is asked about the tokens of the sequence alone, which are far fewer. ``by_kernel``, where there
    is one for it, says the same of (kernels, logits, one or two tensors of counts).
    """
    tokens = ctx.tokens
    if dist.ids is not None or tokens.shape[1] * FEWER > dist.columns:
        return dist.with_logits(change(dist.logits, occurrences(dist, ctx, over, window)))
    columns, places = _columns(ctx), places_of(dist, ctx)
    kernels = repeats() if by_kernel is not None and dist.looks and window is None else None
    if kernels is not None and by_kernel is not None:
        given, made = _both(kernels, ctx)
        held = {"all": [given, made], "prompt": [given], "output": [made]}[over]
        return dist.with_some(places, by_kernel(kernels, dist.logits_at(places), held))
    counts = ctx.once(
        ("counts", ctx.rows, over, window),
        lambda: sum_of([table.gather(-1, columns) for table in _tables(ctx, over, window)]),
    )
    return dist.with_some(places, change(dist.logits_at(places), counts))


def _both(kernels: Repeats, ctx: Context) -> Tensor:
    """int32 [2, R, T]: how often the token at each place stands in the prompt, and how often it was generated."""
    counts: Tensor = ctx.once(
        ("both", ctx.rows), lambda: kernels.count(ctx.tokens, ctx.prompt_lengths, ctx.lengths, ctx.vocab_size)
    )
    return counts


def _columns(ctx: Context) -> Tensor:
    """int64 [R, T]: the tokens of the sequence. Where there is none, token 0: its own count says whether it occurs."""
    columns: Tensor = ctx.once(("columns", ctx.rows), lambda: ctx.tokens.clamp(min=0))
    return columns


def places_of(dist: Dist, ctx: Context) -> Tensor:
    """int64 [R, T]: where the tokens of the sequence stand in the whole vocabulary's logits, row * C + column."""

    def places() -> Tensor:
        return _columns(ctx) + torch.arange(dist.rows, device=dist.device)[:, None] * dist.columns

    found: Tensor = ctx.once(("places", ctx.rows, dist.columns), places)
    return found


def sum_of(tables: list[Tensor]) -> Tensor:
    """Of one or two."""
    return tables[0] if len(tables) == 1 else tables[0] + tables[1]


def _tables(ctx: Context, over: Over, window: int | None) -> list[Tensor]:
    """Counts by token id, int32 [R, V] each, that together are the occurrences."""
    if window is not None:
        return [
            _prompt_end(ctx, window) if over == "prompt" else ctx.recent_counts(window, output_only=over == "output")
        ]
    if over == "prompt":
        return [ctx.prompt_counts]
    return [ctx.counts] if over == "output" else [ctx.counts, ctx.prompt_counts]


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
        penalty = self.penalty.clamp(min=_SMALLEST) if isinstance(self.penalty, Tensor) else self.penalty

        def lowered(logits: Tensor, counts: Tensor) -> Tensor:
            new = torch.where(logits < 0, logits * penalty, (logits / penalty).clamp(max=_LARGEST))
            return torch.where(counts > 0, new, logits)

        def by_kernel(kernels: Repeats, logits: Tensor, counts: list[Tensor]) -> Tensor:
            return kernels.repetition(logits, counts, float(penalty))

        number = not isinstance(penalty, Tensor)
        window = _window(self.window, self.dialect)
        return changed(dist, ctx, self.over, window, lowered, by_kernel if number else None)


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

    def _less(self, dist: Dist, ctx: Context, *, once: bool) -> Dist:
        """The value taken from the logits of what is there, for each time or ``once``."""
        over = self.over or ("output" if self.dialect == "logitmill" else "all")
        window = _window(self.window, self.dialect)

        def less(logits: Tensor, counts: Tensor) -> Tensor:
            return (logits - self.value * (counts > 0 if once else counts)).clamp(max=_LARGEST)

        def by_kernel(kernels: Repeats, logits: Tensor, counts: list[Tensor]) -> Tensor:
            return kernels.less(logits, counts, self.value, once)

        return changed(dist, ctx, over, window, less, None if isinstance(self.value, Tensor) else by_kernel)


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
        return self._less(dist, ctx, once=True)


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
        return self._less(dist, ctx, once=False)


def _window(window: int | None, dialect: str) -> int | None:
    return LLAMACPP_WINDOW if window is None and dialect == "llamacpp" else window


__all__ = ["TEXTGEN_RANGE", "Frequency", "Over", "Presence", "Repetition", "places_of"]
