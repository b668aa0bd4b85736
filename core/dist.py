"""Dist: the batch of next-token distributions in flight.

``logits`` is float32 ``[R, C]``. ``ids`` is int64 ``[R, C]``, ascending in each row, or None when the columns are the
whole vocabulary. A removed token has logit -inf and never comes back. Everything derived (probs, order, entropy ...) is
computed once, on demand, and shared by the stages that ask, so that two truncations sort once.

Rows never see each other, and nothing here waits for the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .columns import NEG_INF, Columns
from .kernels.choosing import Choosing, choosing
from .memory import keep_freed
from .selection import best, fast_best, in_order, position, ranks
from .shares import COARSE, ROUGH

MOST = 1 << 31  # tokens: kernels count columns in 32 bits
FEW = 128  # candidates that a cut is looked for among first

keep_freed()


def _rescue(new: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of ``new`` with nothing left get their best token of ``old`` back.

    Returns (logits [R, C], rescued bool [R, 1]).
    """
    dead = new.amax(-1, keepdim=True) == NEG_INF  # NaN compares false: a numerical fault is not hidden here
    if new.device.type == "cpu" and not bool(dead.any()):  # on a CPU looking is free
        return new, dead
    top = torch.zeros_like(new, dtype=torch.bool).scatter_(-1, old.argmax(-1, keepdim=True), True)
    return torch.where(dead & top, old, new), dead


def _check(logits: Tensor, ids: Tensor | None, vocab_size: int | None) -> None:
    """Kernels read what is said to be there."""
    if logits.dim() != 2 or not logits.shape[1]:
        raise ValueError(f"logits must be [rows, columns], one column at least, got shape {tuple(logits.shape)}")
    if ids is not None and (ids.shape, ids.dtype, ids.device) != (logits.shape, torch.int64, logits.device):
        shapes = (
            f"logits {tuple(logits.shape)} on {logits.device}, ids {tuple(ids.shape)} of {ids.dtype} on {ids.device}"
        )
        raise ValueError(f"a token id for each logit is wanted, int64 [rows, columns]; got {shapes}")
    if vocab_size is not None and not logits.shape[1] <= vocab_size < MOST:
        raise ValueError(f"a vocabulary has as many tokens as columns, or more, up to 2^31; got {vocab_size}")


def is_prefix(mask: Tensor) -> bool:
    """Whether each row of ``mask`` (bool [R, C]) is true up to some column, the first at least, and false behind it."""
    return bool(mask[:, 0].all()) and not bool((mask[:, 1:] > mask[:, :-1]).any())


