"""Context: what a stage sees of its rows, in any selection of them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from logitmill import Scalar, StoppingCriterion
from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.history import History
from logitmill.core.rng import Noise, RowNoise, stage_key
from logitmill.core.scalar import Ramp
from logitmill.core.vocab import Vocab

V = 6
rows_lists = st.lists(st.tuples(*[st.lists(st.integers(0, V - 1), max_size=6)] * 2), min_size=1, max_size=5)


def made(rows: list[tuple[list[int], list[int]]], **more: Any) -> Context:
    history = History(V)
    for prompt, output in rows:
        history.join(prompt, output)
    noise = Noise([RowNoise(i) for i in range(len(rows))], [len(p) + len(o) for p, o in rows])
    raw = Dist(torch.arange(len(rows) * V).float().reshape(-1, V))
    scores = torch.arange(len(rows)).double()[:, None]
    return Context(
        history, Vocab(V), raw, noise, scores=scores, elapsed=[float(i) for i in range(len(rows))],
        companions={"tiny": raw.logits + 1}, **more,
    )  # fmt: skip


def facts(ctx: Context) -> list[Any]:
    """Everything a stage may read, row by row."""
    view = ctx.at(SimpleNamespace(key=stage_key("x")), ())
    columns = [
        ctx.lengths,
        ctx.prompt_lengths,
        ctx.starts,
        ctx.step,
        ctx.position,
        ctx.last,
        ctx.counts,
        ctx.prompt_counts,
        ctx.recent_counts(3),
        ctx.recent_counts(2, output_only=True),
        ctx.scores,
        ctx.elapsed,
        ctx.raw.logits,
        ctx.tokens,
        ctx.companion("tiny"),
        view.noise(None, 2),
        view.noise_by_token(None, ctx.raw),
    ]
    return [[column[i].tolist() for column in columns] for i in range(ctx.rows)]


@given(rows_lists, st.randoms())
def test_a_row_is_seen_alike_in_any_selection(rows: list[tuple[list[int], list[int]]], random: Any) -> None:
    whole = made(rows)
    seen = facts(whole)
    chosen = [random.randrange(len(rows)) for _ in range(random.randint(1, 4))]
    some = whole.select(chosen)
    assert facts(some) == [seen[i] for i in chosen]
    again = [random.randrange(len(chosen)) for _ in range(2)]
    assert facts(some.select(again)) == [seen[chosen[i]] for i in again]
    assert facts(whole) == seen


@given(rows_lists, st.integers(1, 9), st.booleans())
def test_by_hand(rows: list[tuple[list[int], list[int]]], window: int, output_only: bool) -> None:
    ctx = made(rows)
    recent = ctx.recent_counts(window, output_only=output_only).tolist()
    for i, (prompt, output) in enumerate(rows):
        whole = prompt + output
        last = (
            whole[-window:] if not output_only else (whole[-window:])[max(0, min(window, len(whole)) - len(output)) :]
        )
        assert recent[i] == [Counter(last)[t] for t in range(V)]
        assert int(ctx.last[i]) == (whole[-1] if whole else -1)
        assert (int(ctx.lengths[i]), int(ctx.step[i]), int(ctx.position[i])) == (len(whole), len(output), len(whole))
        assert ctx.counts[i].tolist() == [Counter(output)[t] for t in range(V)]
        assert ctx.prompt_counts[i].tolist() == [Counter(prompt)[t] for t in range(V)]


@given(rows_lists)
def test_a_phase_counts_from_its_own_start(rows: list[tuple[list[int], list[int]]]) -> None:
    ctx = made(rows)
    starts = ctx.prompt_lengths + (ctx.step + 1) // 2
    inside = ctx.starting(starts)
    assert torch.equal(inside.step, ctx.lengths - starts)
    assert torch.equal(inside.position, ctx.position)
    expected = [Counter((p + o)[s:][-2:]) for (p, o), s in zip(rows, starts[:, 0].tolist(), strict=True)]
    got = inside.recent_counts(2, output_only=True).tolist()
    assert got == [[count[t] for t in range(V)] for count in expected]
    assert torch.equal(inside.select([0]).step, inside.step[:1])


class Bounded(StoppingCriterion, name="test.bounded"):
    k: Scalar[int] = Field(3, ge=0, le=9)
    free: Scalar = 1.0


def test_bounds_known_to_the_host() -> None:
    from logitmill import ramp, signals

    ctx = made([([1], [])] * 3)
    stages = [Bounded(2), Bounded(7), Bounded(ramp(1, 5, over=4))]
    view = ctx.at(None, stages)
    assert (view.upper(stages[0], "k"), view.lower(stages[0], "k")) == (7, 1)
    assert isinstance(stages[2].k, Ramp)
    unknown = Bounded(signals.step, signals.entropy)
    view = ctx.at(None, [unknown])
    assert (view.upper(unknown, "k"), view.lower(unknown, "k")) == (9, 0)
    assert (view.upper(unknown, "free"), view.lower(unknown, "free")) == (None, None)


def test_what_is_not_there_is_said() -> None:
    history = History(V)
    history.join([1])
    bare = Context(history, Vocab(V), Dist(torch.zeros(1, V)), Noise([RowNoise(0)], [1]))
    for read, says in (
        (lambda: bare.scores, "known only while a model runs"),
        (lambda: bare.tokenizer, "needs a tokenizer"),
        (lambda: bare.texts(), "needs a tokenizer"),
        (lambda: bare.companion("tiny"), "no companion model 'tiny'"),
    ):
        with pytest.raises(StrategyError, match=says):
            read()
    assert bare.elapsed.tolist() == [[0.0]]


def test_prepare_runs_once_for_equal_stages() -> None:
    calls = []

    class Counting(StoppingCriterion, name="test.counting"):
        n: int = 1

        def prepare(self, vocab: Vocab) -> int:
            calls.append(self.n)
            return self.n * vocab.size

    ctx = made([([1], [])])
    assert [ctx.prepared(Counting(n)) for n in (1, 2, 1, 2)] == [V, 2 * V, V, 2 * V]
    assert ctx.select([0]).prepared(Counting(1)) == V
    assert calls == [1, 2]
