"""Stops on tokens: eos, stop_ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.errors import StrategyError
from ..core.stage import StoppingCriterion
from ..core.vocab import Vocab

TokenId = Annotated[int, Field(ge=0)]


def ids_tensor(ids: Iterable[int], vocab: Vocab, stage: str) -> Tensor:
    """An int64 [n] on the vocabulary's device. Raises StrategyError for an id outside it."""
    wanted = list(ids)
    outside = [i for i in wanted if not 0 <= i < vocab.size]
    if outside:
        raise StrategyError(f"{stage}: token id {outside[0]} is outside the vocabulary of {vocab.size}", code="token")
    return torch.tensor(wanted, dtype=torch.int64, device=vocab.device)


def just_came(ids: Tensor, ctx: Context) -> Tensor:
    """A bool [R, 1]: whether the last token was generated and is one of ids (int64 [n])."""
    return (ctx.last == ids).any(-1, keepdim=True) & (ctx.lengths > ctx.prompt_lengths)


class Eos(StoppingCriterion):
    """The model's end of sequence has come, or one of ``ids`` where they are given."""

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "eos"
    variadic: ClassVar[str | None] = "ids"
    examples: ClassVar[tuple[str, ...]] = ("eos", "eos(2, 7)")

    ids: tuple[TokenId, ...] = Field(
        (), description="the tokens that end a row; the model's own end-of-sequence tokens if none"
    )

    def prepare(self, vocab: Vocab) -> Tensor:
        return ids_tensor(self.ids or vocab.eos_ids, vocab, "eos")

    def check(self, ctx: Context) -> Tensor:
        return just_came(ctx.prepared(self), ctx)

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        return len(tokens) > prompt and tokens[-1] in (self.ids or vocab.eos_ids)


class StopIds(StoppingCriterion):
    """One of these tokens has come. It stays in the output's tokens."""

    variadic: ClassVar[str | None] = "ids"
    examples: ClassVar[tuple[str, ...]] = ("stop_ids(198, 271)",)

    ids: tuple[TokenId, ...] = Field(min_length=1, description="token ids, as in stop_ids(198, 271)")

    def prepare(self, vocab: Vocab) -> Tensor:
        return ids_tensor(self.ids, vocab, "stop_ids")

    def check(self, ctx: Context) -> Tensor:
        return just_came(ctx.prepared(self), ctx)

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        return len(tokens) > prompt and tokens[-1] in self.ids


__all__ = ["Eos", "StopIds"]
