"""Stages that are wrong, each in one way: for every law at least one that breaks it and, as far as can be, no other.

``WRONG`` has them by the law they break; ``BESIDE`` says which other laws such a fault cannot but break.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

import logitmill as lm

TOLD = "what it is"


class Colourless(lm.LogitsProcessor):
    """Lowers token 0, which is what most of these do where they do nothing wrong."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - (dist.token_ids() == 0).float())


# -- every kind --------------------------------------------------------------------------------------------------------


class Column(lm.LogitsProcessor):
    """contract: the logits come back as a tensor."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.logits


class Flat(lm.Signal):
    """contract: a number, not a number a row."""

    def read(self, dist: Any, ctx: Any) -> Any:
        return dist.entropy[:, 0]


class Counted(lm.StoppingCriterion):
    """contract: a count where a truth is wanted."""

    def check(self, ctx: Any) -> Any:
        return ctx.step


class Endless(lm.StoppingCriterion):
    """contract: it never ends a row."""


class Shared(NamedTuple):
    total: Tensor  # [1]: rows are not first


class OneForAll(lm.LogitsProcessor):
    """contract: one state for all rows."""

    def init(self, ctx: Any) -> Shared:
        return Shared(torch.zeros(1))

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist


class Backwards(lm.LogitsProcessor):
    """contract: ids do not ascend."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        dense = dist.dense()
        ids = dense.token_ids().flip(-1)
        return lm.Dist(dense.logits.flip(-1), ids, vocab_size=dense.vocab_size)


class Nobody(lm.Combinator):
    """contract: no child has weight."""

    block: lm.Strategy = Field(description=TOLD)

    def children(self) -> tuple[Any, ...]:
        return (self.block,)

    def weights(self, dist: Any, ctx: Any) -> Tensor:
        return torch.zeros(dist.rows, 1)


class Nothing(lm.Search):
    """contract: no rows."""

    block: lm.Strategy = Field(description=TOLD)

    def children(self) -> tuple[Any, ...]:
        return (self.block,)

    def expand(self) -> int:
        return 0


class Rounded(lm.Schedule):
    """contract: float32."""

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        return (start + (end - start) * fraction).float()


class Needy(Colourless):
    """declared: it needs what nobody has."""

    needs: ClassVar[frozenset[str]] = frozenset({"patience"})


class Elsewhere(Colourless):
    """declared: its example names another stage."""

    examples: ClassVar[tuple[str, ...]] = ("top_k(5)",)


class Growing(Colourless):
    """spelling: what is written is one more each time it is read."""

    amount: Annotated[int, AfterValidator(lambda value: value + 1)] = Field(3, description=TOLD)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist


# -- rows --------------------------------------------------------------------------------------------------------------


class Companion(lm.LogitsProcessor):
    """row_alone: it does something in company alone."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - (dist.token_ids() == 0).float()) if dist.rows > 1 else dist


class Crowd(lm.Signal):
    """row_alone: the mean over the rows."""

    def read(self, dist: Any, ctx: Any) -> Tensor:
        return dist.entropy.mean(0, keepdim=True).expand(dist.rows, 1)


class AnyRow(lm.StoppingCriterion):
    """row_alone: one row ends all."""

    def check(self, ctx: Any) -> Tensor:
        return (ctx.step >= 3).any().expand(ctx.rows, 1)


class Held(NamedTuple):
    value: Tensor  # [R, 1]


class Follows(lm.LogitsProcessor):
    """A stateful stage with nothing wrong: token 0 is lowered by what accept has summed up."""

    def init(self, ctx: Any) -> Held:
        return Held(torch.zeros(ctx.rows, 1, device=ctx.device))

    def apply(self, dist: Any, state: Held, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * state.value)

    def accept(self, state: Held, tokens: Tensor, dist: Any, ctx: Any) -> Held:
        return Held(state.value + tokens + 1)


class Averaging(Follows):
    """selection: its state moves by the mean over the rows."""

    def accept(self, state: Held, tokens: Tensor, dist: Any, ctx: Any) -> Held:
        return Held(state.value + tokens.float().mean())


class FirstToken(Follows):
    """selection: its state moves by the first row's token."""

    def accept(self, state: Held, tokens: Tensor, dist: Any, ctx: Any) -> Held:
        return Held(state.value + tokens[0, 0] + 1)


