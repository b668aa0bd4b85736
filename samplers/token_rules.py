"""Rules about named tokens: bias, ban, allow. See token_keys for how tokens are named."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import Endings, TokenKey, endings, resolve

_LARGEST = torch.finfo(torch.float32).max

Amount = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]  # as float32 holds them


class Rules(NamedTuple):
    """What a stage prepares: a table by token id, and sequences by length."""

    table: Tensor  # [V]
    endings: list[Endings]


def banned(dist: Dist, ctx: Context, rules: Rules) -> Tensor:
    """Which of dist's tokens are in the table (bool [V]) or would complete a sequence. Returns bool [R, C]."""
    found = dist.lookup(rules.table)
    for group in rules.endings:
        columns, due = group.columns(dist, ctx)
        hits = torch.zeros(dist.rows, dist.columns, dtype=torch.int32, device=dist.device)
        found = found | (hits.scatter_add_(-1, columns, due.int()) > 0)
    return found


class Bias(LogitsProcessor):
    """Add to the logits of named tokens: l' = l + b.

    Keys are token ids, texts, sequences of ids and patterns; amounts of keys that name the same token add up. A text
    of several tokens (and a sequence) adds to its last token where the ones before it are already there, prompt
    included. Removed tokens stay removed.

    Source: OpenAI's logit_bias; transformers' sequence_bias, which it equals.
    """

    pointwise: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"amounts": ()}
    examples: ClassVar[tuple[str, ...]] = ('bias([" however": -2.0])', "bias([5: -2.0, [6, 7]: 1.5])")

    amounts: tuple[tuple[TokenKey, Amount], ...] = Field(
        description='token: amount pairs, as in bias([" however": -2.0, 128009: -5])'
    )

    def prepare(self, vocab: Vocab) -> Rules:
        table = torch.zeros(vocab.size)
        sequences: list[tuple[tuple[int, ...], float]] = []
        for key, amount in self.amounts:
            found = resolve([key], vocab, "bias")
            if found.singles:
                table[torch.tensor(found.singles)] += amount
            sequences.extend((sequence, amount) for sequence in found.sequences)
        return Rules(table.to(vocab.device), endings(sequences, vocab))

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        rules: Rules = ctx.prepared(self)
        bias = dist.lookup(rules.table)
        for group in rules.endings:
            columns, due = group.columns(dist, ctx)
            amounts = torch.where(due, group.amounts, 0.0)
            bias = bias.expand(dist.rows, -1).scatter_add(-1, columns, amounts)
        return dist.with_logits((dist.logits + bias).clamp(max=_LARGEST))


class Ban(LogitsProcessor):
    """Remove named tokens.

    Keys are token ids, texts, sequences of ids and patterns. A text of several tokens (and a sequence) loses its last
    token where the ones before it are already there, prompt included. If nothing else were left, the best token
    stays.

    Source: transformers' bad_words_ids and suppress_tokens, which it equals.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    variadic: ClassVar[str | None] = "tokens"
    identity_when: ClassVar[dict[str, Any]] = {"tokens": ()}
    examples: ClassVar[tuple[str, ...]] = ('ban(" however", r"[0-9]")', "ban(5, [6, 7])")

    tokens: tuple[TokenKey, ...] = Field(description='what never comes, as in ban(5, " however", r"[A-Za-z]")')

    def prepare(self, vocab: Vocab) -> Rules:
        found = resolve(self.tokens, vocab, "ban")
        return Rules(found.mask(vocab), endings([(sequence, 1.0) for sequence in found.sequences], vocab))

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.keep(~banned(dist, ctx, ctx.prepared(self)))


class Allow(LogitsProcessor):
    """Remove every token that is not named.

    Keys are token ids, texts, sequences of ids and patterns; of a text of several tokens (and of a sequence) every
    token is allowed. To let a row end, allow its end-of-sequence token too: a pattern never names special tokens. If
    none of them is left, the best token of those that came stays.

    Source: vLLM's allowed_token_ids.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    variadic: ClassVar[str | None] = "tokens"
    examples: ClassVar[tuple[str, ...]] = ('allow(r"^[0-9]+$", "<|im_end|>")', "allow(5, 6, 7)")

    tokens: tuple[TokenKey, ...] = Field(
        min_length=1, description='all that may come, as in allow(r"[0-9]", "<|im_end|>")'
    )

    def prepare(self, vocab: Vocab) -> Tensor:
        return resolve(self.tokens, vocab, "allow").mask(vocab, parts=True)

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.keep(dist.lookup(ctx.prepared(self)))


__all__ = ["Allow", "Ban", "Bias", "Rules", "banned"]
