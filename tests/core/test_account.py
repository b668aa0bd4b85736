"""The account of a step, worked out for all rows at once, beside each row's own numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitmill.core.account import Book
from logitmill.core.account_native import NativeBook
from logitmill.core.account_tensors import FEW, HEAD, SHOWN, TensorBook, rank_among
from logitmill.core.dist import Dist
from logitmill.core.kernels.accounts import accounts
from logitmill.core.planner import plan
from logitmill.core.session import Visit
from logitmill.core.strategy import Strategy

WIDE = 2 * FEW
NODES = {node.name: node for node in plan(Strategy.parse("temperature(2) | top_k(5) | ban(1) | sample")).nodes}


BOOKS = ["tensors", "kernels"]


def book(way: str, count: int = 5) -> Book:
    """An empty one that is filled by torch's operators, or by kernels."""
    if way == "tensors":
        return TensorBook(count)
    kernels = accounts()
    if kernels is None:
        pytest.skip("there is no compiler for the kernels")
    return NativeBook(count, kernels)


def logits(rows: int, columns: int, seed: int, step: float) -> torch.Tensor:
    """Normal, on a grid of ``step``: the coarser, the more ties."""
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 4
    return (made / step).round() * step


def visit(name: str, before: Dist, after: Dist) -> Visit:
    return Visit(NODES[name], list(range(before.rows)), NODES[name].stage, before, after, False)


def text(token: int) -> str:
    return f"<{token}>"


def best(dist: Dist, row: int, count: int) -> list[tuple[int, str, float]]:
    columns = dist.order[row, : min(count, int(dist.kept[row]))]
    found = dist.tokens_at(dist.order)[row, : len(columns)].tolist()
    probs = torch.softmax(dist.logits[row].double(), -1)  # float32's is off by some 1e-6
    return [(token, text(token), p) for token, p in zip(found, probs[columns].tolist(), strict=True)]


@pytest.mark.parametrize("way", BOOKS)
@settings(max_examples=80, deadline=None)
@given(
    columns=st.sampled_from([7, 300, FEW, FEW + 1, WIDE, 6011]),
    step=st.sampled_from([1e-4, 0.25, 4.0, 100.0]),
    seed=st.integers(0, 10**6),
    k=st.integers(1, 80),
    in_order=st.booleans(),
    coarse=st.booleans(),
)
def test_every_number_is_its_rows_own(
    way: str, columns: int, step: float, seed: int, k: int, in_order: bool, coarse: bool
) -> None:
    raw = Dist(logits(3, columns, seed, step))
    warm = raw.with_logits((raw.logits / 2).round() if coarse else raw.logits / 2)  # in the same order, with more ties
    if in_order:
        assert len(raw.order) == len(warm.order) == 3  # from here on they know it
    few = warm.narrow(k)
    less = few.keep(few.logits >= few.logits.median(-1, keepdim=True).values)
    banned = raw.keep(torch.arange(columns) % 3 != 1)
    visits = [visit("temperature", raw, warm), visit("top_k", warm, few), visit("ban", few, less),
              visit("sample", less, less), visit("ban", raw, banned)]  # fmt: skip
    own = book(way)
    own.measure(raw, visits)
    changes = [(own.removed(each.before, each.after), own.rescued(each.after)) for each in visits]
    tokens = banned.logits.argmax(-1, keepdim=True)
    dists = (raw, warm, few, less, banned)
    probs = {dist: own.probs(dist, tokens) for dist in dists}
    prob, rank = own.ranked(raw, tokens)
    own.read()
    for dist in dists:
        for row in range(3):
            facts = own.facts(dist, row, text)
            assert facts.kept == int(dist.kept[row])
            assert facts.entropy == pytest.approx(float(dist.entropy[row]), abs=1e-4)
            wanted = best(dist, row, 5)
            assert [token for token, *_ in facts.top] == [token for token, *_ in wanted]
            assert [p for *_, p in facts.top] == pytest.approx([p for *_, p in wanted], abs=4e-6)
            held = float(dist.logprob_of(tokens)[row].exp())
            assert probs[dist].number(row) == pytest.approx(held, abs=4e-6)
    for row in range(3):
        assert rank(row) == int(raw.rank[row, tokens[row]])
        assert prob.number(row) == probs[raw].number(row)
    for each, (removed, rescued) in zip(visits, changes, strict=True):
        stays = torch.zeros(3, columns, dtype=torch.bool).scatter_(1, each.after.token_ids(), each.after.alive)
        gone = (each.before.probs * ~each.before.lookup(stays)).sum(-1)
        for row in range(3):
            assert (0.0 if removed is None else removed.number(row)) == pytest.approx(float(gone[row]), abs=1e-5)
            was = each.after.rescued is not None and bool(each.after.rescued[row])
            assert (rescued is not None and bool(rescued.number(row))) == was