class Pile:
    """One row's tokens on the host."""

    def __init__(self, tokens: list[int] | None = None) -> None:
        self.tokens = tokens or []

    def clone(self) -> Pile:
        return Pile(list(self.tokens))

    def rollback(self, tokens: int) -> None:
        del self.tokens[len(self.tokens) - tokens :]


class OnePile(Pile):
    """A clone that is no copy."""

    def clone(self) -> Pile:
        return self


class Piled(lm.LogitsProcessor):
    """A stage with host objects and nothing wrong: each token lowers token 0 by its id."""

    needs: ClassVar[frozenset[str]] = frozenset({"text"})

    def pile(self) -> Pile:
        return Pile()

    def init(self, ctx: Any) -> lm.HostState:
        return lm.HostState(self.pile() for _ in range(ctx.rows))

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        sums = torch.tensor([[float(sum(pile.tokens) + len(pile.tokens))] for pile in state])
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * sums)

    def accept(self, state: Any, tokens: Tensor, dist: Any, ctx: Any) -> Any:
        for pile, token in zip(state, tokens[:, 0].tolist(), strict=True):
            pile.tokens.append(token)
        return state


class Entangled(Piled):
    """copies: a copied row's host object is the first row's."""

    def pile(self) -> Pile:
        return OnePile()


# -- what is left ------------------------------------------------------------------------------------------------------


class Reviving(lm.LogitsProcessor):
    """removed: where more than half of the tokens are left, it brings back the others."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        many = dist.kept > dist.vocab_size // 2
        back = torch.where(many & ~dist.alive, 0.0, dist.logits)
        return lm.Dist(back, dist.ids, vocab_size=dist.vocab_size)


class Emptying(lm.LogitsProcessor):
    """left: where it is unsure it removes everything."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        unsure = (dist.probs.amax(-1, keepdim=True) < 0.25) & (dist.kept > 4)
        return lm.Dist(dist.logits.masked_fill(unsure, -torch.inf), dist.ids, vocab_size=dist.vocab_size)


class Dividing(lm.LogitsProcessor):
    """left: its range begins at 0, by which it divides."""

    amount: lm.Scalar = Field(1.0, ge=0, le=9, description=TOLD)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits((dist.logits - dist.max_logit) / self.amount)


class Overflowing(lm.LogitsProcessor):
    """extremes: the exponential of a logit as it is."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        weights = dist.logits.exp()
        return dist.with_logits((weights / weights.sum(-1, keepdim=True)).log())


class Reciprocal(lm.Signal):
    """extremes: infinite where one token is left."""

    def read(self, dist: Any, ctx: Any) -> Tensor:
        return 1 / (dist.kept - 1).float().clamp(min=0)


class SecondBest(lm.LogitsProcessor):
    """one_token: it takes for granted that there are two."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        best = dist.logits.topk(min(2, dist.vocab_size), dim=-1).values
        gap = best[:, :1] - best[:, 1:2].clamp(min=-100)
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * gap.clamp(max=9)[:, [0]])


# -- time --------------------------------------------------------------------------------------------------------------


class Scribbling(lm.LogitsProcessor):
    """pure: it writes into what it is given."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        dist.logits.clamp_(max=3.0)
        return lm.Dist(dist.logits.clone(), dist.ids, vocab_size=dist.vocab_size)


class Counting(Follows):
    """pure: it counts in apply how often it has run."""

    def apply(self, dist: Any, state: Held, ctx: Any) -> Any:
        state.value.add_(1)
        return super().apply(dist, state, ctx)


CALLS = [0]


class Restless(lm.LogitsProcessor):
    """pure: the second time it does something else."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        CALLS[0] += 1
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * (CALLS[0] % 7))


