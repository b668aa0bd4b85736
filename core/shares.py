"""Probabilities in float32 with the sums of their blocks: draws and nuclei by sums, in float64 where those are near.

What sums of float32 probabilities are off by is bounded (``slack``). Wherever a decision lies closer than that, the row
is worked out again in float64, so that what comes out is what float64 alone would have given. For a CPU: all of it
looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .kernels.choosing import NOT_FOUND, Choosing, Look, choosing
from .kernels.choosing import ROUGH as UNSURE
from .selection import WIDTH, position, ranks, tops

ROUGH, COARSE = 1e-7, 1e-6  # what sums are off by at most: of the whole, and of the heaviest block, summed in float32
EDGE = 3e-5  # of themselves: probabilities farther apart than this are surely in the order of their logits
TAKEN, EVERY = 16, 512  # columns of so many that a cut is first guessed from: what memory gives at once
BINS, SPAN = 512, 32.0  # nats, in bins, below the best; e^-SPAN is nothing in float32
GUESSES, STEP = 40, 2.0  # how many guesses are made, and how far from one another, in nats
MARGIN, OVERSHOOT = 12, 0.1  # how far beyond the cut a guess aims: tokens, and of what the last one was off by
CROWD = 160  # tokens between two guesses that are few enough to be put in order
TIED = 2e-3  # nats between two guesses: what is closer is not told apart by them
_LEAST = 1e-30  # a probability that float32 holds with all its digits


@dataclass(frozen=True)
class Shares:
    """Probabilities of R rows over C columns: of all tokens, or of what a nucleus has left of them.

    logits and probs: float32 [R, C], of all tokens; sums: float64 [R, n], of what is left in each block of WIDTH
    columns, the last one shorter; tops: the `selection.tops` of logits; floor: float32 [R, 1], the least logit that is
    left, or None where all are; without: (rows, columns) of those that tie with it and are not left; of_all: the shares
    of all tokens, of which this is what is left; ends: float32 [R, 2], the least and the largest logit, where kernels
    work on them.
    """

    logits: Tensor
    probs: Tensor
    sums: Tensor
    tops: Tensor
    floor: Tensor | None = None
    without: tuple[Tensor, Tensor] | None = None
    of_all: Shares | None = None
    ends: Tensor | None = None

    @classmethod
    def of(cls, logits: Tensor, maxima: Tensor | None = None) -> Shares:
        """Of float32 logits [R, C], all of them. ``maxima``: their `selection.tops`, where those are known."""
        kernels = choosing()
        if kernels is not None:
            return cls.by(kernels, logits, None)[0]
        probs = torch.softmax(logits, -1)
        return cls(logits, probs, block_sums(probs), tops(logits) if maxima is None else maxima)

    @classmethod
    def by(cls, kernels: Choosing, logits: Tensor, look: Look | None) -> tuple[Shares, Look]:
        """``of``, by kernels, and the look at the logits that this took where there was none."""
        logits = logits.contiguous()
        probs, sums, facts, look = kernels.shares(logits, look)
        shares = cls(logits, probs, sums, look.maxima, ends=look.ends)
        shares.__dict__.update(whole=facts[:, :1], slack=ROUGH * facts[:, :1] + COARSE * facts[:, 1:2])
        shares.__dict__["best"] = facts[:, 2:].float()
        return shares, look

    @cached_property
    def whole(self) -> Tensor:
        """float64 [R, 1]: the sum of what is left."""
        return self.sums.sum(-1, keepdim=True)

    @cached_property
    def best(self) -> Tensor:
        """float32 [R, 1]: the probability of the best token."""
        block = self.tops.argmax(-1, keepdim=True)
        columns = block * WIDTH + torch.arange(WIDTH)
        rest = self.probs[:, self.tops.shape[1] * WIDTH :]
        return torch.cat([self.probs.gather(1, columns), rest], -1).amax(-1, keepdim=True)

    @cached_property
    def slack(self) -> Tensor:
        """float64 [R, 1]: how far any sum of probabilities may be off, in either direction.

        In a nucleus too: what is left of a sum has all the error of that sum.
        """
        if self.of_all is not None:
            return self.of_all.slack
        return ROUGH * self.whole + COARSE * self.sums.amax(-1, keepdim=True)

    def mask(self, rows: slice = slice(None)) -> Tensor:
        """bool [R, C]: what is left in some rows."""
        logits = self.logits[rows]
        if self.floor is None or self.without is None:
            return torch.ones_like(logits, dtype=torch.bool)
        inside = logits >= self.floor[rows]
        row, column = self.without
        every = torch.zeros(len(self.logits), dtype=torch.int64)
        every[rows] = torch.arange(1, 1 + len(logits))  # where each row of all is among these
        here = every[row] > 0
        inside[every[row[here]] - 1, column[here]] = False
        return inside

    def position(self, uniform: Tensor) -> Tensor:
        """As `selection.position` of what is left: int64 [R, 1] for float64 [R, 1]."""
        found, apart = self._by_sums(uniform)
        sure = apart > self.slack  # which NaN is not
        if not bool(sure.all()):
            for row in (~sure)[:, 0].nonzero()[:, 0].tolist():
                only = slice(row, row + 1)
                found[only] = position(self.exact(row)[None].mul_(self.mask(only)), uniform[only])
        return found

    def _by_sums(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """(``position`` by rough sums, and how far that is from another one, float64 [R, 1])."""
        kernels = choosing() if self.ends is not None else None
        if kernels is not None:
            without = None if self.without is None else torch.stack(self.without)
            return kernels.position(self.logits, self.probs, self.sums, self.floor, without, uniform.contiguous())
        until = self.sums.cumsum(-1)
        target = uniform * until[:, -1:]
        block = torch.searchsorted(until, target, right=True).clamp_(max=until.shape[1] - 1)  # [R, 1]
        before = until.gather(1, block) - self.sums.gather(1, block)
        places, weights = self._block(block)
        within = weights.cumsum(-1).add_(before)
        at = torch.searchsorted(within, target, right=True).clamp_(max=WIDTH - 1)
        found = places.gather(1, at)
        apart = torch.minimum((within - target).abs_().amin(-1, keepdim=True), target - before)
        return found, apart

    def exact(self, row: int) -> Tensor:
        """float64 [C]: the probabilities of all of a row's tokens."""
        return torch.softmax(self.logits[row].double(), -1)

    def _block(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """(columns int64, probabilities float64 of what is left), [R, WIDTH] each, of a block a row; 0 past the end."""
        places = block * WIDTH + torch.arange(WIDTH)
        columns = places.clamp(max=self.logits.shape[1] - 1)
        weights = self.probs.gather(1, columns).double().mul_(places == columns)
        if self.floor is not None and self.without is not None:
            weights *= self.logits.gather(1, columns) >= self.floor
            row, column = self.without
            here = column // WIDTH == block[row, 0]
            weights[row[here], column[here] % WIDTH] = 0.0
        return columns, weights

    def nucleus(self, share: Tensor) -> Shares | None:
        """The tokens for which less than ``share`` (float32 [R, 1], above 0) of the mass is ranked above them.

        Ties to the lower id; the mass above is compared in float32. None where a row holds what is no number.
        """
        if not bool((torch.isfinite(self.sums[:, :1]) & (share > 0)).all()):
            return None
        kernels = choosing() if self.ends is not None else None
        return _Cuts(self, share).found() if kernels is None else _by_kernels(kernels, self, share)


def _by_kernels(kernels: Choosing, shares: Shares, share: Tensor) -> Shares:
    """A nucleus whose ends kernels found; rows in which one is not sure are worked out as `_Cuts` does."""
    assert shares.ends is not None
    found = kernels.nucleus(
        shares.logits, shares.probs, shares.ends, share, shares.whole, shares.slack, shares.best, GUESSES
    )
    floor, sums, without = found.edges[:, :1].contiguous(), found.sums, []
    for row, (known, near, count, tied) in enumerate(found.counts.tolist()):
        members = found.members[row, :near]
        if known == UNSURE:
            count = _exactly(shares, share, row, members, float(found.edges[row, 1]))
            if 0 < count < near:
                inside, logits = members[:count], shares.logits[row, members]
                sums[row].index_add_(0, inside // WIDTH, shares.probs[row, inside].double())
                floor[row], tied = logits[count - 1], int((logits >= logits[count - 1]).sum())
        if known == NOT_FOUND or (known == UNSURE and not 0 < count < near):
            floor[row], others = _in_order(shares, share, row, sums[row])
        else:
            others = members[count:tied]
        if len(others):
            without.append((torch.full_like(others, row), others))
    empty = torch.empty(0, dtype=torch.int64)
    rows, columns = (torch.cat(each) for each in zip(*without, strict=True)) if without else (empty, empty)
    return Shares(shares.logits, shares.probs, sums, shares.tops, floor, (rows, columns), shares, shares.ends)


def _exactly(shares: Shares, share: Tensor, row: int, columns: Tensor, high: float) -> int:
    """How many of ``columns`` are in; before them comes all that is no less probable than ``high``."""
    mass = shares.exact(row)
    mine = mass[columns]
    above = torch.dot(mass, (shares.probs[row] >= high).double())
    return int(((above + mine.cumsum(0) - mine).float() < share[row]).sum())


def _in_order(shares: Shares, share: Tensor, row: int, sums: Tensor) -> tuple[Tensor, Tensor]:
    """(the least logit that is in, the columns that tie with it and are not) of all of a row; writes its sums."""
    logits, order = shares.logits[row].sort(descending=True, stable=True)
    mine = shares.exact(row)[order]
    count = int(((mine.cumsum(0) - mine).float() < share[row]).sum())
    sums.zero_().index_add_(0, order[:count] // WIDTH, mine[:count])
    last = logits[count - 1]
    return last, order[count:][logits[count:] == last]


def block_sums(values: Tensor) -> Tensor:
    """float64 [R, n] of float32 [R, C]: of blocks of WIDTH columns, each summed in float32; the last one is shorter."""
    count = values.shape[1] // WIDTH
    sums = values[:, : count * WIDTH].unflatten(1, (count, WIDTH)).sum(-1)
    rest = values[:, count * WIDTH :]
    return torch.cat([sums, rest.sum(-1, keepdim=True)], -1).double() if rest.shape[1] else sums.double()


def _guesses(shares: Shares, share: Tensor) -> tuple[Tensor, Tensor]:
    """(how far below the best logit the cut is, and the part of the mass a nat there), float32 [R] each, from a sample.

    Of what lies below the cut, since that is many tokens of little mass each: a sample knows it well.
    """
    probs = shares.probs
    every = min(EVERY, probs.shape[1])
    some = probs[:, : probs.shape[1] // every * every].unflatten(1, (-1, every))[..., :TAKEN].flatten(1)
    bins = (some / shares.best).log_().mul_(-BINS / SPAN).clamp_(max=BINS - 1).long()
    until = torch.zeros(len(some), BINS).scatter_add_(1, bins, some).cumsum_(-1)
    below = (until[:, -1:] - until) * (probs.shape[1] / some.shape[1])  # each bin
    below /= shares.whole
    at = (below > 1 - share).sum(-1, keepdim=True).clamp_(max=BINS - 1)
    lower, upper = (at - 4).clamp_(min=0), (at + 4).clamp_(max=BINS - 1)
    slope = (below.gather(1, lower) - below.gather(1, upper)) / ((upper - lower) * (SPAN / BINS))
    return ((at + 0.5) * (SPAN / BINS))[:, 0], slope.clamp_(min=1e-4)[:, 0]


class _Cuts:
    """The search for each row's cut: by what lies above a probability, then among the few tokens near to it."""

    def __init__(self, shares: Shares, share: Tensor) -> None:
        self.shares, self.share = shares, share
        rows, blocks = shares.sums.shape
        self.above = torch.zeros(rows, blocks)  # of what is more probable than the guess, by blocks
        self.room = torch.empty(rows, blocks * WIDTH)  # to work in, and then the tokens near the cut; 0 past the end
        self.room[:, shares.probs.shape[1] :] = 0.0

    def found(self) -> Shares:
        """What is left."""
        shares, share = self.shares, self.share
        whole = shares.whole
        depth, slope = _guesses(shares, share)
        guess = shares.best[:, 0].log() - depth
        numbers = zip(guess.tolist(), slope.tolist(), (share * whole)[:, 0].tolist(), strict=True)
        near = torch.tensor([self._near(row, *of_row) for row, of_row in enumerate(numbers)])
        return self._among(near[:, :1], near[:, 1:2], near[:, 2:], whole)

    def _near(self, row: int, at: float, slope: float, wanted: float) -> tuple[float, float, float]:
        """Leaves minus the probabilities of the tokens near a row's cut in its room.

        at: a guess of the logarithm of the probability at the cut; slope: the mass a nat there. Returns three
        probabilities: one below those near, the one that ``above`` belongs to, and one above those near; ones where
        none was found.
        """
        probs, inside = self.shares.probs[row], self.above[row]
        part, blocks = self.room[row, : len(probs)], self.room[row].view(-1, WIDTH)
        over, under = (-math.inf, math.inf), (math.inf, -math.inf)  # (guess, mass above it): too low, too high a guess
        before: tuple[float, float] | None = None
        for number in range(GUESSES):
            least = math.exp(at)
            if not _LEAST < least < 1:
                break
            torch.threshold(probs, least, 0.0, out=part)
            torch.sum(blocks, -1, out=inside)
            off = inside.sum(dtype=torch.float64).item() - wanted
            over, under = ((at, off), under) if off >= 0 else (over, (at, off))
            gap = over[1] - under[1]
            if gap < CROWD * least or under[0] - over[0] < TIED:
                low, high = math.exp(over[0] - TIED / 8), math.exp(under[0] + TIED / 8)
                if gap >= CROWD * least:  # taking so many from sums again would leave some of them
                    least = high
                    torch.threshold(probs, float(torch.nextafter(torch.tensor(high), torch.tensor(0.0))), 0.0, out=part)
                    torch.sum(blocks, -1, out=inside)
                torch.threshold(probs, low, 0.0, out=part)
                torch.threshold_(part.neg_(), -high, 0.0)
                return low, least, high
            if before is not None and (before[1] - off) * (at - before[0]) > 0:
                slope = (before[1] - off) / (at - before[0])
            before = at, off
            beyond = math.copysign(MARGIN * least, off) + OVERSHOOT * off  # the cut, to have it between two guesses
            at += min(max((off + beyond) / slope, -STEP), STEP)
            if gap < math.inf and (number % 8 > 5 or not over[0] < at < under[0]):
                at = (over[0] + under[0]) / 2
        part.zero_()
        return 1.0, 1.0, 1.0

    def _among(self, low: Tensor, middle: Tensor, high: Tensor, whole: Tensor) -> Shares:
        """The cuts among the tokens near them; a row whose cut is not surely there is put in order."""
        shares, share = self.shares, self.share
        row, column = self._members()
        counts = torch.bincount(row, minlength=len(whole))
        rank = ranks(row, counts)
        places = torch.arange(int(counts.max()) + 1)
        columns = torch.zeros(len(counts), len(places), dtype=torch.int64).index_put_((row, rank), column)
        logits = torch.full(columns.shape, float("-inf")).index_put_((row, rank), shares.logits[row, column])
        logits, order = logits.sort(dim=-1, descending=True, stable=True)  # they stand in the order of their ids
        columns, known = columns.gather(1, order), places < counts[:, None]
        probs = shares.probs.gather(1, columns).mul_(known)
        sums = self.above.double().scatter_add_(1, columns // WIDTH, torch.where(probs > middle, -probs, 0.0).double())
        before = sums.sum(-1, keepdim=True) + probs.cumsum(-1, dtype=torch.float64) - probs
        missing = before / whole - share
        count = ((missing < 0) & known).sum(-1, keepdim=True)
        ends = torch.cat([(count - 1).clamp_(min=0), count], -1)  # the last that is in, and the first that is not
        edges = probs.gather(1, ends)
        there = (count > 0) & (count < counts[:, None])
        there &= (edges[:, :1] < high * (1 - EDGE)) & (edges[:, 1:] > low * (1 + EDGE))
        rough = missing.gather(1, ends).abs_().amin(-1, keepdim=True) < shares.slack / whole
        if bool((rough & there).any()):
            for i in (rough & there)[:, 0].nonzero()[:, 0].tolist():
                count[i] = _exactly(shares, share, i, columns[i], float(high[i]))
            there &= (count > 0) & (count < counts[:, None])
        last = (count - 1).clamp_(min=0)
        inside = places < count
        floor, tied = logits.gather(1, last), known & ~inside & (logits == logits.gather(1, last))
        sums.scatter_add_(1, columns // WIDTH, (probs * inside).double())
        at, place = tied.nonzero(as_tuple=True)
        without = at, columns[at, place]
        for i in (~there)[:, 0].nonzero()[:, 0].tolist():
            floor[i], others = _in_order(shares, share, i, sums[i])
            mine = without[0] != i
            without = (
                torch.cat([without[0][mine], torch.full_like(others, i)]),
                torch.cat([without[1][mine], others]),
            )
        return Shares(shares.logits, shares.probs, sums, shares.tops, floor, without, shares)

    def _members(self) -> tuple[Tensor, Tensor]:
        """(rows, columns), int64 [n]: what is in the room, in that order."""
        near, width = self.room.view(-1, WIDTH), self.above.shape[1]
        held = near.sum(-1).nonzero()[:, 0]  # blocks
        place = near[held].nonzero()
        block = held[place[:, 0]]
        return block // width, block % width * WIDTH + place[:, 1]


__all__ = ["COARSE", "ROUGH", "Shares", "block_sums"]