class Dist(Columns):
    """Next-token distributions of R rows over C columns. Immutable: every change makes a new one.

    Raises ValueError where logits, ids and the size of the vocabulary do not go together.
    """

    def __init__(
        self, logits: Tensor, ids: Tensor | None = None, *, vocab_size: int | None = None, rescued: Tensor | None = None
    ) -> None:
        _check(logits, ids, vocab_size)
        logits = logits.float()
        held = self.__dict__
        held["logits"], held["ids"] = logits, ids
        self.rows, self.columns = logits.shape
        self.device: torch.device = logits.device
        self.vocab_size: int = self.columns if vocab_size is None else vocab_size
        #: bool [R, 1] or None: rows in which the last step would have removed everything, and the best token was kept
        self.rescued = rescued
        #: whether looking at values, to take a shorter way to the same result, is free: never on a device
        self.looks: bool = self.device.type == "cpu"

    @classmethod
    def ranked(cls, logits: Tensor, ids: Tensor, vocab_size: int, weights: Tensor | None = None) -> Dist:
        """From candidates (float32 and int64 [R, C]) in descending order, ties to the lower id.

        ``weights``: float64 [R, C], where ``ranked_weights`` is known already.
        """
        _check(logits, ids, vocab_size)
        if logits.dtype != torch.float32:
            raise ValueError(f"candidates' logits are float32, got {logits.dtype}")
        dist = object.__new__(cls)
        dist._ranked = (logits, ids)
        dist.rows, dist.columns = logits.shape
        dist.device, dist.vocab_size, dist.rescued = logits.device, vocab_size, None
        dist.looks = dist.device.type == "cpu"
        if weights is not None:
            dist.__dict__["ranked_weights"] = weights
        return dist

    def unlooked(self) -> Dist:
        """The same, worked on without looking at values: what a device does, on any."""
        twin = Dist(self.logits, self.ids, vocab_size=self.vocab_size, rescued=self.rescued)
        twin.looks = False
        return twin

    def _like(self, logits: Tensor, ids: Tensor | None, rescued: Tensor | None = None) -> Dist:
        """New columns of the same vocabulary."""
        twin = Dist(logits, ids, vocab_size=self.vocab_size, rescued=rescued)
        twin.looks = self.looks
        return twin

    def __repr__(self) -> str:
        return f"Dist(rows={self.rows}, columns={self.columns} of {self.vocab_size})"

    # -- changes -------------------------------------------------------------------------------------------------------

    def keep(self, mask: Tensor) -> Dist:
        """Remove what ``mask`` (bool, broadcasts to [R, C]) lacks; a row left with nothing keeps its best token."""
        logits, rescued = _rescue(torch.where(mask, self.logits, NEG_INF), self.logits)
        return self._like(logits, self.ids, rescued)

    def spread(self, count: int) -> Tensor:
        """float32 [R, 1]: the mass of ``count`` of the best tokens, each of another region: no more than the best hold.

        Cheap, of a wide Dist.
        """
        assert self._tops is not None
        best = self._tops.topk(min(count, self._tops.shape[1]), -1, sorted=False).values
        return best.sub_(self.max_logit).exp_().sum(-1, keepdim=True).mul_(self.shares.best)

    def mass_before_best(self, head: Dist, share: Tensor) -> Tensor:
        """float64 [R, k]: of ``head``, the k best of a wide Dist, the mass of everything ranked above.

        Surely to the same side of ``share`` (float32 [R, 1]) as in float64; else rough.
        """
        weights = head.ranked_weights
        before = weights.cumsum(-1).sub_(weights)
        whole = self.shares.sums.sum(-1, keepdim=True)
        rough = before * (self.shares.best.double() / whole)
        return before / self.total if bool(((rough - share).abs_() < self.shares.slack / whole).any()) else rough

    def keep_nucleus(self, share: Tensor) -> Dist | None:
        """Keep what has less than ``share`` (float32 [R, 1], above 0) of the mass above it, ties to the lower id.

        For a wide Dist, of which not all has to be put in order; None for what is no number. What is left is worked out
        only when it is asked for: a draw does not.
        """
        nucleus = self.shares.nucleus(share)
        if nucleus is None:
            return None
        twin = self._lazy()
        twin._cut = (self, nucleus)
        return twin

    def position(self, uniform: Tensor) -> Tensor:
        """int64 [R, 1]: the column at which the running sum of the weights exceeds u (float64 [R, 1]) of the whole."""
        if self._cut is not None:
            return self._cut[1].position(uniform)
        if self.is_wide:
            kernels = None if "shares" in self.__dict__ else choosing()
            return self.shares.position(uniform) if kernels is None else self._drawn(kernels, uniform)
        return position(self.weights, uniform)

    def _drawn(self, kernels: Choosing, uniform: Tensor) -> Tensor:
        """``position`` without shares; in float64 of a row whose draw is not sure."""
        found, sure, look = kernels.draw(self.logits, self.__dict__.get("look"), uniform, ROUGH, COARSE)
        self.__dict__["look"] = look
        for row, known in enumerate(sure[:, 0].tolist()):
            if not known:
                only = slice(row, row + 1)
                found[only] = position(torch.softmax(self.logits[only].double(), -1), uniform[only])
        return found

    def keep_few(self, rows: Tensor, columns: Tensor, logits: Tensor, counts: Tensor) -> Dist:
        """Keep some tokens of each row, one at least, narrowed to as many columns as the most that a row keeps.

        ``rows``, ascending, ``columns`` (int64 [n]), ascending in a row, and their ``logits``; ``counts``: int64 [R].
        """
        place = ranks(rows, counts)
        most = int(counts.max())
        free = torch.ones(self.rows, most, dtype=torch.bool)  # among the first columns: for rows that keep fewer
        low = columns < most
        free[rows[low], columns[low]] = False
        held = (free.cumsum(-1) + counts[:, None] - 1).masked_fill_(~free, most).clamp_(max=most)  # [R, most]
        found = torch.empty(self.rows, most + 1, dtype=torch.int64).scatter_(
            -1, held, torch.arange(most).expand_as(held)
        )
        found = found.index_put_((rows, place), columns)[:, :most]
        values = torch.full(found.shape, NEG_INF).index_put_((rows, place), logits)
        values, order = values.sort(dim=-1, descending=True, stable=True)
        found = found.gather(-1, order)
        twin = Dist.ranked(values, found if self.ids is None else self.ids.gather(-1, found), self.vocab_size)
        twin.rescued = self._none
        return twin

    def keep_ranked(self, mask: Tensor) -> Dist:
        """``keep`` with ``mask`` given in ``order`` (bool [R, C])."""
        if self._ranked is not None and self.looks and is_prefix(mask):  # the best stay: nothing to rescue
            return self._reranked(torch.where(mask, self._ranked[0], NEG_INF), self._ranked[1])
        return self.keep(torch.empty_like(mask).scatter_(-1, self.order, mask))

    def with_logits(self, logits: Tensor) -> Dist:
        """New logits [R, C] for the same columns.

        What was removed stays removed; a row left with nothing keeps its best token.
        """
        if logits.shape != (self.rows, self.columns):
            raise ValueError(f"with_logits got shape {tuple(logits.shape)}, this Dist is {(self.rows, self.columns)}")
        new = logits.float()
        if not self.untouched:
            new = torch.where(self.alive, new, NEG_INF)
        new, rescued = _rescue(new, self.logits)
        return self._like(new, self.ids, rescued)

    def with_some(self, places: Tensor, logits: Tensor) -> Dist:
        """New logits (float32) for some places (int64 of the same shape): row * C + column.

        A place that is named twice is given the same logit twice. What was removed stays removed; a row left with
        nothing keeps its best token.
        """
        if self.untouched and float(logits.amin()) > NEG_INF:  # nothing is removed: no row can be left with nothing
            base, patches = self._patched if self._patched is not None and not self._written else (self, ())
            if patches and patches[-1][0] is places:
                patches = patches[:-1]
            twin = self._lazy()
            twin._patched, twin.__dict__["untouched"] = (base, (*patches, (places, logits))), True
            return twin
        new = self.logits.flatten().scatter(0, places.flatten(), logits.flatten()).view_as(self.logits)
        new, rescued = _rescue(torch.where(self.alive, new, NEG_INF), self.logits)
        return self._like(new, self.ids, rescued)

    def logits_at(self, places: Tensor) -> Tensor:
        """float32, of the shape of ``places`` (int64, row * C + column)."""
        if self._patched is not None and not self._written:
            _, patches = self._patched
            if len(patches) == 1 and patches[0][0] is places:
                return patches[0][1]
        return self.logits.take(places)

    @property
    def _written(self) -> bool:
        """Whether its logits are there, whatever they are made from."""
        return "logits" in self.__dict__

    def _lazy(self) -> Dist:
        """A Dist on the same columns whose logits are worked out when they are first asked for; no row was rescued."""
        twin = object.__new__(Dist)
        twin.__dict__["ids"] = self.ids
        twin.rows, twin.columns, twin.device, twin.vocab_size = self.rows, self.columns, self.device, self.vocab_size
        twin.rescued, twin.looks = self._none, self.looks
        return twin

    @property
    def _none(self) -> Tensor:
        """bool [R, 1]: no row was rescued."""
        return torch.zeros(self.rows, 1, dtype=torch.bool, device=self.device)

    def divided(self, divisor: Any) -> Dist:
        """Every logit by ``divisor`` (a number above 0, or float32 [R, 1]): the order stays, and what is removed."""
        if self._ranked is not None and self.looks:
            logits, ids = in_order(self._ranked[0] / divisor, self._ranked[1], looks=True)
            best, last = logits[:, :1], logits[:, -1:]
            if bool(((best > NEG_INF) & (last <= best)).all()):  # which NaN, of what is removed by infinity, is not
                return self._reranked(logits, ids)
        return self.with_logits(self.logits / divisor)

    def _reranked(self, logits: Tensor, ids: Tensor) -> Dist:
        """New logits (float32 [R, C], none removed in column 0) for the candidates of a ranked Dist, best first."""
        assert self._ranked is not None
        twin = Dist.ranked(logits, ids, self.vocab_size)
        twin.rescued = self._none
        if "_by_id" in self.__dict__ and ids is self._ranked[1]:
            twin.__dict__["_by_id"] = self._by_id
        return twin

    def narrow(self, k: int) -> Dist:
        """Exactly the k best columns (all, where there are no more), ties to the lower id, ids ascending again."""
        if k < 1:
            raise ValueError(f"narrow keeps at least one column, got {k}")
        if k >= self.columns:
            return self
        if self._ranked is not None:
            return Dist.ranked(self._ranked[0][:, :k], self._ranked[1][:, :k], self.vocab_size)
        if self.looks and not self.is_sorted:
            logits, columns = self._best(k)
            return Dist.ranked(logits, columns if self.ids is None else self.ids.gather(-1, columns), self.vocab_size)
        columns = (self.order[:, :k] if self.is_sorted else best(self.logits, k)).sort(-1).values  # [R, k]
        return self._like(
            self.logits.gather(-1, columns), columns if self.ids is None else self.ids.gather(-1, columns)
        )

    def _best(self, k: int) -> tuple[Tensor, Tensor]:
        """`selection.fast_best` of the logits."""
        kernels = choosing()
        if kernels is None:
            return fast_best(self.logits, k, self._tops)
        logits, columns, look = kernels.best(self.logits, k, self.__dict__.get("look"))
        if self.is_wide:
            self.__dict__["look"] = look
        return logits, columns

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
        if self._ranked is None and self.ids is None:
            return self
        logits, ids = (self.logits, self.ids) if self._ranked is None else self._ranked
        assert ids is not None
        whole = logits.new_full((self.rows, self.vocab_size), NEG_INF).scatter_(-1, ids, logits)
        return self._like(whole, None, self.rescued)

    def select(self, rows: Any) -> Dist:
        """Some rows, by index (int64 [n], a list, or a slice)."""
        rescued = None if self.rescued is None else self.rescued[rows]
        if self._ranked is not None:
            twin = Dist.ranked(self._ranked[0][rows], self._ranked[1][rows], self.vocab_size)
            twin.rescued = rescued
            return twin
        return self._like(self.logits[rows], None if self.ids is None else self.ids[rows], rescued)

    @staticmethod
    def assemble(parts: list[tuple[Tensor, Dist]], rows: int) -> Dist:
        """One Dist of ``rows`` rows from parts (row indices int64 [n], Dist of n rows) that cover each row once."""
        dists = [part for _, part in parts]
        if any(part.ids is None or part.columns != dists[0].columns for part in dists):
            dists = [part.dense() for part in dists]
        back = torch.cat([index for index, _ in parts]).argsort()
        ids = None if dists[0].ids is None else torch.cat([d.ids for d in dists if d.ids is not None])[back]
        return dists[0]._like(torch.cat([d.logits for d in dists])[back], ids)


__all__ = ["FEW", "NEG_INF", "Dist", "is_prefix"]