class Overwriting(Follows):
    """replay: accept writes into the state that it was given."""

    def accept(self, state: Held, tokens: Tensor, dist: Any, ctx: Any) -> Held:
        state.value.add_(tokens + 1)
        return state


class Forgetful(Pile):
    """A rollback that rolls nothing back."""

    def rollback(self, tokens: int) -> None:
        return None


class Stubborn(Piled):
    """replay: its host object does not go back."""

    def pile(self) -> Pile:
        return Forgetful()

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return super().apply(dist, state, ctx)


Forgetful.clone = lambda self: _copied(self)  # type: ignore[method-assign]  # a copy of its own class


def _copied(pile: Pile) -> Pile:
    return type(pile)(list(pile.tokens))


# -- traits ------------------------------------------------------------------------------------------------------------


class NoIdentity(lm.LogitsProcessor):
    """identity: 0 is said to do nothing, and lowers token 0 by 1."""

    identity_when: ClassVar[dict[str, Any]] = {"amount": 0}

    amount: int = Field(1, description=TOLD)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * (self.amount + 1))


class Turning(lm.LogitsProcessor):
    """monotone: it turns token 0 down."""

    monotone: ClassVar[bool] = True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - 2.0 * (dist.token_ids() == 0))


class Raising(lm.LogitsProcessor):
    """masks_only: it shifts what it keeps."""

    masks_only: ClassVar[bool] = True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits + 1.0)


class Distances(lm.LogitsProcessor):
    """ranks_only: how many stay depends on the spread of the logits (and on neither their scale nor their place)."""

    masks_only: ClassVar[bool] = True
    ranks_only: ClassVar[bool] = True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        left = dist.logits.masked_fill(~dist.alive, 0.0)
        mean = left.sum(-1, keepdim=True) / dist.kept
        spread = ((left - mean).square() * dist.alive).sum(-1, keepdim=True).div(dist.kept).sqrt()
        return dist.keep(dist.logits >= mean + 0.7 * spread)


class Normalising(lm.LogitsProcessor):
    """pointwise: what is taken off depends on every token."""

    pointwise: ClassVar[bool] = True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logprobs)


class SecretlyRandom(lm.LogitsProcessor):
    """noise: it draws, and does not say so."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * ctx.noise(self).float())


class Certain(lm.LogitsProcessor):
    """noise: it says that it draws, and does not."""

    stochastic: ClassVar[bool] = True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist


class GlobalRandom(lm.LogitsProcessor):
    """noise: it takes a number from torch's generator (and throws it away)."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        torch.rand(1)
        return dist


class ByDistance(lm.LogitsProcessor):
    """planned: how many it keeps next follows logits, and it is moved ahead of what changes them."""

    masks_only: ClassVar[bool] = True
    ranks_only: ClassVar[bool] = True

    def init(self, ctx: Any) -> Held:
        return Held(torch.full((ctx.rows, 1), 3.0, device=ctx.device))

    def apply(self, dist: Any, state: Held, ctx: Any) -> Any:
        return dist.keep(dist.rank < state.value)

    def accept(self, state: Held, tokens: Tensor, dist: Any, ctx: Any) -> Held:
        gap = dist.max_logit - dist.logits.masked_fill(~dist.alive, torch.inf).amin(-1, keepdim=True)
        return Held(1.0 + (4 * gap).floor().clamp(max=20))


class Halving(lm.LogitsProcessor):
    """A stage that knows a head, with nothing wrong: the logits, halved."""

    amount: lm.Scalar = Field(2.0, ge=1, le=9, description=TOLD)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits / self.amount)

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.divide(self.amount)
        return True


class Steeper(Halving):
    """head: there it divides by more."""

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.divide(self.amount + 0.5)
        return True


