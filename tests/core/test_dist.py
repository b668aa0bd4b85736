"""Dist: narrowing, removal and lookups mean the same on a part of the vocabulary as on all of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from logitmill.core.dist import Dist

INF, NAN = float("inf"), float("nan")

# Few values, so that ties are the rule.
logits_tables = st.integers(1, 4).flatmap(
    lambda rows: st.integers(1, 12).flatmap(
        lambda columns: st.lists(
            st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0, -INF]), min_size=columns, max_size=columns).filter(
                lambda row: max(row) > -INF
            ),
            min_size=rows, max_size=rows,
        )
    )
)  # fmt: skip


@st.composite
def narrowed(draw: Any) -> tuple[Dist, Dist]:
    """(a Dist on some columns, the same one dense)."""
    dense = Dist(torch.tensor(draw(logits_tables)))
    some = dense.narrow(draw(st.integers(1, dense.columns)))
    if draw(st.booleans()):
        some = some.narrow(draw(st.integers(1, some.columns)))
    return some, some.dense()


def best(row: list[float], k: int) -> list[int]:
    """Ids of the k largest, ties to the lower id, in the order of ids."""
    return sorted(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k])


@given(logits_tables, st.integers(1, 12), st.booleans(), st.integers(1, 12))
def test_narrow_keeps_exactly_k_ties_to_the_lower_id(
    table: list[list[float]], k: int, sort_first: bool, then: int
) -> None:
    dist = Dist(torch.tensor(table))
    if sort_first:
        _ = dist.order
    small = dist.narrow(k)
    assert small.token_ids().tolist() == [best(row, k) for row in table]
    assert small.vocab_size == dist.columns
    twice = small.narrow(then)
    assert twice.token_ids().tolist() == [best(row, min(k, then)) for row in table]
    assert torch.equal(twice.logits, dist.logits.gather(1, twice.token_ids()))


@given(logits_tables)
def test_order_and_rank_are_stable(table: list[list[float]]) -> None:
    dist = Dist(torch.tensor(table))
    expected = [sorted(range(len(row)), key=lambda i: (-row[i], i)) for row in table]
    assert dist.order.tolist() == expected
    assert dist.rank.gather(1, dist.order).tolist() == [list(range(dist.columns))] * dist.rows


@given(narrowed())
def test_a_part_means_the_same_as_the_whole(pair: tuple[Dist, Dist]) -> None:
    part, whole = pair
    ids = part.token_ids()
    assert bool((ids[:, 1:] > ids[:, :-1]).all())
    for name in ("probs", "logprobs", "weights"):
        assert torch.allclose(getattr(part, name), getattr(whole, name).gather(1, ids), atol=1e-6), name
    assert torch.allclose(part.entropy, whole.entropy, atol=1e-6)
    assert torch.equal(part.kept, whole.kept)
    assert torch.equal(part.max_logit, whole.max_logit)
    assert torch.allclose(part.mass_before.gather(1, part.rank), whole.mass_before.gather(1, whole.rank).gather(1, ids))
    table = torch.arange(whole.columns) * 3
    assert torch.equal(part.lookup(table).expand(part.rows, -1), table[ids])
    rows = torch.arange(whole.rows)[:, None] * 100 + table
    assert torch.equal(part.lookup(rows), rows.gather(1, ids))
    every = torch.arange(-1, whole.columns + 1).expand(
        whole.rows, -1
    )  # ids outside the vocabulary are absent, not an error
    assert torch.allclose(part.logprob_of(every).exp(), whole.logprob_of(every).exp(), atol=1e-6)
    columns, present = part.columns_of(every)
    assert torch.equal(part.tokens_at(columns)[present], every[present])
    assert present.tolist() == [[i in row for i in range(-1, whole.columns + 1)] for row in ids.tolist()]


@given(narrowed(), st.data())
def test_removed_tokens_never_come_back(pair: tuple[Dist, Dist], data: Any) -> None:
    dist = pair[0]
    for _ in range(4):
        shape = (dist.rows, dist.columns)
        mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=dist.columns, max_size=dist.columns))).expand(
            shape
        )
        how = data.draw(st.sampled_from(["keep", "ranked", "logits", "narrow"]))
        if how == "keep":
            after = dist.keep(mask)
        elif how == "ranked":
            after = dist.keep_ranked(mask)
        elif how == "logits":
            after = dist.with_logits(torch.where(mask, 7.0, -INF).expand(shape))
        else:
            after = dist.narrow(1 + dist.columns // 2)
        alive = dist.dense().alive
        assert not bool((after.dense().alive & ~alive).any())
        assert bool((after.kept >= 1).all())
        if how != "narrow":
            wanted = {"keep": mask, "ranked": mask.gather(1, dist.rank), "logits": mask}[how]
            dead = ~(wanted & dist.alive).any(-1, keepdim=True)
            assert after.rescued is not None
            assert torch.equal(after.rescued, dead)
            survivors = after.alive & dead
            top = torch.zeros_like(survivors).scatter_(1, dist.order[:, :1], True)
            assert torch.equal(survivors, top & dead)  # the best token, ties to the lower id, and it alone
        dist = after


@given(narrowed(), st.randoms())
def test_select_and_assemble_undo_each_other(pair: tuple[Dist, Dist], random: Any) -> None:
    dist = pair[0]
    rows = list(range(dist.rows))
    random.shuffle(rows)
    cut = random.randint(0, len(rows))
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    pieces = [(torch.tensor(part), dist.select(part)) for part in parts]
    again = Dist.assemble(pieces, dist.rows)
    assert torch.equal(again.dense().logits, pair[1].logits)
    if cut:  # parts that differ in columns meet on the whole vocabulary
        mixed = [(index, part.narrow(1) if n == 0 else part) for n, (index, part) in enumerate(pieces)]
        assert torch.equal(Dist.assemble(mixed, dist.rows).dense().max_logit, dist.max_logit)


def test_assembled_parts_of_one_width_stay_narrow() -> None:
    dist = Dist(torch.randn(4, 50)).narrow(5)
    again = Dist.assemble([(torch.tensor([3, 1]), dist.select([3, 1])), (torch.tensor([0, 2]), dist.select([0, 2]))], 4)
    assert again.columns == 5
    assert torch.equal(again.token_ids(), dist.token_ids())


def test_entropy_by_hand() -> None:
    dist = Dist(torch.tensor([[0.0, 0.0, -INF, -INF], [1.0, -INF, -INF, -INF], [0.0, 0.0, 0.0, 0.0]]))
    assert torch.allclose(dist.entropy, torch.tensor([[math.log(2)], [0.0], [math.log(4)]]))
    assert not torch.signbit(dist.entropy).any()
    assert dist.kept.tolist() == [[2], [1], [4]]


@pytest.mark.parametrize("bad", [NAN, INF])
def test_what_is_no_number_is_not_hidden(bad: float) -> None:
    """NaN and +inf stay visible in the row's largest logit through every change, and in no other row's."""
    table = torch.tensor([[1.0, bad, 2.0, 0.0], [1.0, 2.0, 3.0, 0.0]])
    changes = [
        lambda d: d.keep(d.logits >= d.max_logit - 1),
        lambda d: d.with_logits(d.logits / 2),
        lambda d: d.keep_ranked(torch.tensor([True, True, False, False]).expand(2, -1)),
        lambda d: d.keep(torch.zeros(4, dtype=torch.bool)),
    ]
    for change in changes:
        after = change(Dist(table))
        assert not math.isfinite(float(after.max_logit[0]))
        assert math.isfinite(float(after.max_logit[1]))
    narrow = Dist(table).narrow(2)  # a row of NaN has no order: only its neighbour's meaning is promised
    assert narrow.token_ids()[1].tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_any_precision_goes_in_and_float32_is_held(dtype: torch.dtype) -> None:
    given_logits = torch.randn(2, 9).to(dtype)
    dist = Dist(given_logits)
    assert dist.logits.dtype == dist.probs.dtype == dist.entropy.dtype == torch.float32
    assert dist.weights.dtype == dist.mass_before.dtype == torch.float64
    assert torch.equal(dist.logits, given_logits.float())
    assert dist.with_logits(given_logits).logits.dtype == torch.float32


def test_a_vocabulary_of_one() -> None:
    dist = Dist(torch.zeros(2, 1))
    assert dist.narrow(1) is dist
    assert dist.keep(torch.tensor([[False]])).kept.tolist() == [[1], [1]]
    assert dist.entropy.tolist() == [[0.0], [0.0]]
    assert dist.order.tolist() == [[0], [0]]


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (), (2, 0)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="logits must be"):
        Dist(torch.zeros(shape))
    with pytest.raises(ValueError, match="with_logits got shape"):
        Dist(torch.zeros(2, 2)).with_logits(torch.zeros(2, 3))


def test_derived_values_are_computed_once() -> None:
    dist = Dist(torch.randn(2, 8))
    for name in ("order", "probs", "logprobs", "weights", "entropy", "kept", "rank", "mass_before"):
        assert getattr(dist, name) is getattr(dist, name)
    changed = dist.keep(torch.ones(8, dtype=torch.bool))
    first: Tensor = changed.order
    assert first is not dist.order  # a change is a new Dist, with values of its own


def test_a_ranked_dist_may_lose_any_of_its_candidates() -> None:
    """Not only the last ones: what is behind them in order, and what is removed, must still be known."""
    logits = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    head = Dist(logits).narrow(8)
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[:, [0, 2, 7]] = True
    cut = head.keep_ranked(mask)
    best = logits.sort(-1, descending=True).indices
    left = cut.narrow(3)
    assert left.token_ids().sort(-1).values.tolist() == best[:, [0, 2, 7]].sort(-1).values.tolist()
    again = cut.with_logits(torch.zeros_like(cut.logits))
    assert again.kept.tolist() == [[3], [3]], "what was removed must not come back"
    assert cut.order[:, :3].tolist() == head.order[:, [0, 2, 7]].tolist()


@pytest.mark.parametrize(
    "ids", [torch.arange(5), torch.arange(3).expand(2, -1), torch.arange(10, dtype=torch.int32).view(2, 5)]
)
def test_ids_are_those_of_the_logits(ids: torch.Tensor) -> None:
    for make in (Dist, lambda logits, own: Dist.ranked(logits, own, 20)):
        with pytest.raises(ValueError, match="a token id for each logit is wanted, int64"):
            make(torch.zeros(2, 5), ids)


@pytest.mark.parametrize("size", [-1, 4, 2**31, 10**30])
def test_a_vocabulary_is_of_a_size(size: int) -> None:
    logits, ids = torch.zeros(2, 5), torch.arange(5).repeat(2, 1)
    for make in (Dist, lambda logits, own, *, vocab_size: Dist.ranked(logits, own, vocab_size)):
        with pytest.raises(ValueError, match="as many tokens as columns, or more, up to 2\\^31"):
            make(logits, ids, vocab_size=size)


def test_candidates_are_float32() -> None:
    with pytest.raises(ValueError, match=r"candidates' logits are float32, got torch\.float64"):
        Dist.ranked(torch.zeros(2, 5, dtype=torch.float64), torch.arange(5).repeat(2, 1), 5)


def test_a_division_may_tie_what_was_in_order() -> None:
    """Then the lower id is first, whatever was before: of 6 columns a ranked Dist and a plain one say the same."""
    steps = torch.tensor([[3, 0, 5, 1, 4, 2], [0, 1, 2, 3, 4, 5]], dtype=torch.int32)
    near = (torch.full((2, 6), 7.3).view(torch.int32) + steps).view(torch.float32)
    plain = Dist(near)
    ranked = Dist.ranked(near.gather(-1, plain.order), plain.order, 6)
    for divisor in (1.5, 3.0, torch.tensor([[1.5], [1.0]])):
        scaled, wanted = ranked.divided(divisor), Dist(near / divisor)
        assert torch.equal(scaled.candidates[1], wanted.order)
        assert torch.equal(scaled.logits, wanted.logits)
        assert torch.equal(scaled.narrow(3).token_ids(), wanted.narrow(3).token_ids())
    assert not torch.equal(ranked.divided(1.5).candidates[1], ranked.candidates[1]), "nothing tied"
