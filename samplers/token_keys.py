"""Keys that name tokens: an id, a text, a sequence of ids, or a pattern over the vocabulary.

A text is taken as it is written: "yes" and " yes" are two keys, since a leading space belongs to the token in most
tokenizers. If one token (or several) of the vocabulary has exactly this text, it names those. If none has, it stands
for the sequence of tokens that the tokenizer makes of it: what a stage does with a sequence it does to its last
token, in rows whose tokens end in the ones before it. The same text reached through other tokens is not covered; a
pattern, or several keys, cover more.

A pattern names every token in whose text it finds a match. Special tokens are named by id or by their own text, never
by a pattern.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import regex
import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.errors import StrategyError
from ..core.expression import Pattern
from ..core.vocab import Vocab

TokenKey = (
    Annotated[int, Field(ge=0)]
    | str
    | Pattern
    | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
)
SCAN_SECONDS = 5.0  # for one pattern over a whole vocabulary


@dataclass(frozen=True)
class TokenSet:
    """What some keys name: single tokens, and sequences of two tokens or more."""

    singles: tuple[int, ...]
    sequences: tuple[tuple[int, ...], ...] = ()

    def mask(self, vocab: Vocab, *, parts: bool = False) -> Tensor:
        """A bool [V]: the single tokens, and with ``parts`` every token of the sequences too."""
        return vocab.mask([*self.singles, *(i for sequence in self.sequences if parts for i in sequence)])


def resolve(keys: Iterable[Any], vocab: Vocab, stage: str) -> TokenSet:
    """What the keys name in this vocabulary. Raises StrategyError for an id outside it or a key that names no token."""
    singles: list[int] = []
    sequences: list[tuple[int, ...]] = []
    for key in keys:
        found = _found(key, vocab, stage)
        outside = [i for i in found if not 0 <= i < vocab.size]
        if outside:
            raise StrategyError(
                f"{stage}: token id {outside[0]} is outside the vocabulary of {vocab.size}", code="token"
            )
        if isinstance(found, tuple) and len(found) > 1:
            sequences.append(found)
        else:
            singles.extend(found)
    return TokenSet(tuple(singles), tuple(sequences))


def single_tokens(keys: Iterable[Any], vocab: Vocab, stage: str) -> Tensor:
    """A bool [V] of the single tokens that the keys name. Raises StrategyError for a key of several tokens."""
    found = resolve(keys, vocab, stage)
    if found.sequences:
        raise StrategyError(
            f"{stage}: names single tokens, and the tokens {list(found.sequences[0])} are several",
            hint="name a token by its id or by its whole text",
            code="token",
        )
    return found.mask(vocab)


def _found(key: Any, vocab: Vocab, stage: str) -> list[int] | tuple[int, ...]:
    """A list of single tokens, or a tuple: one sequence."""
    if isinstance(key, int):
        return [key]
    if isinstance(key, tuple):
        return key
    vocab.require_tokenizer(f"{stage} with a text or a pattern")
    if isinstance(key, Pattern):
        return _matching(key, vocab, stage)
    found = vocab.written(key) or tuple(vocab.encode(key))
    if not found:
        raise StrategyError(f"{stage}: the text {key!r} has no tokens", code="token")
    return found


def _matching(pattern: Pattern, vocab: Vocab, stage: str) -> list[int]:
    compiled, end = regex.compile(pattern.source), time.monotonic() + SCAN_SECONDS
    found = []
    try:
        for i, text in enumerate(vocab.texts):
            if text and i not in vocab.special_ids and compiled.search(text, timeout=max(end - time.monotonic(), 1e-3)):
                found.append(i)
    except TimeoutError:
        raise StrategyError(
            f"{stage}: the pattern r{pattern.source!r} took over {SCAN_SECONDS:g} s on a vocabulary of {vocab.size}",
            hint="write it without nested repetitions",
            code="pattern",
        ) from None
    if not found:
        raise StrategyError(f"{stage}: no token's text matches the pattern r{pattern.source!r}", code="token")
    return found


def inside(text: str, vocab: Vocab) -> tuple[int, ...]:
    """The tokens of a text inside another, where tokenizers put no space before it: those it has after a line break.

    None where the break joins its first token.
    """
    alone, together = vocab.encode("\n"), vocab.encode(f"\n{text}")
    return tuple(together[len(alone) :]) if together[: len(alone)] == alone else ()


@dataclass(frozen=True)
class Endings:
    """Sequences of one length, to be met at the end of a row: those of m + 1 tokens whose first m are there."""

    before: Tensor  # int64 [n, m]
    last: Tensor  # int64 [n]
    amounts: Tensor  # float32 [n]

    def columns(self, dist: Dist, ctx: Context) -> tuple[Tensor, Tensor]:
        """(columns of the last tokens int64 [R, n], whether each is due bool [R, n])."""
        m = self.before.shape[1]
        due = (ctx.recent(m)[:, None, :] == self.before).all(-1) & (ctx.lengths >= m)  # [R, n]
        columns, present = dist.columns_of(self.last.expand(dist.rows, -1))
        return columns, due & present


def endings(sequences: Iterable[tuple[tuple[int, ...], float]], vocab: Vocab) -> list[Endings]:
    """(sequence, amount) pairs grouped by length, on the vocabulary's device."""
    groups: dict[int, list[tuple[tuple[int, ...], float]]] = {}
    for sequence, amount in sequences:
        groups.setdefault(len(sequence), []).append((sequence, amount))
    return [
        Endings(
            torch.tensor([sequence[:-1] for sequence, _ in group], dtype=torch.int64, device=vocab.device),
            torch.tensor([sequence[-1] for sequence, _ in group], dtype=torch.int64, device=vocab.device),
            torch.tensor([amount for _, amount in group], dtype=torch.float32, device=vocab.device),
        )
        for group in groups.values()
    ]


__all__ = ["Endings", "TokenKey", "TokenSet", "endings", "inside", "resolve", "single_tokens"]
