"""Tokens that have to come at a place."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, resolve


class _Places(NamedTuple):
    """What may come at each of n places: one token, or any token of a set."""

    ids: Tensor  # int64 [n], -1 where it is a set
    sets: Tensor  # bool [m, V]
    of: Tensor  # int64 [n]: which set, where it is one


class Force(LogitsProcessor):
    """Let only the first named token come at the place ``at``, only the second at the next one, and so on.

    ``at`` counts generated tokens, or with ``over=all`` the prompt's too: there it is the index in the whole sequence.
    A text of several tokens and a sequence of ids take a place for each token; a pattern, and a text that several
    tokens have, leave the choice among those tokens to their logits. Nothing happens at other places.

    A stage cannot bring back what an earlier one removed: where the named token is gone, the best of those left stays
    and the trace says so. So forcing belongs first in a pipeline.

    Source: transformers' forced_bos_token_id (over=all, at=1) and forced_eos_token_id (over=all, at=max_length - 1),
    which it equals for one id; several ids there are made equally likely.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    variadic: ClassVar[str | None] = "tokens"
    identity_when: ClassVar[dict[str, Any]] = {"tokens": ()}
    examples: ClassVar[tuple[str, ...]] = (
        'force("Answer:")',
        'force("<|im_end|>", at=255)',
        "force(5, [6, 7], at=2)",
        'force(5, at=1, over="all")',
    )

    tokens: tuple[TokenKey, ...] = Field(description='what comes, one after another, as in force("Yes", r"^[,.]$")')
    at: Scalar[int] = Field(0, ge=0, description="the place of the first of them; 0 is the first")
    over: Literal["output", "all"] = Field("output", description="output: generated tokens count; all: the prompt too")

    def prepare(self, vocab: Vocab) -> _Places:
        ids: list[int] = []
        of: list[int] = []
        sets: list[Tensor] = []
        for key in self.tokens:
            found = resolve([key], vocab, "force")
            several = len(found.singles) > 1
            if several:
                sets.append(vocab.mask(found.singles))
            named = [-1] if several else [*found.singles, *(i for sequence in found.sequences for i in sequence)]
            ids += named
            of += [max(len(sets) - 1, 0)] * len(named)
        table = torch.stack(sets) if sets else torch.zeros(0, vocab.size, dtype=torch.bool, device=vocab.device)
        numbers = torch.tensor([ids, of], dtype=torch.int64, device=vocab.device)
        return _Places(numbers[0], table, numbers[1])

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        places: _Places = ctx.prepared(self)
        count = places.ids.numel()
        if count == 0:
            return dist
        place = (ctx.lengths if self.over == "all" else ctx.step) - self.at  # [R, 1]
        index = place.clamp(0, count - 1)[:, 0]
        wanted = places.ids[index][:, None]  # [R, 1]
        named = dist.token_ids() == wanted
        if places.sets.shape[0]:
            named = named | (dist.lookup(places.sets[places.of[index]]) & (wanted < 0))
        return dist.keep(named | (place < 0) | (place >= count))


__all__ = ["Force"]
