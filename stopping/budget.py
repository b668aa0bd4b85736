"""A bound on one region of the output: budget."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.stage import StoppingCriterion
from ..core.tokens import TokenText
from ..core.vocab import Vocab
from ..samplers.region import Marker, marker_ids, opened_at, opened_in

#: tokens read ahead of those that are measured, so that a character they share is theirs: none has more bytes
_CHARACTER = 4


class Budget(StoppingCriterion):
    """A region has been open for n tokens: n of them have come behind its opening marker.

    What a region is, ``within`` says. It may have opened in the prompt, whose tokens behind the marker count too, or in
    an earlier phase. It ends a row, or a phase: ``phases({ ... until text("</think>") or budget(2048) }, ...)`` thinks
    no longer than that. It writes no closing marker; the stage ``thinking_budget`` does. It bounds the region alone: a
    row in which none opens goes on.

    Markers that are ids, special or added tokens are matched on the device, any others in the text.
    """

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "length"
    needs: ClassVar[frozenset[str]] = frozenset({"history", "text", "tokenizer"})
    examples: ClassVar[tuple[str, ...]] = ("budget(2048)", 'budget(256, open="```", close="```")')

    n: int = Field(ge=0, description="how many tokens the region gets at most; 0 ends it where it opens")
    open: Marker = Field("<think>", description="what opens the region: a text or a token id")
    close: Marker = Field("</think>", description="what closes it")

    def prepare(self, vocab: Vocab) -> tuple[int, int] | None:
        return marker_ids((self.open, self.close), vocab, "budget")

    def check(self, ctx: Context) -> Tensor:
        ids = ctx.prepared(self)
        if ids is None:
            return torch.zeros_like(ctx.step, dtype=torch.bool)
        opened = opened_at(ctx.tokens, ids)
        return (opened >= 0) & (ctx.lengths - 1 - opened >= self.n)

    def check_text(self, text: str, ctx: Context) -> bool:
        if ctx.prepared(self) is not None:
            return False
        (whole,) = ctx.texts()
        opened = opened_in(whole, (self.open, self.close), ctx.vocab)
        return opened is not None and opened <= len(whole) - self._latest(ctx)

    def _latest(self, ctx: Context) -> int:
        """How many characters the last n tokens brought."""
        (row,) = ctx.host_index
        tokens = ctx.history.host[row][-self.n - _CHARACTER :]
        reader = TokenText(ctx.tokenizer, skip_special=False)
        pieces = [reader.push(token) for token in tokens]
        return sum(map(len, pieces[max(0, len(pieces) - self.n) :]))


__all__ = ["Budget"]