class Reciprocally(Halving):
    """head: there it multiplies with what it divides by elsewhere, which rounds to another float."""

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.divide(1.0)
        head.logits *= 1 / (self.amount + 0.1)
        return True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits / (self.amount + 0.1))


class Stale(Halving):
    """head: there it writes logits, and the head goes on with the weights of those before."""

    def on_head(self, head: Any, ctx: Any) -> bool:
        assert head.weights is not None
        head.logits = head.logits / self.amount
        return True


class FirstRowThere(Halving):
    """head: there the first row's value for all of them."""

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.divide(self.amount[:1] if isinstance(self.amount, Tensor) else self.amount)
        return True


class HalfOfAll(lm.LogitsProcessor):
    """head: there it counts what was removed by the stage before."""

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.keep(2 * dist.rank < dist.kept)

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.first((head.logits.shape[1] + 1) // 2)
        return True


class Upside(lm.LogitsProcessor):
    """head: it turns the order around, which a head does not do."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(-dist.logits)

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.divide(-1.0)
        return True


class Silent(Halving):
    """head: it does not say that it has done it, and so it is done again without it, each time."""

    def on_head(self, head: Any, ctx: Any) -> Any:
        head.divide(self.amount)


class Stumbling(Halving):
    """head: it raises there, of which nobody learns."""

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.halve(self.amount)
        return True


# -- columns, devices, values ------------------------------------------------------------------------------------------


class ByColumn(lm.LogitsProcessor):
    """narrowed: columns taken for token ids."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits - torch.arange(dist.columns, device=dist.device) / 64)


class ManyColumns(lm.Signal):
    """narrowed: how many columns there are."""

    def read(self, dist: Any, ctx: Any) -> Tensor:
        return torch.full_like(dist.max_logit, dist.columns)


class Doubled(lm.LogitsProcessor):
    """float32: its result is in double precision."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        made = dist.with_logits(dist.logits)
        made.logits = made.logits.double()
        return made


class Waiting(lm.LogitsProcessor):
    """no_host: it looks at a value on the host."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        if bool((dist.max_logit > 3.0).any()):
            return dist.with_logits(dist.logits.clone())
        return dist


class WaitingLate(Follows):
    """no_host: so does its accept."""

    def accept(self, state: Held, tokens: Tensor, dist: Any, ctx: Any) -> Held:
        return Held(state.value + torch.tensor([[float(token) + 1] for token in tokens[:, 0].tolist()]))


class WaitingSignal(lm.Signal):
    """no_host: a number made on the host."""

    def read(self, dist: Any, ctx: Any) -> Tensor:
        return torch.tensor([[float(x)] for x in dist.max_logit[:, 0].clamp(-9, 9)])


class Branching(lm.LogitsProcessor):
    """values: a Python branch on a value."""

    amount: lm.Scalar = Field(0.5, ge=0, le=1, description=TOLD)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.with_logits(dist.logits * 0.5) if self.amount > 0.25 else dist


class FirstRow(lm.LogitsProcessor):
    """stacked: the first row's value for all of them."""

    amount: lm.Scalar = Field(0.5, ge=0, le=1, description=TOLD)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        amount = self.amount[:1] if isinstance(self.amount, Tensor) else self.amount
        return dist.with_logits(dist.logits - (dist.token_ids() == 0) * amount)


# -- kinds -------------------------------------------------------------------------------------------------------------


class PicksColumn(lm.Sampler):
    """draws: it picks a column, which is no token behind a truncation."""

    def pick(self, law: Any, ctx: Any) -> Tensor:
        return law.logits.argmax(-1, keepdim=True)


class PicksWorst(lm.Sampler):
    """draws: it picks what its law does not hold."""

    def law(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist.keep(dist.rank < 2)

    def pick(self, law: Any, ctx: Any) -> Tensor:
        return law.tokens_at(law.logits.argmin(-1, keepdim=True))


class Late(lm.StoppingCriterion):
    """cuts: behind a place that it let go."""

    needs: ClassVar[frozenset[str]] = frozenset({"text"})

    def check_text(self, text: str, ctx: Any) -> int | None:
        return 2 if len(text) >= 6 else None


class Beyond(lm.StoppingCriterion):
    """cuts: where no text is yet."""

    needs: ClassVar[frozenset[str]] = frozenset({"text"})

    def check_text(self, text: str, ctx: Any) -> int | None:
        return len(text) + 1 if "." in text else None


class Optimist(lm.StoppingCriterion):
    """bounds: it takes one token more than it said."""

    def check(self, ctx: Any) -> Tensor:
        return ctx.step > 3

    def most_tokens(self, prompt: int) -> int | None:
        return 3


class Half(Optimist):
    """bounds: no number of tokens."""

    def most_tokens(self, prompt: int) -> Any:
        return 1.5


class OnlyTheFirst(lm.Search):
    """ranking: it leaves rows out."""

    block: lm.Strategy = Field(description=TOLD)

    def children(self) -> tuple[Any, ...]:
        return (self.block,)

    def expand(self) -> int:
        return 3

    def finish(self, rows: list[Any]) -> list[int]:
        return [0]


class Short(lm.Schedule):
    """ends: it does not quite get there."""

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        return start + (end - start) * fraction * 0.99


SAMPLED, FRAGMENT = lm.Strategy.parse("sample"), lm.Strategy.parse("top_k(5)")

#: law -> stages that break it
WRONG: dict[str, list[Any]] = {
    "contract": [Column(), Flat(), Counted(), Endless(), OneForAll(), Backwards(), Nobody(FRAGMENT), Nothing(SAMPLED),
                 Rounded()],
    "declared": [Needy(), Elsewhere()],
    "spelling": [Growing(1)],
    "row_alone": [Companion(), Crowd(), AnyRow()],
    "selection": [Averaging(), FirstToken()],
    "copies": [Entangled()],
    "removed": [Reviving()],
    "left": [Emptying(), Dividing()],
    "extremes": [Overflowing(), Reciprocal()],
    "one_token": [SecondBest()],
    "pure": [Scribbling(), Restless(), Counting()],
    "replay": [Overwriting(), Stubborn()],
    "identity": [NoIdentity()],
    "monotone": [Turning()],
    "masks_only": [Raising()],
    "ranks_only": [Distances()],
    "noise": [SecretlyRandom(), Certain(), GlobalRandom()],
    "narrowed": [ByColumn(), ManyColumns()],
    "pointwise": [Normalising()],
    "planned": [ByDistance()],
    "head": [Steeper(), Reciprocally(), Stale(), FirstRowThere(), HalfOfAll(), Upside(), Silent(), Stumbling()],
    "float32": [Doubled()],
    "no_host": [Waiting(), WaitingLate(), WaitingSignal()],
    "values": [Branching()],
    "stacked": [FirstRow()],
    "draws": [PicksColumn(), PicksWorst()],
    "cuts": [Late(), Beyond()],
    "bounds": [Optimist(), Half()],
    "ranking": [OnlyTheFirst(SAMPLED)],
    "ends": [Short()],
}  # fmt: skip

#: stage -> the other laws that its fault breaks of necessity
BESIDE: dict[type[lm.Stage], set[str]] = {
    Averaging: {"copies"},  # two copies are two rows
    Counting: {"replay", "copies"},  # both ask twice for what comes next
    Entangled: {"replay"},  # to come back to a host object is to have cloned it
    Restless: {"row_alone", "selection", "copies", "replay", "narrowed", "planned", "float32"},  # all compare two calls
    Doubled: {"planned"},  # what stands behind it computes in what it is given
    Branching: {"stacked"},  # rows with values of their own are a tensor, too
}

#: stages with nothing wrong, of the kinds that the wrong ones are made of
RIGHT: list[Any] = [Colourless(), Follows(), Piled(), Halving()]
