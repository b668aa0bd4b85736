"""The Triton kernel of ``cuts``: one program a row, which reads the logits a few dozen times and writes the law once.

Nothing is sorted. A cut keeps the tokens above a logit, and of those that tie with it the ones up to an id, so it is a
pair (key of the logit, id). The k-th best token, or the one at which a share of the mass is reached, is searched for in
the integers that order float32 as the floats are ordered: each reading tries eight of them, and eleven settle 32 bits.
What a first k leaves is moved together, in the order of ids, and all that follows works on those few.

Mass is summed in float64, in an order that depends on nothing but the number of columns; so a row's token does not
depend on its neighbours. Divisions are IEEE's (Triton's ``/`` of float32 is not).

Importing this needs triton. With TRITON_INTERPRET=1 it runs on a CPU, slowly, for tests.
"""

# ruff: noqa: N803, N806, RUF059, SIM102  # the compiler's names in capitals; what a block holds; what is known when
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cuts import DIVIDE

BLOCK = 1024
WARPS = 8
SIGNATURE = {
    "logits": "*fp32", "parameters": "*fp32", "uniform": "*fp64", "law": "*fp32", "tokens": "*i64", "few": "*fp32",
    "few_ids": "*i32", "columns": "i32",
}  # fmt: skip
"""What the kernel takes, in Triton's words: to compile it where there is no GPU."""


