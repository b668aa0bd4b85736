"""The green-list watermark: a secret half of the vocabulary, chosen anew at each place, is made more likely."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.rng import philox, seed_words, units
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab

TABLE = 1_000_003  # of transformers' selfhash
CANDIDATES = 40  # how many of the best tokens transformers' selfhash asks
_LARGEST = torch.finfo(torch.float32).max


class Watermark(LogitsProcessor):
    """Add ``bias`` to the logits of the tokens that are green at this place: l' = l + bias.

    Which are green is a secret: a pseudorandom function of the key and the last ``context`` tokens (prompt included)
    says it for each token by itself, with probability ``ratio``. ``detect_watermark`` and ``logitmill detect`` count
    the green tokens of a text. A row with fewer tokens than ``context`` is left as it is; bias = 0 is off. Every token
    that is left is hashed, so behind a truncation it costs least.

    Source: Kirchenbauer et al., arXiv 2301.10226 and 2306.04634 (wider contexts, selfhash).
    Dialects: hf draws transformers' own green lists, exactly int(ratio * V) tokens each, as transformers does on a CPU,
    so that its WatermarkDetector finds them; each step waits for the host. Its scheme "lefthash" looks at the last
    token alone; "selfhash" asks, of the 40 best tokens, which are green in the context that they themselves end, and
    sees ties in the order of their ids.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"bias": 0.0}
    examples: ClassVar[tuple[str, ...]] = (
        "watermark",
        "watermark(0.5, 1.5, key=20260, context=2)",
        'watermark(scheme="selfhash", dialect="hf")',
    )

    ratio: float = Field(0.25, gt=0, lt=1, description="the share of the vocabulary that is green")
    bias: Scalar = Field(2.0, description="what is added to a green token's logit")
    key: int = Field(15485863, ge=0, lt=2**63, description="the secret; whoever knows it can find the watermark")
    context: int = Field(1, ge=1, le=64, description="how many tokens before it decide what is green")
    scheme: Literal["lefthash", "selfhash"] = Field("lefthash", description="hf: how a context becomes a green list")
    dialect: Literal["logitmill", "hf"] = Field("logitmill", description="hf: transformers' green lists")

    @model_validator(mode="after")
    def _scheme_is_of_hf(self) -> Self:
        if self.dialect != "hf" and self.scheme != "lefthash":
            raise ValueError('scheme="selfhash" is of the hf dialect: add dialect="hf", or leave the scheme out')
        return self

    @property
    def reads_host(self) -> bool:
        return self.dialect == "hf"

    def prepare(self, vocab: Vocab) -> GreenLists | None:
        return GreenLists(self, vocab.size) if self.dialect == "hf" else None

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect == "hf":
            greens = torch.stack([self._listed(dist, ctx, row) for row in range(dist.rows)])  # [R, C]
        else:
            greens = green(self, ctx.recent(self.context)[:, None, :], dist.token_ids())
        greens = greens & (ctx.lengths >= self.context)
        return dist.with_logits((dist.logits + torch.where(greens, self.bias, 0.0)).clamp(max=_LARGEST))

    def _listed(self, dist: Dist, ctx: Context, row: int) -> Tensor:
        """A bool [C]: one row's green tokens, by transformers' lists."""
        lists: GreenLists = ctx.prepared(self)
        ids, length = dist.token_ids()[row], int(ctx.lengths[row])
        tokens = ctx.tokens[row, max(0, length - self.context) : length].tolist()
        if length < self.context:
            return torch.zeros_like(ids, dtype=torch.bool)
        if self.scheme == "lefthash":
            return lists.of(tokens).to(ids.device)[ids]
        best = ids[dist.order[row, :CANDIDATES]].tolist()
        chosen = [token for token in best if lists.of([*tokens, token][-self.context :])[token]]
        return torch.isin(ids, torch.tensor(chosen, dtype=torch.int64, device=ids.device))


def green(stage: Watermark, contexts: Tensor, tokens: Tensor) -> Tensor:
    """A bool [R, n]: whether each token (int64 [R, n]) is green behind its context (int64 [R, n or 1, context])."""
    words = seed_words([stage.key])[0].to(tokens.device)
    zero = torch.zeros_like(contexts[..., 0])
    low, high = zero, zero
    for i in range(contexts.shape[-1]):  # the context, a token at a time, into two words of the counter
        low, high, _, _ = philox((contexts[..., i] + 1, low, high, zero + i), (words[0], words[1]))
    return units((tokens, low, high, zero + 0xFFFFFFFF), (words[0], words[1])) < stage.ratio


class GreenLists:
    """Transformers' green lists: the head of a permutation of the vocabulary, seeded by key and context."""

    def __init__(self, stage: Watermark, size: int) -> None:
        self.stage, self.size = stage, size
        self.generator = torch.Generator()
        self.of_seed = functools.lru_cache(maxsize=512)(self._of_seed)

    @functools.cached_property
    def table(self) -> list[int]:
        """Selfhash's own permutation."""
        self.generator.manual_seed(self.stage.key)
        drawn: list[int] = torch.randperm(TABLE, generator=self.generator).tolist()
        return drawn

    def of(self, context: list[int]) -> Tensor:
        """A bool [V]: what is green behind the last tokens of a row (with selfhash the candidate is the last one)."""
        if self.stage.scheme == "lefthash":
            return self.of_seed(self.stage.key * context[-1])
        last = self.table[context[-1] % TABLE] + 1
        products = (_wrapped(self.stage.key * (self.table[token % TABLE] + 1) * last) for token in context)
        return self.of_seed(min(products))

    def _of_seed(self, seed: int) -> Tensor:
        self.generator.manual_seed(seed % (2**64 - 1))
        order = torch.randperm(self.size, generator=self.generator)
        return torch.zeros(self.size, dtype=torch.bool).index_fill_(0, order[: int(self.size * self.stage.ratio)], True)


def _wrapped(value: int) -> int:
    """A product as int64 holds it."""
    return (value + 2**63) % 2**64 - 2**63


__all__ = ["GreenLists", "Watermark", "green"]
