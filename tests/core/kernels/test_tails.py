"""The end of a pipeline by a kernel is what a `Head` makes of it by torch's operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import logitmill as lm
from logitmill.core import offline, tail
from logitmill.core.dist import Dist
from logitmill.core.kernels.choosing import choosing
from logitmill.core.kernels.cuts import Unfit
from logitmill.core.kernels.tails import MOST_FEW, NativeTail
from logitmill.core.planner import plan
from logitmill.core.tail import Head

pytestmark = pytest.mark.skipif(choosing() is None, reason="there is no compiler for the kernels")

ROWS = 3
Step = tuple[str, tuple[Any, ...]]


def per_row(low: float, high: float) -> st.SearchStrategy[Tensor]:
    numbers = st.lists(st.floats(low, high), min_size=ROWS, max_size=ROWS)
    return numbers.map(lambda found: torch.tensor(found, dtype=torch.float32)[:, None])


def said(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*arguments))


STEPS = st.lists(
    st.one_of(
        said("divide", st.floats(0.25, 4) | per_row(0.25, 4)),
        said("first", st.integers(1, 60)),
        said("share", st.floats(0.01, 0.9999) | per_row(0.01, 1) | st.just(torch.ones(ROWS, 1)), st.integers(1, 4)),
        said("above", st.floats(-5, 0), st.integers(1, 4)),
    ),
    max_size=5,
)


def logits(columns: int, seed: int, *, grid: bool, removed: float) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    made = torch.randn(ROWS, columns, generator=random) * 4
    made = (made * 8).round() / 8 if grid else made
    return made.masked_fill(torch.rand(ROWS, columns, generator=random) < removed, -math.inf).index_fill(
        1, torch.tensor([seed % columns]), 3.5
    )


def run(head: Any, steps: list[Step], uniform: Tensor) -> tuple[Dist, Tensor] | None:
    for name, arguments in steps:
        getattr(head, name)(*arguments)
    found: tuple[Dist, Tensor] | None = head.drawn(uniform)
    return found


@settings(max_examples=300, deadline=None)
@given(
    steps=STEPS,
    columns=st.sampled_from([1, 2, 40, 700]),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
    removed=st.sampled_from([0.0, 0.5, 0.99]),
    u=st.floats(0, 0.999999),
)
def test_a_ranked_dist(steps: list[Step], columns: int, seed: int, grid: bool, removed: float, u: float) -> None:
    dist = Dist(logits(columns, seed, grid=grid, removed=removed))
    order = dist.order
    ranked = Dist.ranked(dist.logits.gather(-1, order), order, columns)
    uniform = torch.tensor([[u], [u / 2], [0.0]], dtype=torch.float64)
    same(run(NativeTail(ranked), steps, uniform), run(Head(ranked), steps, uniform))


@settings(max_examples=150, deadline=None)
@given(
    k=st.integers(1, MOST_FEW),
    steps=STEPS,
    columns=st.sampled_from([5000, 9_601, 50_000]),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
    removed=st.sampled_from([0.0, 0.9999]),
    by_id=st.booleans(),
)
def test_the_best_of_a_wide_one(
    k: int, steps: list[Step], columns: int, seed: int, grid: bool, removed: float, by_id: bool
) -> None:
    values = logits(columns, seed, grid=grid, removed=removed)
    ids = (2 * torch.arange(columns) + 1).repeat(ROWS, 1) if by_id else None
    uniform = torch.tensor([[0.25], [0.75], [0.0]], dtype=torch.float64)
    ours = run(NativeTail(Dist(values, ids, vocab_size=2 * columns)), [("first", (k,)), *steps], uniform)
    same(ours, run(Head(Dist(values, ids, vocab_size=2 * columns).narrow(k)), steps, uniform))


@settings(max_examples=150, deadline=None)
@given(
    scales=st.lists(st.floats(0.25, 4) | per_row(0.25, 4), max_size=2),
    difference=st.floats(-8, 0),
    least=st.sampled_from([1, 1, 3]),
    steps=STEPS,
    columns=st.sampled_from([5000, 9_601]),
    seed=st.integers(0, 2**31),
    grid=st.booleans(),
    removed=st.sampled_from([0.0, 0.9]),
    by_id=st.booleans(),
)
def test_what_reaches_the_best_of_a_wide_one(
    scales: list[Any], difference: float, least: int, steps: list[Step], columns: int, seed: int, grid: bool,
    removed: float, by_id: bool,
) -> None:  # fmt: skip
    values = logits(columns, seed, grid=grid, removed=removed)
    ids = (2 * torch.arange(columns) + 1).repeat(ROWS, 1) if by_id else None
    uniform = torch.tensor([[0.25], [0.75], [0.0]], dtype=torch.float64)
    lead: list[Step] = [*(("divide", (scale,)) for scale in scales), ("above", (difference, least))]
    ours = run(NativeTail(Dist(values, ids, vocab_size=2 * columns)), [*lead, *steps], uniform)
    scaled = values
    for scale in scales:
        scaled = scaled / scale
    order = Dist(scaled).order  # ranked by what is cut, which ties where logits before did not
    ranked = Dist.ranked(values.gather(-1, order), order if ids is None else ids.gather(-1, order), 2 * columns)
    theirs = run(Head(ranked), [*lead, *steps], uniform)
    assert theirs is not None
    most = int((scaled >= scaled.amax(-1, keepdim=True) + difference).sum(-1).max())
    few = int((scaled >= scaled.amax(-1, keepdim=True) + difference).sum(-1).min())
    if most > MOST_FEW or few < least:
        assert ours is None
        return
    assert ours is not None
    assert torch.equal(ours[1], theirs[1])
    assert torch.equal(ours[0].dense().logits, theirs[0].dense().logits)
    assert ours[0].columns <= most
    assert all(len(set(row)) == len(row) for row in ours[0].candidates[1].tolist())


def near_ties(seed: int) -> Tensor:
    """Two values in a hundred are within three floats of one that is large: a division makes ties of some."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(ROWS, 5000, generator=random)
    steps = torch.randint(-3, 3, values.shape, generator=random, dtype=torch.int32)
    near = (torch.full_like(values, [9.5, 7.3, 10.7][seed % 3]).view(torch.int32) + steps).view(torch.float32)
    return torch.where(torch.rand(values.shape, generator=random) < 0.02, near, values)


