"""What a trace says of a step, by torch's operators: worked out on the device, and read by the host in one transfer.

A step's account costs what its calls cost, so the few columns that stages leave are worked on together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .account import Book, Facts, Place, candidates
from .dist import Dist
from .session import Visit

HEAD = 64  # so many of its best candidates are found of a Dist of many columns
SHOWN = 16  # and so many looked at for those that are listed, so that most ties among them are seen
FEW = 1024  # columns up to which Dists of one size are measured together
_LEAST = -104.0  # e^-104 is 0 in float32


@dataclass(frozen=True)
class _Measured:
    """One Dist in the book. ``offset``: where its rows begin in what was measured together."""

    probs: Tensor | None  # float32 [R, C], in the order of ``columns``; None for the Dist's own
    offset: int
    ordered: bool  # whether those that are shown are in order, ties to the lower id, and the first are those to list
    shown: int  # how many of the best candidates
    kept: Place | None  # where None: every column
    entropy: Place
    logits: Place  # of what is shown
    ids: Place
    likely: Place


class TensorBook(Book):
    """By torch's operators, on any device."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._heads: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of a Dist: see ``_head``
        self._dists: dict[int, Dist] = {}  # held, so that an id is not given to another
        self._found: dict[int, _Measured] = {}
        self._ids: dict[int, Tensor] = {}  # of Dists of few columns: the id of each
        self._parts: list[Tensor] = []
        self._size = 0
        self._numbers: list[float] = []

    # -- on the device -------------------------------------------------------------------------------------------------

    def measure(self, raw: Dist, visits: Sequence[Visit]) -> None:
        self._dists[id(raw)] = raw
        for visit in visits:
            self._dists.setdefault(id(visit.before), visit.before)
            if id(visit.after) not in self._dists:
                self._dists[id(visit.after)] = visit.after
                if visit.after.columns > FEW and visit.before.columns == visit.after.columns:
                    self._carry(visit)
        few: dict[tuple[int, bool], list[Dist]] = {}
        for dist in self._dists.values():
            if dist.columns <= FEW:
                few.setdefault((dist.columns, dist.is_ranked), []).append(dist)
            else:
                self._wide(dist)
        for alike in few.values():
            self._few(alike)

    def _carry(self, visit: Visit) -> None:
        """The head behind a stage that keeps the order is the head before it, with other logits."""
        before, after = visit.before, visit.after
        if visit.stage.monotone and before.ids is None and after.ids is None and after.untouched:
            _, ids = self._head(before)
            self._heads[id(after)] = after.logits.gather(-1, ids), ids

    def _head(self, dist: Dist) -> tuple[Tensor, Tensor]:
        """(logits, ids), [R, HEAD] each: the best candidates from the best down, any of those that tie for the last."""
        if id(dist) not in self._heads:
            values, columns = dist.logits.topk(min(HEAD, dist.columns), -1)
            self._heads[id(dist)] = values, dist.tokens_at(columns)
        return self._heads[id(dist)]

    def _wide(self, dist: Dist) -> None:
        """A Dist of many columns by itself."""
        logits, ids = (part[:, :SHOWN] for part in self._head(dist))
        likely = dist.probs.gather(-1, ids if dist.ids is None else dist.columns_of(ids)[0])
        entropy = _entropy(dist.logits, logits[:, :1], dist.probs, likely[:, :1])
        kept = None if dist.untouched else self._write(dist.kept)
        places = [self._write(part) for part in (entropy, logits, ids, likely)]
        self._found[id(dist)] = _Measured(None, 0, False, logits.shape[1], kept, *places)

    def _few(self, dists: Sequence[Dist]) -> None:
        """Dists of the same few columns, one below the other."""
        parts = [d.candidates if d.is_ranked else (d.logits, d.token_ids()) for d in dists]
        logits, ids = (torch.cat(column) if len(parts) > 1 else column[0] for column in zip(*parts, strict=True))
        probs, columns = torch.softmax(logits, -1), ids
        entropy = _entropy(logits, logits.amax(-1, keepdim=True), probs, probs.amax(-1, keepdim=True))
        kept = (logits > -math.inf).sum(-1, keepdim=True)
        if not dists[0].is_ranked:  # by id: the first of those that tie is the lowest
            best = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, : self.count]
            logits, ids, likely = logits.gather(-1, best), ids.gather(-1, best), probs.gather(-1, best)
        else:
            logits, ids, likely = logits[:, : self.count], ids[:, : self.count], probs[:, : self.count]
        places = [self._write(part) for part in (kept, entropy, logits, ids, likely)]
        offset = 0
        for dist in dists:
            rows = slice(offset, offset + dist.rows)
            self._found[id(dist)] = _Measured(probs[rows], offset, True, logits.shape[1], *places)
            self._ids[id(dist)] = columns[rows]
            offset += dist.rows

    def probs(self, dist: Dist, tokens: Tensor) -> Place:
        ids = self._ids.get(id(dist))
        if ids is not None:
            own = self._probs_of(dist).masked_fill(ids != tokens, 0.0).sum(-1, keepdim=True)
        else:
            own = dist.probs.gather(-1, tokens) if dist.ids is None else dist.logprob_of(tokens).exp()
        return self._write(own)

    def _probs_of(self, dist: Dist) -> Tensor:
        """float32 [R, C], in the order of the candidates of a ranked Dist, else of the columns."""
        measured = self._found[id(dist)].probs
        if measured is not None:
            return measured
        return torch.softmax(dist.candidates[0], -1) if dist.is_ranked else dist.probs

    def rescued(self, dist: Dist) -> Place | None:
        return None if dist.rescued is None else self._write(dist.rescued)

    def removed(self, before: Dist, after: Dist) -> Place | None:
        gone = None if after is before else self._removed(before, after)
        return None if gone is None else self._write(gone)

    def _removed(self, before: Dist, after: Dist) -> Tensor | None:
        """float32 [R, 1]. None for nothing at all."""
        if before.ids is None and after.ids is None:
            return None if after.untouched else before.probs.masked_fill(after.alive, 0.0).sum(-1, keepdim=True)
        probs = self._probs_of(before)
        if before.is_ranked and after.is_ranked and before.candidates[1] is after.candidates[1]:
            return probs.masked_fill(after.candidates[0] > -math.inf, 0.0).sum(-1, keepdim=True)
        if before.ids is None:
            logits, ids = after.candidates if after.is_ranked else (after.logits, after.token_ids())
            gone = before.probs.gather(-1, ids).masked_fill_(logits > -math.inf, 0.0)
            return before.probs.scatter(-1, ids, gone).sum(-1, keepdim=True)
        alive = torch.zeros(before.rows, before.vocab_size, dtype=torch.bool, device=before.device)
        alive.scatter_(1, after.token_ids(), after.alive)
        return before.probs.masked_fill(alive.gather(-1, before.ids), 0.0).sum(-1, keepdim=True)

    def ranked(self, raw: Dist, tokens: Tensor) -> tuple[Place, Callable[[int], int]]:
        logits, ids = self._head(raw)
        own = raw.logits.gather(-1, tokens)
        better = (logits > own) | ((logits == own) & (ids < tokens))
        inside = self._write((own > logits[:, -1:]) | (raw.columns <= logits.shape[1]))
        count, which = self._write(better.sum(-1, keepdim=True)), self._write(tokens)

        def rank(row: int) -> int:
            if inside.number(row):
                return int(count.number(row))
            return rank_among(raw.logits[row], int(which.number(row)))

        return self.probs(raw, tokens), rank

    def _write(self, part: Tensor) -> Place:
        """Take in a tensor [R, w]."""
        place = Place(self._numbers, self._size, part.shape[1])
        self._parts.append(part.reshape(-1))
        self._size += part.numel()
        return place

    # -- on the host ---------------------------------------------------------------------------------------------------

    def read(self) -> None:
        self._numbers += torch.cat([*self._parts, self._parts[0].new_empty(0, dtype=torch.float64)]).tolist()
        self._parts.clear()

    def _facts_of(self, dist: Dist, row: int, text: Callable[[int], str]) -> Facts:
        found = self._found[id(dist)]
        at = found.offset + row
        logits, ids, likely = (place.some(at, found.shown) for place in (found.logits, found.ids, found.likely))
        if not found.ordered:
            if found.shown == SHOWN and logits[self.count - 1] == logits[-1] > -math.inf:
                logits, ids, likely = self._tied(dist, row, logits[-1])
            order = sorted(range(len(ids)), key=lambda i: (-logits[i], ids[i]))[: self.count]
            logits, ids, likely = ([part[i] for i in order] for part in (logits, ids, likely))
        kept = dist.columns if found.kept is None else int(found.kept.number(at))
        return Facts(kept, found.entropy.number(at), candidates(logits, ids, likely, text))

    def _tied(self, dist: Dist, row: int, least: float) -> tuple[list[float], list[float], list[float]]:
        """(logits, ids, probabilities) of what is better than ``least``, and of the first that have just that logit."""
        own = dist.logits[row]
        columns = torch.cat([(own > least).nonzero()[:, 0], (own == least).nonzero()[: self.count, 0]])
        ids = columns if dist.ids is None else dist.ids[row, columns]
        return own[columns].tolist(), ids.tolist(), dist.probs[row, columns].tolist()


def rank_among(logits: Tensor, token: int) -> int:
    """How many tokens are better than this one: logits [V], ties to the lower id."""
    own = logits[token]
    return int((logits[:token] >= own).sum() + (logits[token + 1 :] > own).sum())


def _entropy(logits: Tensor, top: Tensor, probs: Tensor, most: Tensor) -> Tensor:
    """float32 [R, 1], in nats: log Z - sum p (l - top), where Z is 1 / p of the best token."""
    shifted = (logits - top).clamp_(min=_LEAST)  # a removed token has p = 0, and no infinity to multiply it by
    return 0.0 - shifted.mul_(probs).sum(-1, keepdim=True).add_(most.log())  # and not -0 for one token


__all__ = ["FEW", "HEAD", "SHOWN", "TensorBook", "rank_among"]
