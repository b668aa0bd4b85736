"""What a trace says of distributions, for all rows at once: computed on the device, read by the host in one transfer.

On a CPU a step's account costs what its calls cost, so the few columns that stages leave are worked on together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .dist import Dist
from .session import Visit

#: (token, text, probability)
Candidate = tuple[int, str, float]
#: where a tensor of some rows stands among all that is read: (first, how many numbers a row); None: nothing but 0
Place = tuple[int, int] | None

HEAD = 64  # so many of its best candidates are found of a Dist of many columns
SHOWN = 16  # and so many looked at for those that are listed, so that most ties among them are seen
FEW = 1024  # columns up to which Dists of one size are measured together
_LEAST = -104.0  # e^-104 is 0 in float32


@dataclass(frozen=True)
class Facts:
    """One row of one Dist: how many candidates are left, the entropy in nats, and the likeliest."""

    kept: int
    entropy: float
    top: tuple[Candidate, ...]


@dataclass(frozen=True)
class _Measured:
    """One Dist in the book. ``offset``: where its rows begin in what was measured together."""

    probs: Tensor | None  # float32 [R, C], in the order of ``columns``; None for the Dist's own
    offset: int
    kept: Place  # where None: every column
    entropy: Place
    logits: tuple[int, int]  # of its best candidates
    likely: tuple[int, int]
    ids: tuple[int, int]
    ordered: bool  # whether those candidates are in order, ties to the lower id, and those that are listed first


class Book:
    """The numbers of one step of a session. ``count``: how many candidates are listed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._heads: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of a Dist: see ``head``
        self._dists: dict[int, Dist] = {}  # held, so that an id is not given to another
        self._found: dict[int, _Measured] = {}
        self._ids: dict[int, Tensor] = {}  # of Dists of few columns: the id of each
        self._facts: dict[tuple[int, int], Facts] = {}
        self._parts: list[Tensor] = []
        self._size = 0
        self._numbers: list[float] = []

    # -- on the device -------------------------------------------------------------------------------------------------

    def measure(self, raw: Dist, visits: Sequence[Visit]) -> None:
        """Take in every Dist of a step. What one stage leaves is what the next is given: each is measured once."""
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
        """The head behind a stage that keeps the order is the head before it, with other logits.

        Some may tie now, and others with the last of them: where it is cheap to look, it is left to ``head`` then.
        """
        before, after = visit.before, visit.after
        if visit.stage.monotone and before.ids is None and after.ids is None and after.untouched:
            _, ids = self.head(before)
            values = after.logits.gather(-1, ids)
            if after.moments is None or not bool((values[:, 1:] == values[:, :-1]).any()):
                self._heads[id(after)] = values, ids

    def head(self, dist: Dist) -> tuple[Tensor, Tensor]:
        """(logits, ids), [R, HEAD] each: the best candidates from the best down, any of those that tie for the last."""
        if id(dist) not in self._heads:
            if dist.moments is None:  # there are no kernels
                values, columns = dist.logits.topk(min(HEAD, dist.columns), -1)
                ids = dist.tokens_at(columns)
            elif dist.is_sorted:
                values, ids = dist.ranked_logits[:, :HEAD], dist.tokens_at(dist.order[:, :HEAD])
            else:
                values, ids = dist.narrow(HEAD).candidates
            self._heads[id(dist)] = values, ids
        return self._heads[id(dist)]

    def _wide(self, dist: Dist) -> None:
        """A Dist of many columns by itself."""
        moments = dist.moments
        logits, ids = (part[:, : SHOWN if moments is None else self.count] for part in self.head(dist))
        if moments is None:
            likely = dist.probs.gather(-1, ids if dist.ids is None else dist.columns_of(ids)[0])
            entropy = _entropy(dist.logits, logits[:, :1], dist.probs, likely[:, :1])
        else:
            whole, distance = moments
            likely = (logits.double() - logits[:, :1]).exp_().div_(whole).float()
            entropy = whole.log().add_(distance).float()
        kept = None if dist.untouched else self.write(dist.kept)
        places = self.write(entropy), self.write(logits), self.write(likely), self.write(ids)
        self._found[id(dist)] = _Measured(None, 0, kept, *places, ordered=moments is not None)

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
        counted = self.write(kept)
        places = self.write(entropy), self.write(logits), self.write(likely), self.write(ids)
        offset = 0
        for dist in dists:
            rows = slice(offset, offset + dist.rows)
            self._found[id(dist)] = _Measured(probs[rows], offset, counted, *places, ordered=True)
            self._ids[id(dist)] = columns[rows]
            offset += dist.rows

    def prob(self, dist: Dist, tokens: Tensor) -> Tensor:
        """float32 [R, 1]: the probability of tokens (int64 [R, 1]) in a Dist; 0 for what it does not hold."""
        ids = self._ids.get(id(dist))
        if ids is not None:
            return self._probs(dist).masked_fill(ids != tokens, 0.0).sum(-1, keepdim=True)
        if dist.ids is None and (moments := dist.moments) is not None:
            own = dist.logits.gather(-1, tokens).double() - dist.max_logit
            return own.exp_().div_(moments[0]).float()
        return dist.probs.gather(-1, tokens) if dist.ids is None else dist.logprob_of(tokens).exp()

    def _probs(self, dist: Dist) -> Tensor:
        """float32 [R, C], in the order of the candidates of a ranked Dist, else of the columns."""
        measured = self._found[id(dist)].probs
        return dist.probs if measured is None else measured

    def change(self, visit: Visit) -> tuple[Place, Place]:
        """The probability, before the stage, of what it removed; and whether a row was rescued."""
        rescued = None if visit.after.rescued is None else self.write(visit.after.rescued)
        removed = None if visit.after is visit.before else self._removed(visit.before, visit.after)
        return None if removed is None else self.write(removed), rescued

    def _removed(self, before: Dist, after: Dist) -> Tensor | None:
        """float32 [R, 1]: the probability in ``before`` of what ``after`` does not hold. None for nothing at all."""
        if before.ids is None and after.ids is None:
            return None if after.untouched else before.probs.masked_fill(after.alive, 0.0).sum(-1, keepdim=True)
        probs = self._probs(before)
        if before.is_ranked and after.is_ranked and before.candidates[1] is after.candidates[1]:
            return probs.masked_fill(after.candidates[0] > -math.inf, 0.0).sum(-1, keepdim=True)
        if before.ids is None:
            logits, ids = after.candidates if after.is_ranked else (after.logits, after.token_ids())
            gone = before.probs.gather(-1, ids).masked_fill_(logits > -math.inf, 0.0)
            return before.probs.scatter(-1, ids, gone).sum(-1, keepdim=True)
        alive = torch.zeros(before.rows, before.vocab_size, dtype=torch.bool, device=before.device)
        alive.scatter_(1, after.token_ids(), after.alive)
        return before.probs.masked_fill(alive.gather(-1, before.ids), 0.0).sum(-1, keepdim=True)

    def write(self, part: Tensor) -> tuple[int, int]:
        """Take in a tensor [R, w]."""
        place = self._size, part.shape[1]
        self._parts.append(part.reshape(-1))
        self._size += part.numel()
        return place

    # -- on the host ---------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """The one transfer."""
        self._numbers = torch.cat([*self._parts, self._parts[0].new_empty(0, dtype=torch.float64)]).tolist()

    def numbers(self, place: tuple[int, int], row: int) -> list[float]:
        """What was written of one row."""
        first = place[0] + row * place[1]
        return self._numbers[first : first + place[1]]

    def number(self, place: Place, row: int) -> float:
        """The one number that was written of a row."""
        return 0.0 if place is None else self._numbers[place[0] + row]

    def facts(self, dist: Dist, row: int, text: Callable[[int], str]) -> Facts:
        """What is said of one row of a Dist."""
        key = id(dist), row
        if key not in self._facts:
            self._facts[key] = self._facts_of(dist, row, text)
        return self._facts[key]

    def _facts_of(self, dist: Dist, row: int, text: Callable[[int], str]) -> Facts:
        found = self._found[id(dist)]
        at = found.offset + row
        logits, ids, likely = (self.numbers(place, at) for place in (found.logits, found.ids, found.likely))
        if not found.ordered:
            if len(logits) == SHOWN and logits[self.count - 1] == logits[-1] > -math.inf:
                logits, ids, likely = self._tied(dist, row, logits[-1])
            order = sorted(range(len(ids)), key=lambda i: (-logits[i], ids[i]))[: self.count]
            logits, ids, likely = ([part[i] for i in order] for part in (logits, ids, likely))
        tokens = [int(token) for token in ids]
        top = tuple(
            (token, text(token), p) for logit, token, p in zip(logits, tokens, likely, strict=True) if logit > -math.inf
        )
        kept = dist.columns if found.kept is None else int(self.number(found.kept, at))
        return Facts(kept, self.number(found.entropy, at), top)

    def _tied(self, dist: Dist, row: int, least: float) -> tuple[list[float], list[float], list[float]]:
        """(logits, ids, probabilities) of what is better than ``least``, and of the first that have just that logit."""
        own = dist.logits[row]
        columns = torch.cat([(own > least).nonzero()[:, 0], (own == least).nonzero()[: self.count, 0]])
        ids = columns if dist.ids is None else dist.ids[row, columns]
        return own[columns].tolist(), ids.tolist(), dist.probs[row, columns].tolist()


def _entropy(logits: Tensor, top: Tensor, probs: Tensor, most: Tensor) -> Tensor:
    """float32 [R, 1], in nats: log Z - sum p (l - top), where Z is 1 / p of the best token."""
    shifted = (logits - top).clamp_(min=_LEAST)  # a removed token has p = 0, and no infinity to multiply it by
    return shifted.mul_(probs).sum(-1, keepdim=True).add_(most.log()).neg_()
