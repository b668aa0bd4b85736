"""What a tail says to the kernel, and what becomes of it: with torch's operators in the kernel's place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import logitmill as lm
from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.history import History
from logitmill.core.kernels import cuts
from logitmill.core.kernels.cuts import ABOVE, DIVIDE, FIRST, SHARE, Cuts, Unfit
from logitmill.core.planner import plan
from logitmill.core.rng import Noise, RowNoise
from logitmill.core.session import Proposal, Session
from logitmill.core.stage import draw
from logitmill.core.vocab import Vocab


def by_torch(logits: Tensor, uniform: Tensor, steps: Sequence[int], parameters: Tensor) -> tuple[Tensor, Tensor]:
    """As core.kernels.choice.choose."""
    dist = Dist(logits).unlooked()
    for place, step in enumerate(steps):
        value = parameters[:, place : place + 1]
        if step == DIVIDE:
            dist = dist.divided(value)
        elif step == FIRST:
            dist = dist.keep(dist.rank < value)
        elif step == SHARE:
            dist = dist.keep_ranked(dist.mass_before.float() < value)
        else:
            assert step == ABOVE
            dist = dist.keep(dist.logits >= dist.max_logit + value)
    return dist.logits, draw(dist, uniform)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The steps that the kernel was asked for, each time."""
    seen: list[list[int]] = []

    def choose(
        logits: Tensor, uniform: Tensor, steps: Sequence[int], parameters: Tensor, few: Any
    ) -> tuple[Tensor, Tensor]:
        seen.append(list(steps))
        return by_torch(logits, uniform, steps, parameters)

    stand_in = ModuleType("choice")
    stand_in.choose = choose  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "logitmill.core.kernels.choice", stand_in)
    monkeypatch.setattr("logitmill.core.tail.serves", lambda dist: dist.ids is None)
    return seen


def proposed(text: str, logits: Tensor, *, as_written: bool) -> Proposal:
    built = plan(lm.Strategy.parse(f"{text} until max_tokens(5)"), as_written=as_written)
    rows, columns = logits.shape
    history = History(columns)
    history.extend([[0]] * rows, [[]] * rows)
    raw = Dist(logits).unlooked()
    ctx = Context(history, Vocab(columns, None), raw, Noise([RowNoise(seed) for seed in range(rows)], [1] * rows))
    return Session.opened(built, ctx).propose(raw, ctx)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("sample", [[]]),
        ("temperature(0.5) | top_k(20) | top_p(0.75) | min_p(0.125) | sample", [[FIRST, DIVIDE, SHARE, ABOVE]]),
        ("top_p(0.75) | temperature(0.5) | sample", [[SHARE, DIVIDE]]),
        ("frequency(0.5) | top_p(0.75) | sample", [[SHARE]]),
        ("temperature(0.5) | temperature(4) | sample", [[DIVIDE]]),  # one by torch, the rest of the tail by the kernel
        ("top_p(0.75, min_keep=3) | top_p(0.5) | sample", [[SHARE]]),
        ("greedy", []),
        ("top_p(0.75) | typical(0.5) | sample", [[]]),
    ],
)
def test_tails_reach_the_kernel_as_planned_and_give_what_is_written(
    asked: list[list[int]], text: str, steps: list[list[int]]
) -> None:
    logits = torch.randint(-320, 320, (4, 500), generator=torch.Generator().manual_seed(1)) / 64
    wanted, found = proposed(text, logits, as_written=True), proposed(text, logits, as_written=False)
    assert asked == steps
    assert found.tokens.tolist() == wanted.tokens.tolist()
    assert torch.equal(found.law().dense().logits, wanted.law().dense().logits)
    told, written = found.visits, wanted.visits
    assert {visit.node.name for visit in told} == {visit.node.name for visit in written}
    assert told[-1].after.kept.tolist() == written[-1].after.kept.tolist()


def test_numbers_of_rows_go_side_by_side() -> None:
    made = Cuts(Dist(torch.zeros(2, 8)))
    made.divide(torch.tensor([[2.0], [4.0]], dtype=torch.float64))
    made.first(3)
    made.share(0.5, 1)
    assert made._parameters().tolist() == [[2.0, 3.0, 0.5], [4.0, 3.0, 0.5]]


def test_few_tokens_are_left_behind_a_small_first() -> None:
    made = Cuts(Dist(torch.zeros(2, 8192)))
    made.first(3000)
    made.divide(2.0)
    assert made._few() is None
    made.first(50)
    made.first(9)
    assert made._few() == (2, 50)


def test_what_the_kernel_has_not_is_unfit() -> None:
    made = Cuts(Dist(torch.zeros(1, 8)))
    made.divide(2.0)
    for ask in (
        lambda: made.divide(2.0),
        lambda: made.divide(-1.0),
        lambda: made.share(0.5, 2),
        lambda: made.above(-1.0, 3),
    ):
        with pytest.raises(Unfit):
            ask()
    for _ in range(cuts.MOST_STEPS - 1):
        made.first(5)
    with pytest.raises(Unfit):
        made.first(5)
    with pytest.raises(AttributeError):
        _ = made.mass_before  # type: ignore[attr-defined]


def test_a_kernel_that_does_not_run_is_told_of_once_and_not_tried_again(
    asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cuts, "_trouble", [])
    monkeypatch.setattr(sys.modules["logitmill.core.kernels.choice"], "choose", broken)
    logits = torch.zeros(4, 500)
    with pytest.warns(UserWarning, match="no compiler"):
        found = proposed("top_p(0.5) | sample", logits, as_written=False)
    assert found.tokens.tolist() == proposed("top_p(0.5) | sample", logits, as_written=True).tokens.tolist()
    assert set(cuts._trouble) == {"RuntimeError: no compiler"}
    assert not cuts.serves(Dist(logits))


def test_it_serves_a_gpu_with_many_rows_of_a_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "_available", lambda: True)
    monkeypatch.setattr(cuts, "_trouble", [])

    def on_gpu(rows: int, columns: int, ids: Tensor | None = None) -> bool:
        dist = Dist(torch.zeros(rows, columns), ids)
        assert not cuts.serves(dist)
        dist.device = torch.device("cuda")
        return cuts.serves(dist)

    assert on_gpu(8, 8192)
    assert not on_gpu(7, 8192)
    assert not on_gpu(1, 8192)
    assert not on_gpu(8, 50)
    assert not on_gpu(8, 8192, torch.arange(8192).expand(8, -1))
    monkeypatch.setattr(cuts, "_available", lambda: False)
    assert not on_gpu(8, 8192)
