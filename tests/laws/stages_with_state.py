"""Stages with a state, for test_states.py: three that keep the laws of states, and five that each break some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from logitmill import HostState, LogitsProcessor, Sampler
from logitmill.core.context import Context
from logitmill.core.dist import Dist


class Warmth(NamedTuple):
    heat: Tensor  # float32 [R, 1]


class Warming(LogitsProcessor, name="test.warming"):
    """A temperature that moves with each token's probability: a good stage, of a third party."""

    def init(self, ctx: Context) -> Any:
        return Warmth(torch.ones(ctx.rows, 1))

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.with_logits(dist.logits / state.heat)

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Context) -> Any:
        return Warmth(0.8 * state.heat + 0.8 * dist.logprob_of(tokens).exp() + 0.05 * (ctx.given.max_logit > 2))


class Tally:
    """A host object: the tokens of one row that it has seen, last first in ``recent``."""

    def __init__(self, seen: Sequence[int] = ()) -> None:
        self.seen = list(seen)

    def clone(self) -> Tally:
        return type(self)(self.seen)

    def rollback(self, tokens: int) -> None:
        del self.seen[len(self.seen) - tokens :]


class Matching(LogitsProcessor, name="test.matching"):
    """Bans the last three tokens it saw, remembered by a host object a row that moves in place."""

    def init(self, ctx: Context) -> Any:
        return HostState(self.matcher() for _ in range(ctx.rows))

    def matcher(self) -> Tally:
        return Tally()

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        banned = torch.zeros(dist.rows, dist.vocab_size, dtype=torch.bool)
        for row, tally in enumerate(state):
            banned[row, tally.seen[-3:]] = True
        return dist.keep(~dist.lookup(banned))

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Context) -> Any:
        for tally, (token,) in zip(state, tokens.tolist(), strict=True):
            tally.seen.append(token)
        return state


class Drifting(Sampler, name="test.drifting"):
    """A sampler whose law drops the token it drew last."""

    def init(self, ctx: Context) -> Any:
        return Warmth(torch.full((ctx.rows, 1), -1.0))

    def law(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.keep(dist.token_ids() != state.heat)

    def accept(self, state: Any, tokens: Tensor, law: Dist, ctx: Context) -> Any:
        return Warmth(tokens.float())


# -- wrong ones --------------------------------------------------------------------------------------------------------


class MovesInApply(Warming, name="test.moves_in_apply"):
    """Moves its state when it is asked, not when it is told."""

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        state.heat.mul_(1.1)
        return super().apply(dist, state, ctx)


class ReadsRowZero(Warming, name="test.reads_row_zero"):
    """Looks at the first row's state for all of them."""

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.with_logits(dist.logits / state.heat[:1])


class RemembersItself(Warming, name="test.remembers_itself"):
    """Keeps its state outside."""

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.with_logits(dist.logits / (1 + 0.01 * len(SEEN)))

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Context) -> Any:
        SEEN.append(1)
        return super().accept(state, tokens, dist, ctx)


SEEN: list[int] = []


class Clinging(Tally):
    """A clone that is no copy."""

    def clone(self) -> Clinging:
        return self


class SharesHostObjects(Matching, name="test.shares_host_objects"):
    """Its host objects are copied in name alone."""

    def matcher(self) -> Tally:
        return Clinging()


class WeighsTheBatch(Warming, name="test.weighs_the_batch"):
    """Moves by the mean over its rows."""

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Context) -> Any:
        return Warmth(
            super().accept(state, tokens, dist, ctx).heat.mean(0, keepdim=True).expand(len(tokens), 1).clone()
        )
