"""A session: combinators nested in combinators, and states that move for the rows and tokens they concern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import logitmill as lm
from logitmill import Combinator, LogitsProcessor, Sampler, Scalar, Strategy, signals
from logitmill.core import offline
from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.planner import plan
from logitmill.core.session import Fault, Session

Make = Callable[..., Any]
V = 24


class Log(NamedTuple):
    tokens: Tensor  # [R, 40], -1 past count
    count: Tensor  # [R, 1]


class Notes(LogitsProcessor, name="test.notes"):
    """Remembers every token it accepts; ``mark`` tells its copies apart."""

    mark: int = 0

    def init(self, ctx: Any) -> Log:
        return Log(torch.full((ctx.rows, 40), -1), torch.zeros(ctx.rows, 1, dtype=torch.int64))

    def apply(self, dist: Dist, state: Log, ctx: Any) -> Dist:
        assert state.count.shape == (dist.rows, 1)
        return dist

    def accept(self, state: Log, tokens: Tensor, dist: Dist, ctx: Any) -> Log:
        assert bool((dist.logprob_of(tokens) > -torch.inf).all())  # only where the token has mass in what it returned
        assert torch.equal(ctx.last, tokens)  # the context has the token already
        assert dist.rows == ctx.rows == len(tokens)
        return Log(state.tokens.scatter(1, state.count, tokens), state.count + 1)


def accepted(session: Session, mark: int) -> list[list[int]]:
    node = next(n for n in session.plans[0].nodes if isinstance(n.stage, Notes) and n.stage.mark == mark)
    state = session.states[node.index]
    return [[int(t) for t in row[: int(n)]] for row, n in zip(state.tokens, state.count, strict=True)]


def drive(strategy: Any, steps: int, rows: int = 3, seeds: Any = 5) -> tuple[Session, list[list[int]]]:
    """(the session after some steps on logits of its own, the tokens of each row)."""
    built = plan(Strategy.of(strategy))
    table = torch.randn(steps, rows, V, generator=torch.Generator().manual_seed(1)) * 2
    _, ctx, session, _ = offline._prepare(built, table[0], [[i, i + 1] for i in range(rows)], None, seeds, None)
    out: list[list[int]] = [[] for _ in range(rows)]
    for logits in table:
        dist = Dist(logits)
        noise = ctx._noise.rows
        now = offline._context(ctx.history, ctx.vocab, dist, noise, {})
        proposal = session.propose(dist, now)
        again = session.propose(dist, now)
        assert torch.equal(again.tokens, proposal.tokens)  # proposing changes nothing
        ctx.history.append(proposal.tokens, proposal.tokens[:, 0].tolist())
        session.commit(proposal, proposal.tokens, offline._context(ctx.history, ctx.vocab, dist, noise, {}))
        for row, token in zip(out, proposal.tokens[:, 0].tolist(), strict=True):
            row.append(token)
    return session, out


def test_every_token_is_accepted_by_what_all_rows_go_through() -> None:
    session, out = drive(Notes() | lm.temperature(0.9) | lm.sample(), 9)
    assert accepted(session, 0) == out


def test_a_condition_decides_row_by_row_whose_accept_is_called() -> None:
    odd = signals.last.in_(list(range(1, V, 2)))
    strategy = lm.when(odd, Notes(1) | lm.top_k(9), Notes(2)) | Notes(3) | lm.sample()
    session, out = drive(strategy, 12)
    for row in range(3):
        before = [row + 1, *out[row][:-1]]
        assert accepted(session, 1)[row] == [t for last, t in zip(before, out[row], strict=True) if last % 2]
        assert accepted(session, 2)[row] == [t for last, t in zip(before, out[row], strict=True) if not last % 2]
        assert accepted(session, 3)[row] == out[row]


def test_samplers_in_branches() -> None:
    strategy = lm.when(signals.last < V // 2, Notes(1) | lm.greedy(), Notes(2) | lm.temperature(2.0) | lm.sample())
    session, out = drive(Strategy.of(strategy), 12)
    for row in range(3):
        before = [row + 1, *out[row][:-1]]
        assert accepted(session, 1)[row] == [t for last, t in zip(before, out[row], strict=True) if last < V // 2]
        assert accepted(session, 2)[row] == [t for last, t in zip(before, out[row], strict=True) if last >= V // 2]


def test_in_a_mix_only_the_parts_that_hold_the_token_accept_it() -> None:
    strategy = (
        Strategy.of(lm.mix((0.5, Notes(1) | lm.top_k(3) | Notes(2)), (0.5, Notes(3) | lm.ban(*range(12)) | Notes(4))))
        | lm.sample()
    )
    session, out = drive(strategy, 14)
    some = 0
    for row in range(3):
        assert accepted(session, 1)[row] == accepted(session, 3)[row] == out[row]  # both saw every token with mass
        assert accepted(session, 4)[row] == [t for t in out[row] if t >= 12]
        assert set(accepted(session, 2)[row]) <= set(out[row])
        some += len(accepted(session, 2)[row])
    assert 0 < some < 42


def test_a_condition_in_a_mix_in_a_condition() -> None:
    inner = lm.when(signals.entropy > 1.0, Notes(1) | lm.temperature(0.5), Notes(2) | lm.top_k(4))
    mixed = lm.mix((0.7, inner), (0.3, Notes(3)))
    strategy = lm.when(signals.step < 6, mixed, lm.temperature(1.5)) | lm.sample()
    session, out = drive(strategy, 10)
    for row in range(3):
        assert accepted(session, 3)[row] == out[row][:6]
        ones, twos = accepted(session, 1)[row], accepted(session, 2)[row]
        assert len(ones) + len(twos) <= 6
        assert set(ones) | set(twos) <= set(out[row][:6])


TEXTS = [
    "temperature(0.7) | top_k(9) | sample",
    "temperature(1.5 -> 0.5 over 6) | top_p(0.9 -> 0.5 over 4) | sample",
    "temperature(0.3 + 0.2*entropy) | min_p(clamp(max_p, 0, 0.2)) | sample",
    "when entropy > 1.2 { temperature(0.6) | top_k(3) } else { mix(0.5: { top_k(2) }, 0.5: { top_p(0.6) }) } | sample",
    "xtc(0.7, 0.05) | when last in [1, 3, 5, 7] { greedy } else { sample }",
]


@pytest.mark.parametrize("text", TEXTS)
def test_rows_in_a_batch_equal_each_alone(text: str) -> None:
    strategy = Strategy.parse(text)
    _, together = drive(strategy, 8, rows=4, seeds=[3, 1, 4, 1])
    table = torch.randn(8, 4, V, generator=torch.Generator().manual_seed(1)) * 2
    built = plan(strategy)
    for row, seed in enumerate([3, 1, 4, 1]):
        _, ctx, session, _ = offline._prepare(built, table[0, row], [row, row + 1], None, [seed], None)
        tokens = []
        for logits in table[:, row : row + 1]:
            now = offline._context(ctx.history, ctx.vocab, Dist(logits), ctx._noise.rows, {})
            proposal = session.propose(Dist(logits), now)
            ctx.history.append(proposal.tokens, proposal.tokens[:, 0].tolist())
            session.commit(
                proposal, proposal.tokens, offline._context(ctx.history, ctx.vocab, Dist(logits), ctx._noise.rows, {})
            )
            tokens.append(int(proposal.tokens))
        assert tokens == together[row]


class Weigh(Combinator, name="test.weigh"):
    """A third party's combinator: weights by row, some of them 0."""

    one: Strategy
    other: Strategy

    def children(self) -> tuple[Strategy, ...]:
        return (self.one, self.other)

    def weights(self, dist: Dist, ctx: Context) -> Tensor:
        share = (ctx.last % 3).float() / 2  # 0, 0.5 or 1
        return torch.cat([share, 1 - share], -1)

    def merge(self, dists: list[Dist], weights: Tensor) -> Dist:
        assert all(d.ids is None and d.rows == len(weights) for d in dists)
        return Dist(sum(w[:, None] * d.probs for w, d in zip(weights.unbind(1), dists, strict=True)).log())  # type: ignore[union-attr]


