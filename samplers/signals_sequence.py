"""Signals of the sequence: where a row is, and what its text says."""

from __future__ import annotations

import functools
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.expression import Kind
from ..core.stage import Signal
from ..core.vocab import Vocab
from .region import Marker, marker_ids, opened_at, opened_in

TAIL = 256  # characters


class Step(Signal):
    """How many tokens have been generated; in a phase's own until, since the phase began. 0 at the first."""

    examples: ClassVar[tuple[str, ...]] = ("step >= 64",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.step.float()


class Position(Signal):
    """The place of the next token in the sequence, prompt included. 0 where there is no prompt."""

    examples: ClassVar[tuple[str, ...]] = ("position < 1024",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.position.float()


class Last(Signal):
    """The id of the last token, prompt included; -1 where there is none."""

    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    examples: ClassVar[tuple[str, ...]] = ("last in [198, 271]",)

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.last.float()


class Tail(Signal):
    """The last 256 characters of the whole sequence as text, prompt and special tokens included. Waits for the host."""

    value_kind: ClassVar[Kind] = "text"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "text", "tokenizer"})
    examples: ClassVar[tuple[str, ...]] = ('tail ~ r"[.!?]$"', '"```" in tail')

    def read(self, dist: Dist, ctx: Context) -> list[str]:
        return [text[-TAIL:] for text in ctx.texts()]


class Within(Signal):
    """Whether a region is open: ``open`` has come, in prompt or output, and ``close`` has not come since.

    Regions do not nest. With equal markers each one opens or closes in turn. Markers are texts or token ids; two that
    are ids, or whole tokens that the tokenizer never merges with their neighbours (its special and added tokens), are
    matched on the device, any others in the text, which waits for the host.
    """

    value_kind: ClassVar[Kind] = "truth"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "text", "tokenizer"})
    examples: ClassVar[tuple[str, ...]] = ('within("<think>", "</think>")', "within(151667, 151668)")

    open: Marker = Field(description='what opens the region, as in within("<think>", "</think>")')
    close: Marker = Field(description="what closes it")

    @property
    def reads_host(self) -> bool:
        return isinstance(self.open, str) or isinstance(self.close, str)  # a text may be a token, a vocabulary can tell

    def prepare(self, vocab: Vocab) -> tuple[int, int] | None:
        return marker_ids((self.open, self.close), vocab, "within")

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        ids = ctx.prepared(self)
        if ids is not None:
            return opened_at(ctx.tokens, ids) >= 0
        inside = [opened_in(text, (self.open, self.close), ctx.vocab) is not None for text in ctx.texts()]
        return torch.tensor(inside, dtype=torch.bool).reshape(-1, 1).to(dist.device)


class RepetitionRate(Signal):
    """Of the n-grams of the last ``window`` tokens, the share that came before among them.

    Of m n-grams, u of them different, it is (m - u) / m: 0 where none repeats and where there is none, and below 1; in
    a loop of p tokens it comes to 1 - p / m. Only generated tokens count; in a phase's own until, those since the phase
    began. Common words alone repeat a good deal at n = 1; longer n-grams seldom do by themselves.

    Source: seq-rep-n of Welleck et al., arXiv 1908.04319, of the last tokens alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    examples: ClassVar[tuple[str, ...]] = ("repetition_rate > 0.7", "repetition_rate(4, window=128) > 0.3")

    n: int = Field(1, ge=1, le=64, description="how many tokens are compared at a time")
    window: int = Field(64, ge=1, le=1024, description="how many of the last tokens are looked at")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n > self.window:
            raise ValueError(f"{self.n}-grams do not fit a window of {self.window} tokens: make it longer")
        return self

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        tokens = ctx.tokens
        width = min(self.window, tokens.shape[1])
        if width < self.n:
            return torch.zeros(ctx.rows, 1, device=ctx.device)
        places = ctx.lengths - width + torch.arange(width, device=ctx.device)  # [R, W], in order
        recent = tokens.gather(1, places.clamp(min=0))
        count = width - self.n + 1
        there = places[:, :count] >= ctx.starts  # [R, M]: the n-gram lies in the output as a whole
        equal = recent[:, :, None] == recent[:, None]  # [R, W, W]
        shifted = (equal[:, k : k + count, k : k + count] for k in range(self.n))
        same = functools.reduce(torch.logical_and, shifted) & there[:, None]  # [R, M, M]: an n-gram, and each other
        repeated = same.tril(-1).any(-1) & there
        return repeated.sum(-1, keepdim=True) / there.sum(-1, keepdim=True).clamp(min=1)


__all__ = ["Last", "Position", "RepetitionRate", "Step", "Tail", "Within"]
