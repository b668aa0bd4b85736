"""SynthID-Text: a watermark that, on average over its keys, leaves every token's probability as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab

_MULTIPLIER = 6364136223846793005  # of the linear congruential generator that the published code hashes with

Key = Annotated[int, Field(ge=0, lt=2**63)]


class Synthid(LogitsProcessor):
    """A tournament of as many rounds as there are keys: p' = p (1 + g - sum of p g), round by round.

    g is 0 or 1 for each token, a pseudorandom function of the round's key, the token and the ``ngram - 1`` generated
    tokens before it (zeros where there are none: the prompt does not count). Where that context came before, within the
    last ``history`` steps, nothing changes. A token that loses every round against certain winners is removed. Each
    round looks at every token that is left, so put it behind a truncation. ``detect_synthid`` finds it.

    Source: Dathathri et al., "Scalable watermarking for identifying large language model outputs", Nature 634 (2024);
    hashes, table and rounds are those of the published code and of transformers, which it equals up to rounding: the
    rounds run in float64 here.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"keys": ()}
    examples: ClassVar[tuple[str, ...]] = (
        "synthid([654, 400, 836, 123, 340, 443, 597, 160, 57])",
        "synthid([17, 29, 31], ngram=3, skip_first=true)",
    )

    keys: tuple[Key, ...] = Field(max_length=256, description="the secret: a number for each round of the tournament")
    ngram: int = Field(5, ge=2, le=64, description="how many tokens decide, the one that is drawn among them")
    history: int = Field(1024, ge=0, le=65536, description="how many steps a context is remembered; 0 forgets at once")
    table_seed: int = Field(0, ge=0, lt=2**63, description="the seed of the table of zeros and ones")
    table_size: int = Field(65536, ge=2, le=2**24, description="how long that table is")
    skip_first: bool = Field(False, description="whether the first ngram - 1 tokens are left alone")

    def prepare(self, vocab: Vocab) -> Tensor:
        return sampling_table(self).to(vocab.device)

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if not self.keys:
            return dist
        hashes = contexts_now(self, ctx)  # [R, 1 + history]
        before = hash_on(hashes[:, :1], dist.token_ids())  # [R, C]
        table = ctx.prepared(self)
        probs = dist.weights / dist.weights.sum(-1, keepdim=True)  # float64: rounds multiply rounding
        for key in self.keys:
            wins = g_values(table, before, key)  # [R, C]
            probs = probs * (1 + wins - (wins * probs).sum(-1, keepdim=True)).clamp(min=0.0)
        return dist.with_logits(torch.where(self._plain(hashes, ctx), dist.logits, probs.log().float()))

    def _plain(self, hashes: Tensor, ctx: Context) -> Tensor:
        """A bool [R, 1]: rows that go on as they are."""
        steps = ctx.step - torch.arange(hashes.shape[1], device=ctx.device)  # [R, 1 + history]: the step of each hash
        first = self.ngram - 1 if self.skip_first else 0
        again = ((hashes[:, 1:] == hashes[:, :1]) & (steps[:, 1:] >= first)).any(-1, keepdim=True)
        return again | (ctx.step < first)


def contexts_now(stage: Synthid, ctx: Context) -> Tensor:
    """An int64 [R, 1 + h]: the hash of the next token's context, and those of the steps before it, latest first."""
    width = stage.ngram - 1
    most = min(stage.history, ctx.tokens.shape[1])
    back = torch.arange(1 + most, device=ctx.device)[:, None]  # [1 + h, 1]
    places = ctx.lengths[:, :, None] - back - width + torch.arange(width, device=ctx.device)  # [R, 1 + h, width]
    found = ctx.tokens.gather(1, places.clamp(min=0).flatten(1)).view_as(places)
    return context_hash(torch.where(places >= ctx.starts[:, :, None], found, 0))


def context_hash(contexts: Tensor) -> Tensor:
    """An int64 [...]: the hash of contexts (int64 [..., ngram - 1])."""
    hashed = torch.ones_like(contexts[..., 0])
    for i in range(contexts.shape[-1]):
        hashed = hash_on(hashed, contexts[..., i])
    return hashed


def hash_on(hashed: Tensor, value: Tensor | int) -> Tensor:
    """One more value into a hash; int64 wraps around."""
    return (hashed + value) * _MULTIPLIER + 1


def g_values(table: Tensor, hashes: Tensor, key: int) -> Tensor:
    """0 or 1 for each of hashes (int64 [...]) in the round of this key."""
    return table[hash_on(hashes, key) % len(table)]


def sampling_table(stage: Synthid) -> Tensor:
    """An int64 [table_size] of zeros and ones, drawn on the CPU: the same wherever the model is."""
    generator = torch.Generator().manual_seed(stage.table_seed)
    return torch.randint(0, 2, (stage.table_size,), generator=generator)


def all_g_values(stage: Synthid, tokens: Sequence[int]) -> Tensor:
    """An int64 [n - ngram + 1, rounds]: g of every n-gram of a text of n tokens. What a detector averages."""
    grams = torch.tensor(list(tokens), dtype=torch.int64).unfold(0, stage.ngram, 1)  # [n - ngram + 1, ngram]
    hashes, table = context_hash(grams), sampling_table(stage)
    return torch.stack([g_values(table, hashes, key) for key in stage.keys], -1)


__all__ = ["Synthid", "all_g_values", "context_hash", "contexts_now", "sampling_table"]
