"""Cuts of a wide Dist, neither with all of it in order nor with all of it in float64.

A threshold is worked out from sums of float32 with a bound on what they are off by, again in float64 for a row in
which a token lies closer to it than that, and is given up where float64 does not decide either. A prefix of an order is
found by the sums of bins, and exactly inside the bin where it ends. What is decided here is what a stage decides that
works on all of it in float64; where None comes back, it has to. For a CPU: all of it looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .columns import NEG_INF
from .dist import Dist
from .selection import WIDTH
from .shares import block_sums

ROUGH = 5e-6  # nats that the logarithm of float32 sums of weights may be off by, where all their rounding adds up
ROUGH_ENTROPY = 2e-5  # the same of an entropy
FINE = 3e-7  # the same of either in float64, where stages compare what they have rounded to float32
DEEPEST = 60.0  # nats below the best: thresholds down to there are numbers that float32 holds with all its digits
LARGEST = 1e6  # logits below which a float64 holds a nat with FINE's digits
GONE = 800.0  # nats below the best: e^-800 is nothing in float64
TIGHT = 1e-10  # relative: what running sums of a vocabulary in float64, in any order, are off by at most
FEWER = 2  # of so many blocks one may hold something that stays, so that looking into those alone pays
RANKED = 2048  # tokens that are put in order where they stay
BINS, SCALE = 4096, 96.0  # how many bins a row's tokens are put in, and how many a nat; all beyond go into the last one


# -- sums over a vocabulary --------------------------------------------------------------------------------------------


class Sums:
    """Sums over the weights w = exp(l - max l) of a wide Dist, float64 [R, 1] each: rough ones, or ``settled``."""

    def __init__(self, dist: Dist, rough: float) -> None:
        self.dist = dist
        self.error = torch.full((dist.rows, 1), rough, dtype=torch.float64)  # nats, of a threshold made of them
        self._settled: dict[int, tuple[float, float, float]] = {}  # (total, mean distance, squares) of rows

    @property
    def total(self) -> Tensor:
        """The sum of the weights, 1 / p of the best token."""
        shares = self.dist.shares
        return self._with(shares.sums.sum(-1, keepdim=True) / shares.best, 0)

    @property
    def entropy(self) -> Tensor:
        """Shannon entropy in nats: the logarithm of the total, and the mean distance from the best logit."""
        shares, best = self.dist.shares, self.dist.max_logit
        moments = (best - self.dist.logits).clamp_(max=2 * DEEPEST).mul_(shares.probs)  # no 0 times inf
        mean = block_sums(moments).sum(-1, keepdim=True) / shares.sums.sum(-1, keepdim=True)
        return self.total.log() + self._with(mean, 1)

    @property
    def squares(self) -> Tensor:
        """The sum of the squared weights."""
        shares = self.dist.shares
        squares = block_sums(shares.probs.square()).sum(-1, keepdim=True)
        return self._with(squares / shares.best.double().square(), 2)

    def settle(self, rows: list[int]) -> None:
        """Have the sums of some rows in float64."""
        for row in rows:
            distance, weights = weighed(self.dist, row)
            total = weights.sum()
            sums = (total, torch.dot(weights, distance) / total, torch.dot(weights, weights))
            self._settled[row] = (float(sums[0]), float(sums[1]), float(sums[2]))
            self.error[row] = FINE

    def _with(self, rough: Tensor, which: int) -> Tensor:
        for row, sums in self._settled.items():
            rough[row] = sums[which]
        return rough


def weighed(dist: Dist, row: int) -> tuple[Tensor, Tensor]:
    """(distance from the best logit, at most GONE, and weight), float64 [C] each, of a row's tokens."""
    distance = dist.logits[row].double().sub_(dist.max_logit[row]).clamp_(min=-GONE)
    weights = distance.exp()
    return distance.neg_(), weights


def deviation(dist: Dist) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) of the logits that are left, float64 [R, 1] each; worked out in the cache, by rows."""
    means, squares = [], []
    for row in dist.logits:
        values = (row if dist.untouched else row[row != NEG_INF]).double()
        means.append(values.mean())
        values.sub_(means[-1])
        squares.append(torch.dot(values, values))
    return torch.stack(means)[:, None], (
        torch.stack(squares)[:, None] / (dist.columns if dist.untouched else dist.kept)
    ).sqrt_()


def keep_rows(dist: Dist, masks: list[Tensor]) -> Dist:
    """Keep what each row's mask (bool [C], true somewhere) has, narrowed to that where it is little in all of them."""
    kept = []
    for mask in masks:
        if int(mask.sum()) > RANKED:
            return dist.keep(torch.stack(masks))
        kept.append(mask.nonzero()[:, 0])
    counts = torch.tensor([len(columns) for columns in kept])
    rows, columns = torch.arange(dist.rows).repeat_interleave(counts), torch.cat(kept)
    return dist.keep_few(rows, columns, dist.logits[rows, columns], counts)


def cut_by_rows(
    dist: Dist, share: Any, towards: float, cut: Callable[[Dist, int, float], Tensor | None]
) -> list[Tensor] | None:
    """Each row's mask from ``cut(dist, row, aim)``, all of a row whose ``share`` is 1; None where one gives None.

    share: a number, or float32 [R, 1]; the aim is where what rounds to it ends, as in `halfway`.
    """
    shares = torch.as_tensor(share, dtype=torch.float32).expand(dist.rows, 1)
    masks = []
    for row, aim in enumerate(torch.where(shares < 1, halfway(shares, towards), math.inf)[:, 0].tolist()):
        mask = cut(dist, row, aim) if aim < math.inf else torch.ones(dist.columns, dtype=torch.bool)
        if mask is None:
            return None
        masks.append(mask)
    return masks


