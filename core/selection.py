"""Finding the few tokens that matter among a whole vocabulary, and drawing one, without putting all of it in order.

The functions named ``fast`` are for a CPU: they look at values to take a shorter way, which costs a device a wait. What
they return is what the plain ones return.
"""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 96  # columns a block, in kernels/rows.h, too
_REMOVED = -3.5e38  # below every float32


def in_order(logits: Tensor, ids: Tensor, *, looks: bool) -> tuple[Tensor, Tensor]:
    """Candidates ([R, C]) whose logits have changed, best first again, ties to the lower id; what was removed last.

    ``looks``: whether looking for a row that is not in order is free. The same ``ids`` where there is none.
    """
    if looks:
        this, behind = logits[:, :-1], logits[:, 1:]
        tied = (behind == this) & (ids[:, 1:] < ids[:, :-1]) & (this > float("-inf"))
        if not bool(((behind > this) | tied).any()):
            return logits, ids
    ids, by_id = ids.sort(-1)
    logits, order = logits.gather(-1, by_id).sort(dim=-1, descending=True, stable=True)
    return logits, ids.gather(-1, order)


# -- the best k --------------------------------------------------------------------------------------------------------


def best(values: Tensor, k: int) -> Tensor:
    """int64 [R, k]: columns of the k largest of ``values`` (float32 [R, C]), best first, ties to the lower column.

    ``torch.topk`` promises no order among ties, so it is given keys without any.
    """
    return _keys(values).topk(k, dim=-1).indices


