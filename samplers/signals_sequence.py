"""Signals of the sequence: where a row is, and what its text says."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.expression import Kind
from ..core.stage import Signal
from ..core.vocab import Vocab

TAIL = 256  # characters


class Step(Signal):
    """How many tokens have been generated; in a phase's own until, since the phase began. 0 at the first."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.step.float()


class Position(Signal):
    """The place of the next token in the sequence, prompt included. 0 where there is no prompt."""

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.position.float()


class Last(Signal):
    """The id of the last token, prompt included; -1 where there is none."""

    needs: ClassVar[frozenset[str]] = frozenset({"history"})

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return ctx.last.float()


class Tail(Signal):
    """The last 256 characters of the whole sequence as text, prompt and special tokens included. Waits for the host."""

    value_kind: ClassVar[Kind] = "text"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "text", "tokenizer"})

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

    open: int | str = Field(description='what opens the region, as in within("<think>", "</think>")')
    close: int | str = Field(description="what closes it")

    def prepare(self, vocab: Vocab) -> tuple[int, int] | None:
        """The markers as token ids where both can be matched as tokens, else None."""
        ids = [marker if isinstance(marker, int) else _whole(marker, vocab) for marker in (self.open, self.close)]
        return None if ids[0] is None or ids[1] is None else (ids[0], ids[1])

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        ids = ctx.prepared(self)
        if ids is None:
            inside = [self._in_text(text, ctx) for text in ctx.texts()]
            return torch.tensor(inside, dtype=torch.bool).reshape(-1, 1).to(dist.device)
        tokens = ctx.tokens  # [R, T]
        opens, closes = tokens == ids[0], tokens == ids[1]
        if ids[0] == ids[1]:
            odd: Tensor = opens.sum(-1, keepdim=True) % 2 == 1
            return odd
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return _latest(opens, places) > _latest(closes, places)

    def _in_text(self, text: str, ctx: Context) -> bool:
        markers = [m if isinstance(m, str) else ctx.vocab.texts[m] for m in (self.open, self.close)]
        at, inside = 0, False
        while (found := text.find(markers[inside], at)) >= 0:
            at, inside = found + len(markers[inside]), not inside
        return inside


def _latest(found: Tensor, places: Tensor) -> Tensor:
    """An int64 [R, 1]: the last place where found (bool [R, T]) holds, -1 for none."""
    return torch.where(found, places, -1).amax(-1, keepdim=True)


def _whole(text: str, vocab: Vocab) -> int | None:
    """The id of a text that the tokenizer always keeps as one token of its own, else None."""
    added: dict[str, Any] = {} if vocab.tokenizer is None else vocab.tokenizer.get_added_vocab()
    found = added.get(text)
    return None if found is None else int(found)


__all__ = ["Last", "Position", "Step", "Tail", "Within"]
