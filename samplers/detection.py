"""Detectors: how sure one can be that a text was made under a watermark. They need its stage, and no model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from ..core.errors import RequestError
from ..core.stage import Stage
from .synthid import Synthid, all_g_values, context_hash
from .watermark import GreenLists, Watermark, green

_S = TypeVar("_S", bound=Stage)


@dataclass(frozen=True)
class Detection:
    """What a detector found.

    ``scored``: places of the text that say something; ``found``: the share of them that is green, or the (weighted)
    mean of g; ``expected``: what a text without this watermark has on average. ``z``: by how many standard deviations
    the one is above the other; ``p_value``: how likely a text without it would reach as much.
    """

    stage: str
    scored: int
    found: float
    expected: float
    z: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return dict(vars(self))


def detect_watermark(
    tokens: Sequence[int], stage: Watermark | None = None, *, vocab_size: int | None = None, repeats: bool = False
) -> Detection:
    """Count the green tokens of a text, given as token ids without its prompt.

    ``stage``: the watermark as it was written. ``vocab_size``: the number of the model's logits, which the hf dialect
    needs. A token in the same context counts once unless ``repeats``: only then are places independent, as the p-value
    (an exact binomial tail) takes them to be. Raises RequestError for a text that is too short.

    Source: the z-score of Kirchenbauer et al., arXiv 2301.10226.
    """
    stage = _of(Watermark, Watermark() if stage is None else stage)
    ids, width = _ids(tokens, vocab_size), stage.context
    own = stage.scheme == "selfhash"  # there the last token of the context is the candidate itself
    size = width if own else width + 1
    grams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    if not repeats:
        grams = list(dict.fromkeys(grams))
    if not grams:
        raise RequestError(f"a text of {len(ids)} tokens has no place to look at: {size} tokens are the least")
    if stage.dialect == "hf":
        lists = GreenLists(stage, _size(vocab_size))
        hits = sum(bool(lists.of(list(gram if own else gram[:-1]))[gram[-1]]) for gram in grams)
    else:
        table = torch.tensor(grams, dtype=torch.int64)[None]  # [1, n, width + 1]
        hits = int(green(stage, table[..., :-1], table[..., -1]).sum())
    count, ratio = len(grams), stage.ratio
    z = (hits - ratio * count) / math.sqrt(count * ratio * (1 - ratio))
    return Detection("watermark", count, hits / count, ratio, z, _binomial_tail(hits, count, ratio))


def detect_synthid(
    tokens: Sequence[int], stage: Synthid, *, method: Literal["mean", "weighted"] = "weighted", eos: Sequence[int] = ()
) -> Detection:
    """The mean of g over a text, given as token ids without its prompt.

    Repeated contexts and everything from the first of ``eos`` on are left out, as the published detectors do.
    "weighted": earlier rounds count more, in equal steps from 10 down to 1, since they say more. Without the watermark
    every g is a fair coin, which gives the z-score and its normal p-value. Raises RequestError for a text without a
    place to look at.

    Source: the mean and weighted-mean scores of Dathathri et al., Nature 634 (2024), and its published code.
    """
    if not _of(Synthid, stage).keys:
        raise RequestError("synthid without keys leaves no watermark to find")
    ids = list(itertools.takewhile(lambda token: token not in eos, _ids(tokens)))
    places = _unrepeated(stage, ids)
    if not places:
        raise RequestError(f"a text of {len(ids)} tokens has no place to look at: {stage.ngram} tokens are the least")
    rounds = len(stage.keys)
    weights = torch.linspace(10, 1, rounds) if method == "weighted" else torch.ones(rounds)
    weights = weights.double() / weights.double().sum()
    found = float((all_g_values(stage, ids)[places].double() @ weights).mean())
    z = (found - 0.5) / math.sqrt(0.25 * float(weights.square().sum()) / len(places))
    return Detection("synthid", len(places), found, 0.5, z, 0.5 * math.erfc(z / math.sqrt(2)))


#: registered name -> its detector: (tokens, the stage, the model's vocabulary, its end-of-sequence tokens)
DETECTORS = {
    "watermark": lambda tokens, stage, size, eos: detect_watermark(tokens, stage, vocab_size=size),
    "synthid": lambda tokens, stage, size, eos: detect_synthid(_ids(tokens, size), stage, eos=eos),
}


def detect(tokens: Sequence[int], stage: Stage, *, vocab_size: int | None = None, eos: Sequence[int] = ()) -> Detection:
    """Look for the watermark that ``stage`` leaves. Raises RequestError for a stage that leaves none."""
    if stage.stage_name not in DETECTORS:
        raise RequestError(f"{stage.stage_name!r} leaves no watermark: there are {', '.join(DETECTORS)}")
    return DETECTORS[stage.stage_name](tokens, stage, vocab_size, eos)


def _of(kind: type[_S], stage: Any) -> _S:
    if not isinstance(stage, kind):
        raise RequestError(f"a {kind.stage_name} stage is wanted, as it was written in the strategy, got {stage!r}")
    return stage


def _ids(tokens: Any, vocab_size: int | None = None) -> list[int]:
    """Token ids as a list. Raises RequestError for what is none, or lies outside the vocabulary where it is known."""
    held = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    if not isinstance(held, list | tuple):
        raise RequestError(f"a text is given as token ids, one list of them, got {type(tokens).__name__}")
    most = 2**31 if vocab_size is None else vocab_size
    for token in held:
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise RequestError(f"a text is given as token ids, one list of them, got {token!r} in it")
        if token >= most:
            raise RequestError(f"token id {token} is outside the vocabulary" + (f" of {most}" if vocab_size else ""))
    return list(held)


def _size(vocab_size: int | None) -> int:
    if vocab_size is None:
        raise RequestError(
            "green lists of the hf dialect depend on the size of the vocabulary: pass vocab_size=, the number of logits"
        )
    return vocab_size


def _unrepeated(stage: Synthid, ids: Sequence[int]) -> list[int]:
    """The n-grams, by number, whose context was not there in the ``history`` steps before."""
    width = stage.ngram - 1
    if len(ids) < stage.ngram:
        return []
    hashes = context_hash(torch.tensor(list(ids), dtype=torch.int64)[:-1].unfold(0, width, 1)).tolist()
    latest: dict[int, int] = {}
    fresh = []
    for i, hashed in enumerate(hashes):
        if i - latest.get(hashed, -(10**9)) > stage.history:
            fresh.append(i)
        latest[hashed] = i
    return fresh


def _binomial_tail(hits: int, count: int, ratio: float) -> float:
    """P(X >= hits) of count trials."""
    if hits <= 0:
        return 1.0
    log, log1 = math.log(ratio), math.log1p(-ratio)
    whole = math.lgamma(count + 1)

    def term(k: int) -> float:
        return math.exp(whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log + (count - k) * log1)

    return min(1.0, math.fsum(term(k) for k in range(hits, count + 1)))


__all__ = ["DETECTORS", "Detection", "detect", "detect_synthid", "detect_watermark"]