def test_children_run_only_where_they_have_weight() -> None:
    strategy = Strategy.of(Weigh(one=Notes(1) | lm.top_k(5), other=Notes(2) | lm.temperature(3.0))) | lm.sample()
    session, out = drive(strategy, 12)
    for row in range(3):
        before = [row + 1, *out[row][:-1]]
        assert accepted(session, 1)[row] == [t for last, t in zip(before, out[row], strict=True) if last % 3]
        assert accepted(session, 2)[row] == [t for last, t in zip(before, out[row], strict=True) if last % 3 != 2]


def test_a_law_of_a_mix_is_the_weighted_average() -> None:
    logits = torch.randn(2, V)
    got = Strategy.parse("mix(3: { temperature(0.5) }, 1: { top_k(2) })").distribution(logits)
    expected = 0.75 * (logits / 0.5).softmax(-1) + 0.25 * Dist(logits).narrow(2).dense().probs
    assert torch.allclose(got, expected, atol=1e-6)


class Wrong(LogitsProcessor, name="test.wrong"):
    returns: str = "none"
    by: Scalar = 1.0

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Any:
        return {"none": None, "tensor": dist.logits, "rows": dist.select([0])}[self.returns]


class WrongSampler(Sampler, name="test.wrong_sampler"):
    def law(self, dist: Dist, state: Any, ctx: Any) -> Any:
        return 3


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (Wrong(returns="none"), "a stage returns a Dist, this one returned None"),
        (Wrong(returns="tensor"), "a stage returns a Dist, this one returned float32"),
        (Wrong(returns="rows"), "given 3 and returned 1"),
        (LogitsProcessor(), "does not define apply"),
    ],
)
def test_what_a_stage_must_not_return(stage: Any, says: str) -> None:
    with pytest.raises(Fault, match=says):
        drive(stage | lm.sample(), 1)
    with pytest.raises(Fault, match="returned int"):
        drive(Strategy.of(WrongSampler()), 1)


def test_a_commit_that_faults_leaves_the_states_as_they_were() -> None:
    class Late(Notes, name="test.late"):
        def accept(self, state: Log, tokens: Tensor, dist: Dist, ctx: Any) -> Log:
            if int(ctx.step[0]) == 3:
                raise ValueError("late")
            return super().accept(state, tokens, dist, ctx)

    built = plan(Strategy.of(Notes(1) | Late(mark=2) | lm.sample()))
    _, ctx, session, _ = offline._prepare(built, torch.zeros(2, V), [1], None, 5, None)
    for step in range(3):
        dist = Dist(torch.zeros(2, V))
        now = offline._context(ctx.history, ctx.vocab, dist, ctx._noise.rows, {})
        proposal = session.propose(dist, now)
        ctx.history.append(proposal.tokens, proposal.tokens[:, 0].tolist())
        after = offline._context(ctx.history, ctx.vocab, dist, ctx._noise.rows, {})
        if step == 2:
            with pytest.raises(Fault, match="late"):
                session.commit(proposal, proposal.tokens, after)
        else:
            session.commit(proposal, proposal.tokens, after)
    assert [len(row) for row in accepted(session, 1)] == [2, 2]  # the stage before the fault did not move either
    assert [len(row) for row in accepted(session, 2)] == [2, 2]