@pytest.mark.parametrize("way", BOOKS)
def test_more_ties_than_are_looked_at(way: str) -> None:
    """Which of the best come in is not chance: the lowest ids, however many there are."""
    even = Dist(torch.zeros(2, WIDE))
    high = Dist(torch.zeros(1, WIDE).index_fill(1, torch.tensor([900, 1900]), 3.0))
    for dist, wanted in ((even, [0, 1, 2, 3, 4]), (high, [900, 1900, 0, 1, 2])):
        own = book(way)
        own.measure(dist, [])
        own.read()
        assert [token for token, *_ in own.facts(dist, 0, text).top] == wanted
    assert HEAD > SHOWN > 5


@pytest.mark.parametrize("way", BOOKS)
@pytest.mark.parametrize("columns", [1, 3, WIDE, 2 * WIDE])
def test_what_a_stage_removed_of_all_there_was(way: str, columns: int) -> None:
    """In every form of a Dist before, and of one after: all, by id, ranked; with fewer columns than are listed."""
    raw = Dist(logits(2, columns, 3, 1e-4))
    alive = torch.arange(columns) % 2 == 0
    whole, ids = raw.keep(alive), alive.nonzero()[:, 0].expand(2, -1).contiguous()
    by_id = Dist(raw.logits.gather(-1, ids), ids, vocab_size=columns)
    order = by_id.order
    ranked = Dist.ranked(by_id.logits.gather(-1, order), ids.gather(-1, order), columns)
    some = [Dist(raw.logits[:, : columns // 2 + 1], torch.arange(columns // 2 + 1).repeat(2, 1), vocab_size=columns)]
    cut = ranked.keep_ranked(torch.arange(ranked.columns).expand(2, -1) < ranked.columns // 3 + 1)
    for before in (raw, *some, some[0].narrow(1), ranked):
        for after in (whole, by_id, ranked, cut):
            own = book(way)
            own.measure(before, [visit("ban", before, after)])
            gone = own.removed(before, after)
            own.read()
            stays = torch.zeros(2, columns, dtype=torch.bool).scatter_(1, after.token_ids(), after.alive)
            wanted = (before.probs * ~before.lookup(stays)).sum(-1)
            found = [0.0 if gone is None else gone.number(row) for row in range(2)]
            assert found == pytest.approx(wanted.tolist(), abs=1e-6)


@pytest.mark.parametrize("way", BOOKS)
def test_one_token_has_no_entropy(way: str) -> None:
    """And not less than none: -0.0 is printed as such."""
    for columns in (1, 7, WIDE):
        raw = Dist(torch.zeros(1, columns))
        one = raw.keep(torch.arange(columns) == 0)
        own = book(way)
        own.measure(raw, [visit("top_k", raw, one)])
        own.read()
        assert math.copysign(1.0, own.facts(one, 0, text).entropy) == 1.0


@pytest.mark.parametrize("way", BOOKS)
def test_rows_with_nothing_to_draw_from_are_told_of_without_harm(way: str) -> None:
    """They end with an error of their own; the others are accounted for."""
    values = logits(4, WIDE, 1, 1e-4)
    values[1], values[2, 7], values[3, 9] = -torch.inf, torch.nan, torch.inf
    raw = Dist(values)
    few = raw.narrow(5)
    own = book(way)
    own.measure(raw, [visit("top_k", raw, few)])
    gone, (prob, rank) = own.removed(raw, few), own.ranked(raw, torch.tensor([[5], [0], [7], [9]]))
    own.read()
    for row in range(4):
        own.facts(raw, row, text), own.facts(few, row, text), rank(row), prob.number(row)
    assert gone is not None
    assert gone.number(0) == pytest.approx(1 - float(raw.probs[0, few.token_ids()[0]].sum()), abs=1e-6)
    assert [token for token, *_ in own.facts(raw, 0, text).top] == raw.order[0, :5].tolist()
    assert own.facts(raw, 1, text).top == ()


def test_ids_that_no_vocabulary_has_harm_nothing() -> None:
    """A stage may return what it likes: kernels write to no other memory."""
    raw = Dist(logits(2, 300, 1, 1e-4))
    odd = Dist(torch.zeros(2, 3), torch.tensor([[-5, 2, 10**12], [1, 299, 300]]), vocab_size=300)
    own = book("kernels")
    own.measure(raw, [visit("ban", raw, odd), visit("ban", odd, raw)])
    for before, after in ((raw, odd), (odd, raw)):
        own.removed(before, after)
    assert own.probs(odd, torch.tensor([[2], [5]])).number(0) == pytest.approx(1 / 3)


def test_a_rank_outside_the_head() -> None:
    values = torch.arange(WIDE).float().flip(0)
    values[7] = values[9]  # a tie: the lower id is the better
    assert [rank_among(values, token) for token in (0, 6, 7, 9, WIDE - 1)] == [0, 6, 8, 9, WIDE - 1]
    for way in BOOKS:
        own = book(way)
        own.measure(Dist(values[None]), [])
        told = [own.ranked(Dist(values[None]), torch.tensor([[token]]))[1] for token in (0, 6, 7, 9, WIDE - 1)]
        own.read()
        assert [rank(0) for rank in told] == [0, 6, 8, 9, WIDE - 1]
