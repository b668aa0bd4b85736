"""Warnings: what is legal and probably not what was meant. Each has a code by which it can be silenced."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Span
from ..strategy import Strategy
from ..vocab import Vocab
from .checks.cancelled import cancelled
from .checks.codes import CODES
from .checks.conditions import conditions
from .checks.numbers import numbers
from .checks.order import order
from .checks.reading import EOS_TEXTS, Reading
from .checks.stops import stops
from .checks.warning import StrategyWarning

_CHECKS = (order, cancelled, numbers, conditions, stops)


def warnings(
    strategy: Strategy, ignore: Sequence[str] = (), *, eos: Sequence[str] = (), vocab: Vocab | None = None
) -> list[StrategyWarning]:
    """All warnings but those whose code is in ``ignore``, in the order of the text.

    ``vocab``: what the strategy will run on, for what only a tokenizer can tell. ``eos``: the texts of the
    end-of-sequence tokens, where they are not the vocabulary's; without either the well-known ones are looked for.
    Raises ValueError for a code that is none, and StrategyError for a strategy whose patches do not fit it.
    """
    unknown = sorted(set(ignore) - CODES.keys())
    if unknown:
        raise ValueError(f"no warning has the code {unknown[0]!r}; there are {', '.join(CODES)}")
    texts = frozenset(eos) or frozenset(() if vocab is None else (vocab.texts[i] for i in vocab.eos_ids))
    reading = Reading(strategy, vocab, texts or EOS_TEXTS)
    found = [warning for check in _CHECKS for warning in check(reading)]
    found.sort(key=lambda item: item.where.start if isinstance(item.where, Span) else 0)
    return [item for item in found if item.code not in ignore]


__all__ = ["CODES", "StrategyWarning", "warnings"]
