"""What a Dist holds and what follows from it: two forms of the same columns, and everything derived, computed once."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from .kernels.choosing import Look, choosing
from .selection import WIDTH, best, tops
from .shares import Shares

Patch = tuple[Tensor, Tensor]  # places (int64, row * C + column) and the logits (float32) there
NEG_INF = float("-inf")
WIDE = 4096  # columns from which on it pays to go round working on all of them
_HEAD = 1024  # tokens that a CPU sorts by themselves


class Columns:
    """R rows of C columns: by id, as stages read ``logits`` and ``ids``, or ranked, from the best down.

    Each form is made from the other when it is first asked for, so that a narrowed Dist that is only cut and drawn from
    is never put back in the order of ids. So are logits of which a few places were written, or a nucleus was kept.
    """

    rows: int
    columns: int
    vocab_size: int
    device: torch.device
    looks: bool  # whether looking at values, to take a shorter way to the same result, is free

    _ranked: tuple[Tensor, Tensor] | None = None  # (logits float32, ids int64), best first, ties to the lower id
    _patched: tuple[Columns, tuple[Patch, ...]] | None = None  # (others, and what was written in them): see with_some
    _cut: tuple[Columns, Shares] | None = None  # (others with the same ids, and what is kept of them)

    # -- the two forms -------------------------------------------------------------------------------------------------

    @cached_property
    def _by_id(self) -> tuple[Tensor, Tensor]:
        """(ids ascending, the rank of each), int64 [R, C] each, of a Dist that was made ranked."""
        assert self._ranked is not None
        found = self._ranked[1].sort(-1)
        return found.values, found.indices

    @cached_property
    def logits(self) -> Tensor:
        """float32 [R, C]."""
        if self._cut is not None:
            return torch.where(self._cut[1].mask(), self._cut[0].logits, NEG_INF)
        if self._patched is not None:
            base, patches = self._patched
            written = base.logits.reshape(-1).clone()
            for places, logits in patches:
                written.scatter_(0, places.reshape(-1), logits.reshape(-1))
            return written.view(self.rows, self.columns)
        assert self._ranked is not None
        return self._ranked[0].gather(-1, self._by_id[1])

    @cached_property
    def ids(self) -> Tensor | None:
        """int64 [R, C], ascending in each row; None where the columns are the whole vocabulary."""
        return self._by_id[0]

    @property
    def is_ranked(self) -> bool:
        """Whether it was made of candidates in descending order: ``ranked_logits`` and its like cost nothing then."""
        return self._ranked is not None

    @property
    def candidates(self) -> tuple[Tensor, Tensor]:
        """(logits float32, ids int64), [R, C] each, best first, of a Dist that was made ranked."""
        assert self._ranked is not None
        return self._ranked

    @cached_property
    def ranked_logits(self) -> Tensor:
        """float32 [R, C]: logits in ``order``."""
        return self.logits.gather(-1, self.order) if self._ranked is None else self._ranked[0]

    @cached_property
    def ranked_weights(self) -> Tensor:
        """float64 [R, C]: weights in ``order``."""
        if self._ranked is None:
            return self.weights.gather(-1, self.order)
        return (self._ranked[0].double() - self.max_logit.double()).exp_()

    # -- derived, computed once ----------------------------------------------------------------------------------------

    @cached_property
    def alive(self) -> Tensor:
        """bool [R, C]: tokens not removed. NaN is no removal: a numerical fault must not be taken for one."""
        return self.logits != NEG_INF

    @cached_property
    def kept(self) -> Tensor:
        """int64 [R, 1]: how many tokens are left."""
        return self.alive.sum(-1, keepdim=True)

    @cached_property
    def logprobs(self) -> Tensor:
        """float32 [R, C], in nats."""
        return torch.log_softmax(self.logits, -1)

    @cached_property
    def probs(self) -> Tensor:
        """float32 [R, C], each row sums to 1."""
        return torch.softmax(self.logits, -1)

    @cached_property
    def weights(self) -> Tensor:
        """float64 [R, C]: exp(l - max l), not normalised. What exact draws accumulate."""
        if self._ranked is not None:
            return self.ranked_weights.gather(-1, self._by_id[1])
        return self.logits.double().sub_(self.max_logit).exp_()

    @cached_property
    def total(self) -> Tensor:
        """float64 [R, 1]: the sum of the weights."""
        return (self.weights if self._ranked is None else self.ranked_weights).sum(-1, keepdim=True)

    @property
    def is_wide(self) -> bool:
        """Whether there are so many columns that a shorter way than through all of them pays, and looking is free."""
        return self.looks and self.columns > WIDE and self._ranked is None

    @cached_property
    def shares(self) -> Shares:
        """Rough probabilities, of a wide Dist; what is decided by them is exact."""
        kernels = choosing()
        if kernels is None:
            return Shares.of(self.logits, self._tops)
        shares, look = Shares.by(kernels, self.logits, self.__dict__.get("look"))
        self.__dict__["look"] = look
        return shares

    @cached_property
    def entropy(self) -> Tensor:
        """float32 [R, 1]: Shannon entropy in nats."""
        total = torch.where(self.probs > 0, self.probs * self.logprobs, 0.0).sum(-1, keepdim=True)
        return 0.0 - total  # and not -total, which is -0 for one token: 1 / entropy would be -inf there

    @cached_property
    def look(self) -> Look | None:
        """What one pass of a kernel tells of a wide Dist; None without kernels."""
        kernels = choosing() if self.is_wide else None
        return None if kernels is None else kernels.look(self.logits)

    @cached_property
    def _tops(self) -> Tensor | None:
        """The largest logits of blocks of columns, where there are many columns and looking is free."""
        if not self.is_wide:
            return None
        return tops(self.logits) if self.look is None else self.look.maxima

    @property
    def block_maxima(self) -> Tensor:
        """float32 [R, n]: the largest logit of each block of `selection.WIDTH` columns, of a wide Dist.

        Without what is left at the end.
        """
        assert self._tops is not None
        return self._tops

    @cached_property
    def max_logit(self) -> Tensor:
        """float32 [R, 1]."""
        if self._ranked is not None:
            return self._ranked[0][:, :1]
        if self._cut is not None:
            return self._cut[0].max_logit
        if self.look is not None:
            return self.look.ends[:, 1:]
        if self._tops is None:
            return self.logits.amax(-1, keepdim=True)
        best, rest = self._tops.amax(-1, keepdim=True), self.logits[:, self._tops.shape[1] * WIDTH :]
        return torch.maximum(best, rest.amax(-1, keepdim=True)) if rest.shape[1] else best

    @cached_property
    def untouched(self) -> bool:
        """Whether the host knows that nothing has been removed: only where looking is free."""
        if not self.looks:
            return False
        if self.look is not None:
            return all(least > NEG_INF for least in self.look.ends[:, 0].tolist())  # NaN compares false
        values = self.logits if self._ranked is None else self._ranked[0][:, -1:]
        return bool((values.amin(-1) > NEG_INF).all())  # NaN compares false

    @property
    def is_sorted(self) -> bool:
        """Whether ``order`` has been asked for already, so that asking again costs nothing."""
        return "order" in self.__dict__

    @cached_property
    def order(self) -> Tensor:
        """int64 [R, C]: columns by descending logit, ties by ascending id (a stable sort over ascending ids)."""
        if self._ranked is not None:
            return torch.empty_like(self.rank).scatter_(-1, self.rank, _places(self.rank))
        if self.looks and self.columns > WIDE and int(self.kept.max()) <= _HEAD:
            return self._few_in_order()  # sorting a whole vocabulary is not free
        return torch.sort(self.logits, dim=-1, descending=True, stable=True).indices

    def _few_in_order(self) -> Tensor:
        """``order`` where no row has more than _HEAD tokens left: those sorted, then the removed ones by id."""
        head = best(self.logits, _HEAD).sort(-1).values  # [R, _HEAD]
        ranks = torch.sort(self.logits.gather(-1, head), dim=-1, descending=True, stable=True).indices
        rest = torch.ones_like(self.alive).scatter_(-1, head, False).nonzero()[:, 1]
        return torch.cat([head.gather(-1, ranks), rest.reshape(self.rows, -1)], -1)

    @cached_property
    def sorted_probs(self) -> Tensor:
        """float32 [R, C]: probs in ``order``."""
        return self.probs.gather(-1, self.order)

    @cached_property
    def mass_before(self) -> Tensor:
        """float64 [R, C]: in ``order``, the probability of everything ranked above. 0 at the top token."""
        weights = self.ranked_weights
        return (weights.cumsum(-1) - weights) / weights.sum(-1, keepdim=True)

    @cached_property
    def rank(self) -> Tensor:
        """int64 [R, C]: each column's place in ``order``, 0 = the top token."""
        if self._ranked is not None:
            return self._by_id[1]
        return torch.empty_like(self.order).scatter_(-1, self.order, _places(self.order))


def _places(ranks: Tensor) -> Tensor:
    """int64 [R, C]: 0, 1, 2 ... in each row."""
    return torch.arange(ranks.shape[1], device=ranks.device).expand_as(ranks)


__all__ = ["NEG_INF", "WIDE", "Columns"]