def choose(
    logits: Tensor, uniform: Tensor, steps: Sequence[int], parameters: Tensor, few: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """(law float32 [R, V], -inf for what was cut; tokens int64 [R, 1] drawn from it by inverse CDF in id order).

    ``logits`` float32 [R, V], ``uniform`` float64 [R, 1] in [0, 1). ``steps``: what is done in order, by the numbers of
    ``cuts``, DIVIDE at most once; ``parameters`` float32 [R, len(steps)] are their T, k, p and ln p. ``few``: the place
    of a FIRST behind which there are at most so many tokens in any row. A row without a finite best logit gets a token
    that means nothing, and a law that shows it.
    """
    logits = logits.contiguous()
    rows, columns = logits.shape
    law = torch.empty_like(logits)
    tokens = torch.empty(rows, 1, dtype=torch.int64, device=logits.device)
    constants = constants_of(steps, few)
    held = logits.new_empty(rows, constants["FEW"] or 1)
    on_device = torch.cuda.device(logits.device) if logits.is_cuda else nullcontext()
    with on_device:  # a kernel is started on the current device
        _choose[(rows,)](
            logits, parameters.contiguous(), uniform.contiguous(), law, tokens, held,
            torch.empty_like(held, dtype=torch.int32), columns, **constants, num_warps=WARPS,
        )  # fmt: skip
    return law, tokens


def constants_of(steps: Sequence[int], few: tuple[int, int] | None) -> dict[str, int]:
    """What the kernel is compiled for."""
    return {
        "CODE": sum(step << (3 * place) for place, step in enumerate(steps)),
        "STEPS": len(steps),
        "DIVIDE_AT": list(steps).index(DIVIDE) if DIVIDE in steps else len(steps),
        "FEW_AT": -1 if few is None else few[0],
        "FEW": 0 if few is None else triton.next_power_of_2(few[1]),
        "BLOCK": BLOCK,
    }


@triton.jit
def _key(x):
    """int64: integers in the order of float32 ``x``; one for both zeros."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit
def _read(
    logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A block of columns: (ids, divided logits, their keys, which of them both cuts keep).

    Cut 0 was made before the division, cut 1 behind it, or where there is none.
    """
    ids = start + tl.arange(0, BLOCK)
    y = tl.load(logits + ids, mask=ids < columns, other=float("-inf"))
    kept = y > float("-inf")  # NaN is not: the row is at fault anyway
    if DIVIDED:
        before = _key(y)
        kept = kept & ((before > key0) | ((before == key0) & (ids <= id0)))
        y = tl.div_rn(y - shift, divisor + tl.zeros_like(y))
        kept = kept & (y > float("-inf"))
    key = _key(y)
    kept = kept & ((key > key1) | ((key == key1) & (ids <= id1)))
    return ids, y, key, kept


@triton.jit
def _weight(y, top, kept):
    """float64: exp(l - max l), 0 for what is not kept."""
    return tl.where(kept, tl.exp(y.to(tl.float64) - top.to(tl.float64)), 0.0)


@triton.jit
def _choose(
    logits, parameters, uniform, law, tokens, few, few_ids, columns,
    CODE: tl.constexpr, STEPS: tl.constexpr, DIVIDE_AT: tl.constexpr, FEW_AT: tl.constexpr, FEW: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * columns
    law += row * columns
    few += row * FEW
    few_ids += row * FEW

    best = tl.full([BLOCK], float("-inf"), tl.float32)
    for start in range(0, columns, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        x = tl.load(logits + ids, mask=ids < columns, other=float("-inf"))
        if FEW > 0:  # the few that stay are written at the end; NaN shows what happened to the row
            tl.store(law + ids, tl.where(x != x, x, float("-inf")), mask=ids < columns)
        best = tl.maximum(best, x)
    top = tl.max(best, 0)

    shift = tl.full([], 0.0, tl.float32)
    divisor = tl.full([], 1.0, tl.float32)
    everything = tl.full([], -1099511627776, tl.int64)  # below every key
    key0 = everything
    key1 = everything
    id0 = tl.full([], 0, tl.int32) + columns
    id1 = id0

    for place in tl.static_range(STEPS):
        value = tl.load(parameters + row * STEPS + place)
        if (CODE >> (3 * place)) & 7 == 1:  # DIVIDE
            key0 = key1
            id0 = id1
            key1 = everything
            id1 = tl.full([], 0, tl.int32) + columns
            divisor = value
            scaled = tl.div_rn(top, divisor)
            # A row whose best logit would overflow is moved first: the same distribution.
            overflows = (tl.abs(scaled) == float("inf")) & (tl.abs(top) < float("inf"))
            shift = tl.where(overflows, top, shift)
            top = tl.where(overflows, top - top, scaled)
        if (CODE >> (3 * place)) & 7 == 2:  # FIRST
            key1, id1 = _first(
                value.to(tl.int32), logits, columns, shift, divisor, key0, id0, key1, id1, top,
                place > DIVIDE_AT, BLOCK,
            )  # fmt: skip
        if place == FEW_AT:
            columns = _together(
                few, few_ids, logits, columns, shift, divisor, key0, id0, key1, id1, place > DIVIDE_AT, FEW, BLOCK
            )
            tl.debug_barrier()  # what other threads wrote is read from here on
            logits = few
            key0 = everything
            key1 = everything
            id0 = tl.full([], 0, tl.int32) + columns
            id1 = id0
        if (CODE >> (3 * place)) & 7 == 3:  # SHARE
            if value < 1.0:  # known to the kernel alone, unlike the line above
                key1, id1 = _share(
                    value, logits, columns, shift, divisor, key0, id0, key1, id1, top, place > DIVIDE_AT, BLOCK
                )
        if (CODE >> (3 * place)) & 7 == 4:  # ABOVE
            threshold = _key(top + value)
            id1 = tl.where(threshold > key1, tl.full([], 0, tl.int32) + columns, id1)
            key1 = tl.maximum(key1, threshold)

    DIVIDED: tl.constexpr = DIVIDE_AT < STEPS
    total = tl.full([], 0.0, tl.float64)
    for start in range(0, columns, BLOCK):
        ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
        if FEW > 0:
            tl.store(law + tl.load(few_ids + ids, mask=kept, other=0), y, mask=kept)
        else:
            tl.store(law + ids, tl.where(kept | (y != y), y, float("-inf")), mask=ids < columns)
        total += tl.sum(_weight(y, top, kept), 0)

    target = tl.load(uniform + row) * total
    running = tl.full([], 0.0, tl.float64)
    hit = tl.full([BLOCK], 2147483647, tl.int32)
    last = tl.full([BLOCK], 0, tl.int32)
    for start in range(0, columns, BLOCK):
        ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
        weight = _weight(y, top, kept)
        reached = running + tl.cumsum(weight, 0) > target
        hit = tl.minimum(hit, tl.where(reached & (weight > 0.0), ids, 2147483647))
        last = tl.maximum(last, tl.where(weight > 0.0, ids, 0))
        running += tl.sum(weight, 0)
    first = tl.min(hit, 0)
    found = tl.where(first < columns, first, tl.max(last, 0))  # rounding may leave the target unreached
    if FEW > 0:
        found = tl.load(few_ids + found, mask=columns > 0, other=0)
    tl.store(tokens + row, found.to(tl.int64))


@triton.jit
def _first(
    k, logits, columns, shift, divisor, key0, id0, key1, id1, top, DIVIDED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The cut that keeps the k best of what is kept, ties to the lower id."""
    places = tl.arange(0, 8)
    alive = tl.zeros([BLOCK], tl.int32)
    for start in range(0, columns, BLOCK):
        ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
        alive += kept.to(tl.int32)
    cut_key = key1
    cut_id = id1
    if tl.sum(alive, 0) > k:
        # at least k tokens have a key of low or more, fewer than k one of high or more
        low = tl.full([], -2147483648, tl.int64)
        high = _key(top) + 1
        more = tl.full([], 0, tl.int64)  # tokens with a key of high or more
        none = tl.full([], -1099511627776, tl.int64)
        just = none  # a key that k tokens reach, no more: nothing is left to settle
        while high - low > 1:
            pivots = low + (high - low) * (places + 1) // 9
            counts = tl.zeros([BLOCK, 8], tl.int32)
            for start in range(0, columns, BLOCK):
                ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
                counts += (kept[:, None] & (key[:, None] >= pivots[None, :])).to(tl.int32)
            found = tl.sum(counts, 0)  # [8]
            just = tl.max(tl.where(found == k, pivots, none), 0)
            enough = found >= k
            more = tl.maximum(more, tl.max(tl.where(enough, 0, found), 0).to(tl.int64))
            low = tl.max(tl.where(enough, pivots, low), 0)
            high = tl.where(just > none, low + 1, tl.min(tl.where(enough, high, pivots), 0))
        cut_key = low
        if just > none:
            cut_key = just
            cut_id = tl.where(just == key1, id1, tl.full([], 0, tl.int32) + columns)
        else:
            cut_id = tl.full([], -1, tl.int32)
            wanted = k - more.to(tl.int32)  # of those that tie with the k-th
            seen = tl.full([], 0, tl.int32)
            for start in range(0, columns, BLOCK):
                ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
                ties = (kept & (key == low)).to(tl.int32)
                order = seen + tl.cumsum(ties, 0)
                cut_id = tl.maximum(cut_id, tl.max(tl.where((ties > 0) & (order <= wanted), ids, -1), 0))
                seen += tl.sum(ties, 0)
    return cut_key, cut_id


@triton.jit
def _together(
    few, few_ids, logits, columns, shift, divisor, key0, id0, key1, id1, DIVIDED: tl.constexpr, FEW: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Moves what is kept together, as it was before the division, in the order of ids. Returns how many they are."""
    count = tl.full([], 0, tl.int32)
    for start in range(0, columns, BLOCK):
        ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
        one = kept.to(tl.int32)
        places = count + tl.cumsum(one, 0) - one
        fits = kept & (places < FEW)  # all do, as far as the host knows what it says
        x = tl.load(logits + ids, mask=fits, other=0.0)
        tl.store(few + places, x, mask=fits)
        tl.store(few_ids + places, ids, mask=fits)
        count += tl.sum(one, 0)
    return tl.minimum(count, FEW)


@triton.jit
def _share(
    p, logits, columns, shift, divisor, key0, id0, key1, id1, top, DIVIDED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The cut that keeps the tokens above which lies less than a share ``p`` of the mass, and the best one."""
    places = tl.arange(0, 8)
    masses = tl.zeros([BLOCK], tl.float64)
    for start in range(0, columns, BLOCK):
        ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
        masses += _weight(y, top, kept)
    total = tl.sum(masses, 0)
    # above high lies less than the share, above low it does not
    low = tl.full([], -2147483649, tl.int64)
    high = _key(top)
    above = tl.full([], 0.0, tl.float64)  # the mass above high
    while high - low > 1:
        pivots = low + (high - low) * (places + 1) // 9
        sums = tl.zeros([BLOCK, 8], tl.float64)
        for start in range(0, columns, BLOCK):
            ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
            weight = _weight(y, top, kept)
            sums += tl.where(key[:, None] > pivots[None, :], weight[:, None], 0.0)
        found = tl.sum(sums, 0)  # [8]
        less = (found / total).to(tl.float32) < p
        above = tl.maximum(above, tl.max(tl.where(less, found, 0.0), 0))
        high = tl.min(tl.where(less, pivots, high), 0)
        low = tl.max(tl.where(less, low, pivots), 0)
    cut_id = tl.full([], -1, tl.int32)
    seen = tl.full([], 0, tl.int32)
    for start in range(0, columns, BLOCK):
        ids, y, key, kept = _read(logits, start, columns, shift, divisor, key0, id0, key1, id1, DIVIDED, BLOCK)
        ties = (kept & (key == high)).to(tl.int32)
        better = seen + tl.cumsum(ties, 0) - ties  # ties of a lower id
        before = above + better.to(tl.float64) * _weight(y, top, ties > 0)
        stays = (ties > 0) & (((before / total).to(tl.float32) < p) | (before == 0.0))
        cut_id = tl.maximum(cut_id, tl.max(tl.where(stays, ids, -1), 0))
        seen += tl.sum(ties, 0)
    return high, cut_id


__all__ = ["SIGNATURE", "choose", "constants_of"]
