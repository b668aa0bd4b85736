"""A region of the text, such as a model's thinking, that is ended after so many tokens."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.errors import StrategyError
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .region import Marker, opened_by
from .token_keys import inside, resolve


class _Markers(NamedTuple):
    """The tokens of the two markers: int64 [a] and [b]."""

    open: Tensor
    close: Tensor


class ThinkingBudget(LogitsProcessor):
    """Once a region has been open for n tokens, let only the tokens of its closing marker come, until it is closed.

    A region is open where ``open`` has come, in prompt or output, and ``close`` has not come since; n counts the tokens
    since its opening, wherever that is. 0 closes at once. Regions do not nest; each has n tokens of its own; with equal
    markers each one opens or closes in turn. A closing marker that has begun by itself is completed, not begun again.

    Markers are ids or texts. A text is matched and written as the tokens that the tokenizer makes of it inside a text,
    in one step each, without waiting for the host: the same text out of other tokens is not seen (``within`` sees it).
    A stage cannot bring back what an earlier one removed: put this one first.

    Source: Muennighoff et al., "s1: Simple test-time scaling", arXiv 2501.19393 (budget forcing).
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    examples: ClassVar[tuple[str, ...]] = (
        "thinking_budget(1024)",
        'thinking_budget(64, "<scratch>", "</scratch>")',
        "thinking_budget(4, open=5, close=6)",
    )

    n: Scalar[int] = Field(ge=0, description="how many tokens a region may have before it is closed")
    open: Marker = Field("<think>", description="what opens a region: a text, or a token's id")
    close: Marker = Field("</think>", description="what closes it")

    def prepare(self, vocab: Vocab) -> _Markers:
        return _Markers(*(_tokens_of(marker, vocab) for marker in (self.open, self.close)))

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        opening, closing = ctx.prepared(self)
        opened = opened_by(
            _ends(ctx.tokens, opening), _ends(ctx.tokens, closing), opening.numel(), same=self.open == self.close
        )
        since = torch.where(opened >= 0, ctx.lengths - 1 - opened, -1)  # [R, 1]: tokens behind the opening marker
        due = (since >= 0) & (since >= self.n)
        begun = _begun(ctx.recent(closing.numel() - 1), closing, since)
        wanted = closing[begun[:, 0]][:, None]  # [R, 1]
        return dist.keep((dist.token_ids() == wanted) | ~due)


def _tokens_of(marker: int | str, vocab: Vocab) -> Tensor:
    if isinstance(marker, str):
        vocab.require_tokenizer("thinking_budget with a text as marker")
    ids = (marker,) if isinstance(marker, int) else inside(marker, vocab) or tuple(vocab.encode(marker))
    if not ids:
        raise StrategyError(f"thinking_budget: the marker {marker!r} has no tokens", code="token")
    resolve([ids], vocab, "thinking_budget")  # for its answer to an id that is not there
    return torch.tensor(ids, dtype=torch.int64, device=vocab.device)


def _ends(tokens: Tensor, sequence: Tensor) -> Tensor:
    """The places at which the sequence (int64 [m]) has just come to its end: bool [R, T]."""
    size = sequence.numel()
    padded = torch.nn.functional.pad(tokens, (size - 1, 0), value=-1)
    return (padded.unfold(1, size, 1) == sequence).all(-1)


def _begun(recent: Tensor, closing: Tensor, since: Tensor) -> Tensor:
    """How many tokens of the closing marker (int64 [m]) stand at the row's end already: int64 [R, 1], less than all.

    recent int64 [R, m - 1]: the row's last tokens, of which those ``since`` the opening (int64 [R, 1]) count.
    """
    size = closing.numel()
    most = torch.zeros_like(since)
    for count in range(1, size):
        there = (recent[:, size - 1 - count :] == closing[:count]).all(-1, keepdim=True) & (since >= count)
        most = torch.where(there, count, most)
    return most


__all__ = ["ThinkingBudget"]
