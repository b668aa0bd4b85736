"""What logitmill's choosing is measured beside: transformers' processors, and other engines' formulas as they write
them where transformers has no such stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
    WatermarkLogitsProcessor,
)

#: (tokens int64 [R, T], scores float32 [R, V]) -> scores
Process = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Peer:
    """``make`` gives its processors in order; ``history``: whether they look at tokens."""

    name: str
    make: Callable[[], Sequence[Process]]
    history: bool = False


def presence_and_frequency(tokens: Tensor, scores: Tensor) -> Tensor:
    """vLLM's (vllm/model_executor/layers/utils.py): counts by token over the vocabulary, then two dense passes."""
    rows, size = scores.shape
    counts = torch.zeros(rows, size + 1, dtype=torch.long).scatter_add_(1, tokens, torch.ones_like(tokens))[:, :size]
    scores = scores - 0.2 * counts
    return scores - 0.3 * (counts > 0)


def sigma(tokens: Tensor, scores: Tensor) -> Tensor:
    """Top-n-sigma as its authors and text-generation-webui write it."""
    threshold = scores.amax(-1, keepdim=True) - 1.0 * scores.std(-1, keepdim=True)
    return scores.masked_fill(scores < threshold, float("-inf"))


def dry(tokens: Tensor, scores: Tensor) -> Tensor:
    """text-generation-webui's DRY (modules/sampler_hijack.py), without breakers: row by row, match by match."""
    scores = scores.clone()
    for own, row in zip(tokens.tolist(), scores, strict=True):
        last, lengths = own[-1], dict[int, int]()
        for place in (tokens.new_tensor(own[:-1]) == last).nonzero()[:, 0].tolist():
            following, length = own[place + 1], 1
            while length < 50 and place >= length and own[place - length] == own[-1 - length]:
                length += 1
            lengths[following] = max(length, lengths.get(following, 0))
        for token, length in lengths.items():
            if length >= 2:
                row[token] -= 0.8 * 1.75 ** (length - 2)
    return scores


def watermark(tokens: Tensor, scores: Tensor) -> Tensor:
    """transformers' green lists of the last token."""
    return _watermark(scores.shape[-1])(tokens, scores)


@lru_cache
def _watermark(size: int) -> WatermarkLogitsProcessor:
    return WatermarkLogitsProcessor(size, "cpu", greenlist_ratio=0.25, bias=2.0)


PEERS: dict[str, Peer] = {
    "tail": Peer("transformers", lambda: [TemperatureLogitsWarper(0.8), TopKLogitsWarper(50), TopPLogitsWarper(0.95)]),
    "top_p": Peer("transformers", lambda: [TopPLogitsWarper(0.9)]),
    "min_p": Peer("transformers", lambda: [MinPLogitsWarper(0.05)]),
    "typical": Peer("transformers", lambda: [TypicalLogitsWarper(0.9)]),
    "top_n_sigma": Peer("the authors' formula and torch.multinomial", lambda: [sigma]),
    "epsilon": Peer("transformers", lambda: [EpsilonLogitsWarper(0.0005)]),
    "eta": Peer("transformers", lambda: [EtaLogitsWarper(0.002)]),
    "repetition": Peer("transformers", lambda: [RepetitionPenaltyLogitsProcessor(1.1)], history=True),
    "penalties": Peer(
        "transformers' repetition, vLLM's presence and frequency, text-generation-webui's DRY, and torch.multinomial",
        lambda: [RepetitionPenaltyLogitsProcessor(1.1), presence_and_frequency, dry],
        history=True,
    ),
    "watermark": Peer("transformers", lambda: [watermark], history=True),
    "sample": Peer("softmax and torch.multinomial", list),
    "gumbel": Peer("softmax and torch.multinomial", list),
}
