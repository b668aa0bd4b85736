"""Regions: the stretch behind an opening marker, up to a closing one. What ``within`` and ``budget`` read.

A region is open when ``open`` has come, in prompt or output, and ``close`` has not come since. Regions do not nest: a
second ``open`` inside one changes nothing. With equal markers each one opens or closes in turn.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..core.errors import StrategyError
from ..core.vocab import Vocab

#: a token id, or a text
Marker = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
#: what opens a region, and what closes it
Markers = tuple[int | str, int | str]


def marker_ids(markers: Markers, vocab: Vocab, stage: str) -> tuple[int, int] | None:
    """The markers as token ids where both can be matched as tokens, else None: then they are looked for in the text.

    Ids can be, and whole tokens that the tokenizer never merges with their neighbours (its special and added tokens).
    Raises StrategyError for an id outside the vocabulary.
    """
    outside = [marker for marker in markers if isinstance(marker, int) and not 0 <= marker < vocab.size]
    if outside:
        raise StrategyError(f"{stage}: token id {outside[0]} is outside the vocabulary of {vocab.size}", code="token")
    ids = [marker if isinstance(marker, int) else _whole(marker, vocab) for marker in markers]
    return None if ids[0] is None or ids[1] is None else (ids[0], ids[1])


def _whole(text: str, vocab: Vocab) -> int | None:
    """The id of a text that the tokenizer always keeps as one token of its own, else None."""
    added: dict[str, Any] = {} if vocab.tokenizer is None else vocab.tokenizer.get_added_vocab()
    found = added.get(text)
    return None if found is None else int(found)


def opened_at(tokens: Tensor, ids: tuple[int, int]) -> Tensor:
    """An int64 [R, 1]: the place of the marker that opened the region still open in tokens (int64 [R, T]), else -1."""
    return opened_by(tokens == ids[0], tokens == ids[1], same=ids[0] == ids[1])


def opened_by(opens: Tensor, closes: Tensor, size: int = 1, *, same: bool) -> Tensor:
    """The same from the places (bool [R, T]) at which markers end. An opening one is ``size`` tokens, all behind the
    last closing one; with the ``same`` marker for both each one opens or closes in turn.
    """
    width = opens.shape[1]
    places = torch.arange(width, device=opens.device)
    if same:
        return torch.where(opens.sum(-1, keepdim=True) % 2 == 1, _latest(opens, places), -1)
    since = opens & (places - size + 1 > _latest(closes, places))
    first = torch.where(since, places, width).amin(-1, keepdim=True)
    return torch.where(first < width, first, -1)


def _latest(found: Tensor, places: Tensor) -> Tensor:
    """An int64 [R, 1]: the last place where found (bool [R, T]) holds, -1 for none."""
    return torch.where(found, places, -1).amax(-1, keepdim=True)


def opened_in(text: str, markers: Markers, vocab: Vocab) -> int | None:
    """Where, in characters, the region that is still open in a text begins: behind its marker. None where none is."""
    written = [marker if isinstance(marker, str) else vocab.texts[marker] for marker in markers]
    if not all(written):
        return None
    at, inside = 0, False
    while (found := text.find(written[inside], at)) >= 0:
        at, inside = found + len(written[inside]), not inside
    return at if inside else None


__all__ = ["Marker", "Markers", "marker_ids", "opened_at", "opened_by", "opened_in"]