# -- thresholds --------------------------------------------------------------------------------------------------------


def keep_above(
    dist: Dist, depth: Callable[[Sums], Tensor], *, most: float = math.inf, rough: float = ROUGH
) -> Dist | None:
    """Keep the logits of at least the best one plus ``depth(sums)`` (float64 [R, 1], nats).

    ``most``: no depth is above it, so that rounding does not lift one there; 0 where the best tokens stay in any
    rounding. ``rough``: what a depth from rough sums may be off by. A row left with nothing keeps its best token. None
    for a Dist that is not wide, and where a token lies too close to the threshold.
    """
    if not dist.is_wide:
        return None
    sums = Sums(dist, rough)
    kept = _kept_above(dist, depth(sums), sums.error, most)
    if isinstance(kept, list):
        sums.settle(kept)
        kept = _kept_above(dist, depth(sums), sums.error, most)
    return None if isinstance(kept, list) else kept


def _kept_above(dist: Dist, depth: Tensor, error: Tensor, most: float) -> Dist | list[int] | None:
    """As ``keep_between``, of a depth with its error."""
    best = dist.max_logit.double()
    if not bool((((depth == NEG_INF) | (depth > -DEEPEST)) & (best.abs() < LARGEST)).all()):  # which NaN is not
        return None
    high = best + (depth + error).clamp_(max=most)
    return keep_between(dist, _up(best + (depth - error)), _up(high))


def keep_between(dist: Dist, low: Tensor, high: Tensor) -> Dist | list[int] | None:
    """Keep the logits of at least a threshold (of each row) from ``low`` to ``high`` (float32 [R, 1]), of a wide Dist.

    The rows that hold a logit from low to below high, where that is not decided; None for what is no number.
    """
    if not bool((high < math.inf).all()):
        return None
    maxima, logits = dist.block_maxima, dist.logits
    held = maxima >= low
    row, block = held.nonzero(as_tuple=True)  # the blocks to look into
    if len(row) * FEWER <= held.numel():
        rest = logits[:, maxima.shape[1] * WIDTH :]
        inside = logits[:, : maxima.shape[1] * WIDTH].unflatten(1, (-1, WIDTH))[row, block]  # [n, WIDTH]
        maybe, place = (inside >= low[row]).nonzero(as_tuple=True)
        rows, columns = row[maybe], block[maybe] * WIDTH + place
        if rest.shape[1]:
            more, place = (rest >= low).nonzero(as_tuple=True)
            rows, order = torch.cat([rows, more]).sort(stable=True)
            columns = torch.cat([columns, place + maxima.shape[1] * WIDTH])[order]
        values = logits[rows, columns]
        unsure = values < high[rows, 0]
        if bool(unsure.any()):
            return sorted(set(rows[unsure].tolist()))
        counts = torch.bincount(rows, minlength=dist.rows)
        if bool(counts.all()) and int(counts.max()) <= RANKED:
            return dist.keep_few(rows, columns, values, counts)
    keep, maybe = logits >= high, logits >= low
    if torch.equal(keep, maybe):
        return dist.keep(keep)
    unsure_rows: list[int] = (keep != maybe).any(-1).nonzero()[:, 0].tolist()
    return unsure_rows


def _up(values: Tensor) -> Tensor:
    """The least float32 that is no less than a float64."""
    near = values.float()
    return torch.where(near < values, torch.nextafter(near, torch.tensor(math.inf)), near)


def halfway(values: Tensor, towards: float) -> Tensor:
    """float64: where what rounds to these float32 ends, between them and their neighbours towards a number."""
    return (values.double() + torch.nextafter(values, torch.tensor(towards)).double()) / 2


# -- where an order is cut ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Near:
    """The bin of one row's tokens in which a running sum reaches its aim.

    ``before``: bool [C], the tokens of earlier bins; ``sums``: float64 [n, 1], theirs; ``columns``: int64, the tokens
    of the bin, ascending; ``low`` and ``high``: what their keys lie between, -inf and inf for the outermost bins.
    """

    before: Tensor
    sums: Tensor
    columns: Tensor
    low: float
    high: float

    def first(self, columns: Tensor) -> Tensor:
        """A bool [C]: the earlier ones and these of the bin."""
        return self.before.index_fill(0, columns, True)


def reached_in(keys: Tensor, amounts: tuple[Tensor, ...], reached: Callable[[Tensor], Tensor]) -> Near:
    """Of tokens in ascending order of ``keys`` (float64 [C], 0 or more): the bin where what is summed is enough.

    ``amounts``: n of float64 [C]; ``reached``: of sums [n, k], a bool [k] that turns true once and stays.
    """
    bins = (keys * SCALE).clamp_(max=BINS - 1).long()
    until = torch.zeros(len(amounts), BINS, dtype=torch.float64)
    for sums, amount in zip(until, amounts, strict=True):
        sums.scatter_add_(0, bins, amount)
    until.cumsum_(-1)
    at = min(int((~reached(until)).sum()), BINS - 1)
    return Near(
        bins < at,
        until[:, at - 1 : at] if at else torch.zeros_like(until[:, :1]),
        (bins == at).nonzero()[:, 0],
        at / SCALE if at else -math.inf,
        (at + 1) / SCALE if at < BINS - 1 else math.inf,
    )


__all__ = [
    "FEWER", "RANKED", "ROUGH_ENTROPY", "TIGHT", "Near", "Sums", "deviation", "halfway", "keep_above", "keep_between",
    "keep_rows", "reached_in", "weighed",
]  # fmt: skip
