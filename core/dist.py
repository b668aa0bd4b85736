"""Dist: the batch of next-token distributions in flight.

``logits`` is float32 ``[R, C]``. ``ids`` is int64 ``[R, C]``, ascending in each row, or None when the columns are the
whole vocabulary. A removed token has logit -inf and never comes back. Everything derived (probs, order, entropy ...) is
computed once, on demand, and shared by the stages that ask, so that two truncations sort once.

Rows never see each other, and nothing here waits for the device.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

NEG_INF = float("-inf")
_HEAD = 1024  # tokens that a CPU sorts by themselves


def _rescue(new: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of ``new`` with nothing left get their best token of ``old`` back.

    Returns (logits [R, C], rescued bool [R, 1]).
    """
    dead = new.amax(-1, keepdim=True) == NEG_INF  # NaN compares false: a numerical fault is not hidden here
    best = torch.zeros_like(new, dtype=torch.bool).scatter_(-1, old.argmax(-1, keepdim=True), True)
    return torch.where(dead & best, old, new), dead


class Dist:
    """Next-token distributions of R rows over C columns. Immutable: every change makes a new one."""

    def __init__(
        self, logits: Tensor, ids: Tensor | None = None, *, vocab_size: int | None = None, rescued: Tensor | None = None
    ) -> None:
        if logits.dim() != 2:
            raise ValueError(f"logits must be [rows, columns], got shape {tuple(logits.shape)}")
        self.logits: Tensor = logits.float()
        self.ids = ids
        self.vocab_size: int = logits.shape[-1] if vocab_size is None else vocab_size
        #: bool [R, 1] or None: rows in which the last step would have removed everything, and the best token was kept
        self.rescued = rescued

    # -- shape ---------------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        return self.logits.shape[0]

    @property
    def columns(self) -> int:
        return self.logits.shape[1]

    @property
    def device(self) -> torch.device:
        return self.logits.device

    def __repr__(self) -> str:
        return f"Dist(rows={self.rows}, columns={self.columns} of {self.vocab_size})"

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
        return (self.logits.double() - self.logits.amax(-1, keepdim=True).double()).exp()

    @cached_property
    def entropy(self) -> Tensor:
        """float32 [R, 1]: Shannon entropy in nats."""
        total = torch.where(self.probs > 0, self.probs * self.logprobs, 0.0).sum(-1, keepdim=True)
        return 0.0 - total  # and not -total, which is -0 for one token: 1 / entropy would be -inf there

    @cached_property
    def max_logit(self) -> Tensor:
        """float32 [R, 1]."""
        return self.logits.amax(-1, keepdim=True)

    @property
    def is_sorted(self) -> bool:
        """Whether ``order`` has been asked for already, so that asking again costs nothing."""
        return "order" in self.__dict__

    @cached_property
    def order(self) -> Tensor:
        """int64 [R, C]: columns by descending logit, ties by ascending id (a stable sort over ascending ids)."""
        if self.device.type == "cpu" and self.columns > 4 * _HEAD and int(self.kept.max()) <= _HEAD:
            return self._few_in_order()  # on a CPU looking is free, and sorting a whole vocabulary is not
        return torch.sort(self.logits, dim=-1, descending=True, stable=True).indices

    def _few_in_order(self) -> Tensor:
        """``order`` where no row has more than _HEAD tokens left: those sorted, then the removed ones by id."""
        best = self._best(_HEAD).sort(-1).values  # [R, _HEAD]
        ranks = torch.sort(self.logits.gather(-1, best), dim=-1, descending=True, stable=True).indices
        rest = torch.ones_like(self.alive).scatter_(-1, best, False).nonzero()[:, 1]
        return torch.cat([best.gather(-1, ranks), rest.reshape(self.rows, -1)], -1)

    @cached_property
    def sorted_probs(self) -> Tensor:
        """float32 [R, C]: probs in ``order``."""
        return self.probs.gather(-1, self.order)

    @cached_property
    def mass_before(self) -> Tensor:
        """float64 [R, C]: in ``order``, the probability of everything ranked above. 0 at the top token."""
        weights = self.weights.gather(-1, self.order)
        return (weights.cumsum(-1) - weights) / weights.sum(-1, keepdim=True)

    @cached_property
    def rank(self) -> Tensor:
        """int64 [R, C]: each column's place in ``order``, 0 = the top token."""
        places = torch.arange(self.columns, device=self.device).expand_as(self.order)
        return torch.empty_like(self.order).scatter_(-1, self.order, places)

    # -- changes -------------------------------------------------------------------------------------------------------

    def keep(self, mask: Tensor) -> Dist:
        """Remove what ``mask`` (bool, broadcasts to [R, C]) lacks; a row left with nothing keeps its best token."""
        logits, rescued = _rescue(self.logits.masked_fill(~mask, NEG_INF), self.logits)
        return Dist(logits, self.ids, vocab_size=self.vocab_size, rescued=rescued)

    def keep_ranked(self, mask: Tensor) -> Dist:
        """``keep`` with ``mask`` given in ``order`` (bool [R, C])."""
        return self.keep(torch.empty_like(mask).scatter_(-1, self.order, mask))

    def with_logits(self, logits: Tensor) -> Dist:
        """New logits [R, C] for the same columns.

        What was removed stays removed; a row left with nothing keeps its best token.
        """
        if logits.shape != self.logits.shape:
            raise ValueError(f"with_logits got shape {tuple(logits.shape)}, this Dist is {tuple(self.logits.shape)}")
        new, rescued = _rescue(logits.float().masked_fill(~self.alive, NEG_INF), self.logits)
        return Dist(new, self.ids, vocab_size=self.vocab_size, rescued=rescued)

    def narrow(self, k: int) -> Dist:
        """Exactly the k best columns (all, where there are no more), ties to the lower id, ids ascending again."""
        if k < 1:
            raise ValueError(f"narrow keeps at least one column, got {k}")
        if k >= self.columns:
            return self
        columns = self._best(k).sort(-1).values  # [R, k]
        ids = columns if self.ids is None else self.ids.gather(-1, columns)
        return Dist(self.logits.gather(-1, columns), ids, vocab_size=self.vocab_size)

    def _best(self, k: int) -> Tensor:
        """int64 [R, k]: columns of the k largest logits, best first, ties to the lower id.

        ``torch.topk`` promises no order among ties, so it is given keys without any: the logit's bits as an integer of
        the same order, and below them the column, counted downwards.
        """
        if self.is_sorted:
            return self.order[:, :k]
        bits = (self.logits + 0.0).view(torch.int32)  # + 0.0 makes one zero of two
        ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats descend with their bits
        keys = (ascending.long() << 32) - torch.arange(self.columns, device=self.device)
        return keys.topk(k, dim=-1).indices

    # -- lookups by token ----------------------------------------------------------------------------------------------

    def lookup(self, table: Tensor) -> Tensor:
        """This Dist's columns of a table by token id: [V] or [R, V] to [R, C] (or [1, C] of a [V] table, dense)."""
        table = table if table.dim() == 2 else table.unsqueeze(0)
        return table if self.ids is None else table.expand(self.rows, -1).gather(-1, self.ids)

    def columns_of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(columns int64 [R, n], present bool [R, n]) of tokens (int64 [R, n]); absent ones point at a valid column."""
        if self.ids is None:
            present = (tokens >= 0) & (tokens < self.columns)
            return tokens.clamp(0, self.columns - 1), present
        columns = torch.searchsorted(self.ids, tokens.contiguous()).clamp_(max=self.columns - 1)
        return columns, self.ids.gather(-1, columns) == tokens

    def logprob_of(self, tokens: Tensor) -> Tensor:
        """float32 [R, n]: log-probabilities of tokens (int64 [R, n]); -inf for what is removed or has no column."""
        columns, present = self.columns_of(tokens)
        return self.logprobs.gather(-1, columns).masked_fill(~present, NEG_INF)

    def tokens_at(self, columns: Tensor) -> Tensor:
        """Token ids (int64 [R, n]) at columns (int64 [R, n])."""
        return columns if self.ids is None else self.ids.gather(-1, columns)

    def token_ids(self) -> Tensor:
        """int64 [R, C]: the id of every column, also when the columns are the whole vocabulary."""
        if self.ids is not None:
            return self.ids
        return torch.arange(self.columns, device=self.device).expand(self.rows, -1)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def dense(self) -> Dist:
        """The same distributions over the whole vocabulary, [R, V]."""
        if self.ids is None:
            return self
        logits = self.logits.new_full((self.rows, self.vocab_size), NEG_INF).scatter_(-1, self.ids, self.logits)
        return Dist(logits, vocab_size=self.vocab_size, rescued=self.rescued)

    def select(self, rows: Any) -> Dist:
        """Some rows, by index (int64 [n], a list, or a slice)."""
        rescued = None if self.rescued is None else self.rescued[rows]
        return Dist(
            self.logits[rows], None if self.ids is None else self.ids[rows], vocab_size=self.vocab_size, rescued=rescued
        )

    @staticmethod
    def assemble(parts: list[tuple[Tensor, Dist]], rows: int) -> Dist:
        """One Dist of ``rows`` rows from parts (row indices int64 [n], Dist of n rows) that cover each row once."""
        dists = [part for _, part in parts]
        if any(part.ids is None or part.columns != dists[0].columns for part in dists):
            dists = [part.dense() for part in dists]
        back = torch.cat([index for index, _ in parts]).argsort()
        ids = None if dists[0].ids is None else torch.cat([d.ids for d in dists if d.ids is not None])[back]
        return Dist(torch.cat([d.logits for d in dists])[back], ids, vocab_size=dists[0].vocab_size)
