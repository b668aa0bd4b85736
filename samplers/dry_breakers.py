"""Where a repetition ends: the sequence breakers of DRY, as tables over the vocabulary.

A breaker is a token out of a set (its heads), followed by a fixed tail of tokens, mostly none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..core.errors import StrategyError
from ..core.tokens import token_bytes
from ..core.vocab import Vocab
from .token_keys import resolve

DEFAULT_BREAKERS = ("\n", ":", '"', "*")
LLAMACPP_BYTES, LLAMACPP_TAIL = 40, 20  # what llama.cpp cuts a breaker's text and its tail of tokens to


@dataclass(frozen=True)
class Breakers:
    """``single``: bool [V], tokens that break by themselves. ``longer``: (heads bool [V], tail int64 [m]), m >= 1."""

    single: Tensor
    longer: tuple[tuple[Tensor, Tensor], ...] = ()

    @cached_property
    def any(self) -> bool:
        """Whether there is a breaker at all. Waits for the device, once."""
        return bool(self.longer) or bool(self.single.any())

    def room(self, tokens: Tensor, lengths: Tensor, low: Tensor, *, by_head: bool) -> Tensor:
        """How many tokens stand behind the last breaker from the place ``low`` on; all of them where there is none.

        tokens int64 [R, T], lengths and low int64 [R, 1]. Of several breakers the one that ends last counts, with
        ``by_head`` the one that begins last, and of those that begin together the longest. Returns int64 [R, 1].
        """
        places = torch.arange(tokens.shape[1], device=tokens.device)
        base = 1 + max((tail.numel() for _, tail in self.longer), default=0)
        latest = torch.full_like(lengths, -1)
        for heads, tail in ((self.single, self.single.new_empty(0, dtype=torch.int64)), *self.longer):
            found = self.at(heads, tokens) & (places >= low)
            size = tail.numel()
            if size:
                ahead = functional.pad(tokens, (0, size), value=-1).unfold(1, size + 1, 1)  # [R, T, m + 1]
                found = found & (ahead[..., 1:] == tail).all(-1)
            rank = places * base + size if by_head else places + size
            latest = torch.maximum(latest, torch.where(found, rank, -1).amax(-1, keepdim=True))
        end = latest.div(base, rounding_mode="floor") + latest % base if by_head else latest
        return torch.where(latest < 0, lengths, lengths - 1 - end)

    @staticmethod
    def at(table: Tensor, tokens: Tensor) -> Tensor:
        """A bool table [V] read at tokens; False where there is no token (-1)."""
        return table[tokens.clamp(0, table.shape[0] - 1)] & (tokens >= 0)


def breakers(keys: tuple[Any, ...], vocab: Vocab, dialect: str) -> Breakers:
    """What the keys name. The default ones are left out where there is no tokenizer or it cannot write them."""
    if keys == DEFAULT_BREAKERS:
        keys = () if vocab.tokenizer is None else tuple(key for key in keys if _known(key, vocab, dialect))
    sequences = [sequence for key in keys for sequence in _sequences(key, vocab, dialect)]
    heads: dict[tuple[int, ...], set[int]] = {(): set()}
    for head, *tail in sequences:
        heads.setdefault(tuple(tail), set()).add(head)
    longer = tuple(
        (vocab.mask(found), torch.tensor(tail, dtype=torch.int64, device=vocab.device))
        for tail, found in heads.items()
        if tail
    )
    return Breakers(vocab.mask(heads[()]), longer)


def _known(key: Any, vocab: Vocab, dialect: str) -> bool:
    try:
        return bool(_sequences(key, vocab, dialect))
    except StrategyError:
        return False


def _sequences(key: Any, vocab: Vocab, dialect: str) -> list[tuple[int, ...]]:
    if isinstance(key, str) and key and dialect == "llamacpp":
        return list(dict.fromkeys(_overlapping(key, vocab)))
    if isinstance(key, str) and key and dialect == "textgen":
        key = vocab.encode(f"a{key}")[-1]  # behind an a, so that it is split as it is at a text's end
    found = resolve([key], vocab, "dry")
    if dialect == "textgen":
        return [(i,) for i in (*found.singles, *(sequence[-1] for sequence in found.sequences))]
    return [*((i,) for i in found.singles), *found.sequences]


def _overlapping(text: str, vocab: Vocab) -> Iterable[tuple[int, ...]]:
    """Tokens that hold the text, and tokens whose end begins it, each with the tokens of the rest."""
    wanted = text.encode("utf-8")[:LLAMACPP_BYTES]
    vocab.require_tokenizer("dry with a text")
    for token, data in enumerate(token_bytes(vocab.tokenizer)[: vocab.size]):
        if wanted in data:
            yield (token,)
            continue
        for size in range(1, min(len(wanted), len(data) + 1)):
            if data.endswith(wanted[:size]):
                rest = vocab.encode(wanted[size:].decode("utf-8", "replace"))
                yield (token, *rest[:LLAMACPP_TAIL])


__all__ = ["DEFAULT_BREAKERS", "Breakers", "breakers"]
