"""The account of a step, worked out for all rows at once, beside each row's own numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitmill.core.account import FEW, HEAD, SHOWN, Book
from logitmill.core.dist import Dist
from logitmill.core.planner import plan
from logitmill.core.session import Visit
from logitmill.core.strategy import Strategy
from logitmill.core.trace import _rank

WIDE = 2 * FEW
NODES = {node.name: node for node in plan(Strategy.parse("temperature(2) | top_k(5) | ban(1) | sample")).nodes}


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
    columns: int, step: float, seed: int, k: int, in_order: bool, coarse: bool
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
    book = Book(5)
    book.measure(raw, visits)
    changes = [book.change(each) for each in visits]
    tokens = banned.logits.argmax(-1, keepdim=True)
    probs = {dist: book.write(book.prob(dist, tokens)) for dist in (raw, warm, few, less, banned)}
    book.read()
    for dist in (raw, warm, few, less, banned):
        for row in range(3):
            facts = book.facts(dist, row, text)
            assert facts.kept == int(dist.kept[row])
            assert facts.entropy == pytest.approx(float(dist.entropy[row]), abs=1e-4)
            wanted = best(dist, row, 5)
            assert [token for token, *_ in facts.top] == [token for token, *_ in wanted]
            assert [p for *_, p in facts.top] == pytest.approx([p for *_, p in wanted], abs=4e-6)
            held = float(dist.logprob_of(tokens)[row].exp())
            assert book.number(probs[dist], row) == pytest.approx(held, abs=4e-6)
    for each, (removed, rescued) in zip(visits, changes, strict=True):
        stays = torch.zeros(3, columns, dtype=torch.bool).scatter_(1, each.after.token_ids(), each.after.alive)
        gone = (each.before.probs * ~each.before.lookup(stays)).sum(-1)
        for row in range(3):
            assert book.number(removed, row) == pytest.approx(float(gone[row]), abs=1e-5)
            was = each.after.rescued is not None and bool(each.after.rescued[row])
            assert bool(book.number(rescued, row)) == was


def test_more_ties_than_are_looked_at() -> None:
    """Which of the best come in is not chance: the lowest ids, however many there are."""
    even = Dist(torch.zeros(2, WIDE))
    high = Dist(torch.zeros(1, WIDE).index_fill(1, torch.tensor([900, 1900]), 3.0))
    for dist, wanted in ((even, [0, 1, 2, 3, 4]), (high, [900, 1900, 0, 1, 2])):
        book = Book(5)
        book.measure(dist, [])
        book.read()
        assert [token for token, *_ in book.facts(dist, 0, text).top] == wanted
    assert HEAD > SHOWN > 5


def test_a_rank_outside_the_head() -> None:
    values = torch.arange(WIDE).float().flip(0)
    values[7] = values[9]  # a tie: the lower id is the better
    assert [_rank(values, token) for token in (0, 6, 7, 9, WIDE - 1)] == [0, 6, 8, 9, WIDE - 1]
