"""Which tokens a pipeline never lets through, whatever the row holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch

from ...context import Context
from ...dist import Dist
from ...errors import LogitmillError
from ...expression import Expression, Pattern
from ...history import History
from ...rng import Noise, RowNoise
from ...scalar import Ramp
from ...stage import LogitsProcessor, Search, Stage
from ...strategy import Step
from ...tokens import token_bytes
from ...vocab import Vocab
from .reading import Pipe
from .spelling import Spelling


class Removal:
    """What the stages that every row of a pipeline goes through remove at every step.

    Without a vocabulary that is what ``ban`` and ``allow`` say in so many words.
    """

    def __init__(self, pipe: Pipe, vocab: Vocab | None) -> None:
        steps = [*pipe.outer, *pipe.strategy.pipeline]
        last = steps[-1].stage if steps else None
        if isinstance(last, Search) and len(last.children()) == 1:
            steps += last.children()[0].pipeline
        self.vocab = vocab
        self._steps = [step for step in steps if isinstance(step.stage, LogitsProcessor)]

    def of_ids(self, ids: Iterable[int]) -> Step | None:
        """The stage by which the last of these tokens is gone, None where one may come."""
        left, last = set(ids), None
        for step in self._steps:
            gone = {i for i in left if self._removes(step, i)}
            left, last = left - gone, step if gone else last
            if not left:
                return last
        return None

    def of_ends(self) -> Step | None:
        """As ``of_ids``, of the model's own end-of-sequence tokens."""
        if self.vocab is not None:
            return self.of_ids(self.vocab.eos_ids) if self.vocab.eos_ids else None
        # a pattern never names a special token
        return next((s for s in self._steps if s.stage.stage_name == "allow" and _patterns(_keys(s.stage))), None)

    def of_text(self, text: str) -> Step | None:
        """The stage that bans just this text."""
        return next((s for s in self._steps if s.stage.stage_name == "ban" and text in _keys(s.stage)), None)

    def _removes(self, step: Step, token: int) -> bool:
        if self.vocab is not None:
            gone = self._gone.get(id(step))
            return gone is not None and (token >= len(gone) or gone[token])
        keys = _keys(step.stage)
        if step.stage.stage_name == "ban":
            return token in keys
        return step.stage.stage_name == "allow" and all(isinstance(key, int) for key in keys) and token not in keys

    @cached_property
    def _gone(self) -> dict[int, list[bool]]:
        """For each stage that always removes the same tokens, whether it does, by id."""
        assert self.vocab is not None
        found = {id(step): _constant(step.stage, self.vocab) for step in self._steps}
        return {key: gone for key, gone in found.items() if gone is not None}

    @cached_property
    def left(self) -> list[int]:
        """The tokens that may come."""
        assert self.vocab is not None
        return [i for i in range(self.vocab.size) if not any(gone[i] for gone in self._gone.values())]

    @cached_property
    def visible(self) -> Spelling:
        """What those can write in the text that comes out, which shows no special token."""
        assert self.vocab is not None
        return self._spelling([i for i in self.left if i not in self.vocab.special_ids])

    @cached_property
    def whole(self) -> Spelling:
        """What they can write, special tokens included."""
        return self._spelling(self.left)

    def _spelling(self, ids: Sequence[int]) -> Spelling:
        assert self.vocab is not None
        table = token_bytes(self.vocab.tokenizer)
        return Spelling(table[i] for i in ids if i < len(table))


def _keys(stage: Stage) -> tuple[Any, ...]:
    return tuple(getattr(stage, "tokens", ()))


def _patterns(keys: Sequence[Any]) -> bool:
    return bool(keys) and all(isinstance(key, Pattern) for key in keys)


def _constant(stage: Stage, vocab: Vocab) -> list[bool] | None:
    """Which tokens a stage removes, where that is the same at every step; None for any other stage."""
    if not isinstance(stage, LogitsProcessor) or not (stage.masks_only and stage.pointwise):
        return None
    if stage.stochastic or "history" in stage.needs or type(stage).accept is not LogitsProcessor.accept:
        return None
    if any(isinstance(getattr(stage, name), Expression | Ramp) for name in stage.scalars):
        return None
    history = History(vocab.size)
    history.extend([[]], [[]])
    dist = Dist(torch.zeros(1, vocab.size))
    ctx = Context(history, vocab, dist, Noise([RowNoise(0)], [0], history.device))
    try:
        after = stage.apply(dist, stage.init(ctx), ctx).dense()
    except LogitmillError:  # which is said when it is run
        return None
    gone: list[bool] = (~after.alive[0]).tolist()
    return gone


__all__ = ["Removal"]