def _keys(values: Tensor) -> Tensor:
    """int64 [R, C]: the float's bits as an integer of the same order, and below them the column, counted downwards."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 makes one zero of two
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats descend with their bits
    return (ascending.long() << 32) - torch.arange(values.shape[-1], device=values.device)


def tops(values: Tensor) -> Tensor:
    """float32 [R, C // WIDTH]: the largest value of each block of WIDTH columns, without what is left at the end."""
    return _blocks(values).amax(-1)


def fast_best(values: Tensor, k: int, maxima: Tensor | None) -> tuple[Tensor, Tensor]:
    """(the k largest of ``values``, float32 [R, k], and their columns, int64 [R, k]), as ``best`` orders them; k < C.

    A row's k best lie in those k of its blocks that have the best maxima: of every other block there are k tokens that
    are better than all of it. That leaves few columns to select from. With one more than k a look tells whether there
    are ties to be put in order; 16-bit logits, which are full of them, need no such look. ``maxima``: the ``tops`` of
    values, or None for few columns.
    """
    if maxima is not None and maxima.shape[1] < 4 * (k + 1):  # too few blocks to leave many of them out
        maxima = None
    many, whole = len(values) > 1, values.shape[1] % WIDTH == 0 and values.is_contiguous()
    tied = maxima is not None and many and _of_16_bits(maxima)
    if maxima is not None and whole and (tied or not many):
        found = _over_maxima(values, k, maxima)
        if found is not None:
            return found
    elif not tied:
        top, columns = _in_blocks(values, k + 1, maxima)
        if not bool((top[:, 1:] == top[:, :-1]).any()):
            return top[:, :k], columns[:, :k]
    columns = _tied_in_blocks(values, k, maxima)
    return values.gather(-1, columns), columns


def _blocks(values: Tensor) -> Tensor:
    """A view [R, C // WIDTH, WIDTH]."""
    count = values.shape[1] // WIDTH
    blocks: Tensor = values[:, : count * WIDTH].unflatten(1, (count, WIDTH))
    return blocks


def _in_blocks(values: Tensor, k: int, maxima: Tensor | None) -> tuple[Tensor, Tensor]:
    """(values, columns) of the k largest, descending, in any order among ties."""
    if maxima is None:
        top = values.topk(k, dim=-1)
        return top.values, top.indices
    chosen = maxima.topk(k, dim=-1, sorted=False).indices  # [R, k]
    candidates, firsts = _candidates(values, chosen)
    found, at = candidates.topk(k, dim=-1)
    return found, firsts.gather(1, at // WIDTH) + at % WIDTH


def _over_maxima(values: Tensor, k: int, maxima: Tensor) -> tuple[Tensor, Tensor] | None:
    """``fast_best`` of whole blocks: in each row what is no less than the k-th best of its maxima, put in order.

    Ties are among them as they come. None where there are many.
    """
    rows, count = maxima.shape
    least = maxima.topk(k, dim=-1).values[:, -1:]
    chosen = (maxima < least).logical_not_().view(-1).nonzero()[:, 0]  # NaN too, which is the best of all
    if len(chosen) > 2 * k * rows:
        return None
    inside = values.view(-1, WIDTH).index_select(0, chosen)
    floor = least if rows == 1 else least.take(chosen // count)[:, None]
    at = (inside < floor).logical_not_().view(-1).nonzero()[:, 0]
    if len(at) > 4 * k * rows:
        return None
    found, block = inside.view(-1).index_select(0, at), at // WIDTH
    places = (chosen.index_select(0, block) - block).mul_(WIDTH).add_(at)  # row * C + column, ascending
    if rows == 1:
        found, order = found.sort(descending=True, stable=True)
        return found[None, :k], places.index_select(0, order[:k])[None]
    row = places // values.shape[1]
    counts = torch.bincount(row, minlength=rows)
    firsts = counts.cumsum(0) - counts
    most = int(counts.max())
    ranks = torch.arange(len(row)) + (torch.arange(rows) * most - firsts).index_select(0, row)
    table = values.new_full((rows * most,), float("-inf")).index_copy_(0, ranks, found).view(rows, most)
    found, order = table.sort(dim=-1, descending=True, stable=True)
    columns = places.take(order[:, :k] + firsts[:, None]) - torch.arange(rows)[:, None] * values.shape[1]
    return found[:, :k], columns


def _tied_in_blocks(values: Tensor, k: int, maxima: Tensor | None) -> Tensor:
    """``best``, by blocks: of blocks with the same maximum the earlier one counts as the better."""
    if maxima is None:
        return best(values, k)
    top = maxima.topk(k + 1, dim=-1)
    columns = _of_blocks(values, k, top.indices[:, :k])
    last = top.values[:, k - 1 : k]  # a block that was left out for another of the same maximum may hold a tie of it
    if bool(((last == top.values[:, k:]) & (values.gather(1, columns[:, -1:]) == last)).any()):
        columns = _of_blocks(values, k, best(maxima, k))
    return columns


def _of_blocks(values: Tensor, k: int, chosen: Tensor) -> Tensor:
    """``best`` of the columns of the chosen blocks (int64 [R, k])."""
    candidates, firsts = _candidates(values, chosen.sort(-1).values)  # in the order of their ids
    at = _apart(candidates).topk(k, dim=-1).indices
    return firsts.gather(1, at // WIDTH) + at % WIDTH


def _of_16_bits(values: Tensor) -> bool:
    """Whether all of them come from bfloat16 or float16: a model's logits in those are full of ties."""
    return not bool((values.view(torch.int32) & 0x1FFF).any())


def _apart(values: Tensor) -> Tensor:
    """float64 [R, n] of the same order as ``values`` (float32), in which of equals the earlier is the larger.

    A float32 leaves 29 bits of a float64 empty: the place goes there. It takes half the time of integer keys.
    """
    wide = (0.0 - values.double().clamp_(min=_REMOVED)).neg_()  # -inf has no room below it; +0 becomes -0, which has
    bits = wide.view(torch.int64)
    places = torch.arange(values.shape[-1], device=values.device)
    return torch.where(bits < 0, bits + places, bits - places).view(torch.float64)


def _candidates(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """(the values of the chosen blocks and of what is left at the end, [R, n], and each block's first column)."""
    blocks = _blocks(values)
    rows, count = blocks.shape[:2]
    if count * WIDTH == values.shape[1] and values.is_contiguous():
        which = chosen + torch.arange(0, rows * count, count)[:, None]
        return values.view(-1, WIDTH).index_select(0, which.view(-1)).view(rows, -1), chosen * WIDTH
    inside = blocks[torch.arange(rows)[:, None], chosen].reshape(rows, -1)
    ends = torch.full((rows, 1), count, dtype=torch.int64)
    return torch.cat([inside, values[:, count * WIDTH :]], -1), torch.cat([chosen, ends], -1) * WIDTH


def ranks(rows: Tensor, counts: Tensor) -> Tensor:
    """int64 [n]: of entries whose ``rows`` (int64 [n]) ascend, ``counts`` (int64 [R]) in each, the place in its row."""
    return torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]


# -- the draw ----------------------------------------------------------------------------------------------------------


def position(weights: Tensor, uniform: Tensor) -> Tensor:
    """int64 [R, 1]: the column at which the running sum of ``weights`` (float64 [R, C]) exceeds u times the whole."""
    cumulative = weights.cumsum(-1)  # [R, C]
    total = cumulative[:, -1:].contiguous()
    column = torch.searchsorted(cumulative, uniform * total, right=True)  # first column whose sum exceeds u * total
    last = torch.searchsorted(cumulative, total)  # the last column with mass: what rounding could step over
    return torch.minimum(column, last).clamp_(max=weights.shape[-1] - 1)


__all__ = ["WIDTH", "best", "fast_best", "position", "ranks", "tops"]