@pytest.mark.parametrize(
    "text",
    [
        "min_p(0.1) | temperature(1.5) | top_p(0.3)",
        "temperature(1.3) | min_p(0.1) | temperature(1.5) | top_p(0.3)",
        "min_p(0.1) | temperature(1.5) | min_p(1.0, min_keep=20)",
        "top_k(60) | temperature(1.5) | top_p(0.3)",
        "top_k(60) | temperature(1.5) | min_p(1.0, min_keep=7) | temperature(0.7) | top_p(0.5)",
    ],
)
@pytest.mark.parametrize("kernels", [True, False])
def test_ties_that_a_division_makes(text: str, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to the lower id, as they do where each stage runs by itself."""
    if not kernels:
        monkeypatch.setattr(tail, "NativeTail", Head)
    for seed in range(30):
        found, wanted = (
            proposed(f"{text} | sample", near_ties(seed), as_written=as_written) for as_written in (False, True)
        )
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])


def proposed(strategy: Any, logits: Tensor, *, as_written: bool) -> tuple[Tensor, Tensor]:
    """(tokens, logits of the law)."""
    built = plan(lm.Strategy.of(strategy), as_written=as_written)
    dist, ctx, rows, _ = offline._prepare(built, logits, None, None, 5, None)
    found = rows.propose(dist, ctx)
    return found.tokens, found.law().dense().logits


@pytest.mark.parametrize("k", [5000, 2**53 + 1, 2**63 - 1])
def test_more_than_there_are(k: int) -> None:
    strategy = lm.Strategy.parse(f"top_k(50) | top_k({k}) | min_p(0.3) | top_k({k}) | sample")
    values = logits(6000, 1, grid=False, removed=0.0)
    assert torch.equal(
        strategy.draw(values, seed=1), lm.Strategy.parse("top_k(50) | min_p(0.3) | sample").draw(values, seed=1)
    )


class Writes(lm.LogitsProcessor, name="test.writes"):
    """Against the contract: in place, so that what was looked at is no more."""

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        dist.look, dist.logits.sub_(100.0)
        return dist


@pytest.mark.parametrize("text", ["top_k(5)", "top_k(700)", "min_p(0.3)", "top_p(0.5)", "temperature(0.5)"])
def test_logits_that_changed_behind_a_look_harm_nothing(text: str) -> None:
    values = logits(6000, 1, grid=False, removed=0.0)
    assert (Writes() | lm.Strategy.parse(f"{text} | sample")).draw(values.clone(), seed=5).shape == (ROWS,)


def same(ours: tuple[Dist, Tensor] | None, theirs: tuple[Dist, Tensor] | None) -> None:
    assert ours is not None
    assert theirs is not None
    (law, tokens), (other, wanted) = ours, theirs
    assert torch.equal(tokens, wanted)
    assert all(torch.equal(mine, own) for mine, own in zip(law.candidates, other.candidates, strict=True))
    torch.testing.assert_close(law.ranked_weights, other.ranked_weights, rtol=1e-14, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_with_nothing_to_draw_from(value: float) -> None:
    values = torch.randn(2, 5000)
    values[1] = value
    tail = NativeTail(Dist(values))
    tail.first(20)
    assert tail.drawn(torch.zeros(2, 1, dtype=torch.float64)) is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda tail: tail.share(0.9, 1),
        lambda tail: (tail.divide(2.0), tail.first(5)),  # of what ties then, the best are not known
        lambda tail: (tail.divide(2.0), tail.share(0.9, 1)),
        lambda tail: tail.above(-1.0, torch.ones(1, 1)),
        lambda tail: tail.above(-1.0, 0),
        lambda tail: tail.divide(torch.ones(3, 1)),  # rows that are not there
        lambda tail: tail.divide(torch.ones(1)),
        lambda tail: tail.divide(-1.0),
        lambda tail: tail.divide(torch.zeros(1, 1)),
        lambda tail: tail.first(0),
        lambda tail: tail.first(MOST_FEW + 1),
        lambda tail: tail.first(5000),
    ],
)
def test_what_a_wide_dist_is_not_for(ask: Callable[[NativeTail], Any]) -> None:
    with pytest.raises(Unfit):
        ask(NativeTail(Dist(torch.randn(1, 5000))))
    tail, first = NativeTail(Dist(torch.randn(1, 5000))), torch.zeros(1, 1, dtype=torch.float64)
    assert tail.drawn(first) is None
    tail.divide(2.0)
    assert tail.drawn(first) is None
    with pytest.raises(Unfit):
        NativeTail(Dist(torch.randn(1, 500)))


class Odd(lm.LogitsProcessor, name="test.odd"):
    """Cuts by a mask of its own, which no kernel has."""

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist.keep_ranked(torch.arange(dist.columns).expand(dist.rows, -1) % 3 != 1)

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.keep(torch.arange(head.logits.shape[1]).expand_as(head.logits) % 3 != 1)
        return True


def test_a_stage_that_asks_for_more_of_a_head_is_given_one() -> None:
    longer = lm.top_k(9) | lm.temperature(0.7) | Odd() | lm.top_k(4) | lm.top_p(0.9) | lm.sample()
    found, wanted = (proposed(longer, near_ties(1), as_written=as_written) for as_written in (False, True))
    assert all(map(torch.equal, found, wanted))
    strategy = lm.top_k(9) | lm.temperature(0.7) | Odd() | lm.top_p(0.9) | lm.sample()
    values = logits(5000, 1, grid=False, removed=0.0)
    drawn = {tuple(strategy.draw(values, seed=seed).tolist()) for seed in range(40)}
    law = strategy.distribution(values)
    assert int((law > 0).sum(-1).max()) <= 6
    assert all(law[row, token] > 0 for tokens in drawn for row, token in enumerate(tokens))
    assert len(drawn) > 5
