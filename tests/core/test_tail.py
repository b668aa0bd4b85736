"""The end of a pipeline in one go gives the law, the tokens and the account of its stages run one by one."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import logitmill as lm
from logitmill import LogitsProcessor, Strategy
from logitmill.core import offline
from logitmill.core.dist import Dist
from logitmill.core.errors import NumericalError, StageError
from logitmill.core.kernels.choosing import choosing
from logitmill.core.planner import plan
from logitmill.core.session import Proposal
from logitmill.core.tail import Head

VOCAB = 6000  # wide: where there is a shorter way, it is taken


def grid(seed: int) -> Tensor:
    """Three rows on a grid of 1/64, with ties everywhere."""
    return torch.randint(-600, 600, (3, VOCAB), generator=torch.Generator().manual_seed(seed)) / 64.0


def proposed(strategy: Any, logits: Tensor, *, as_written: bool = False) -> Proposal:
    built = plan(Strategy.of(strategy), as_written=as_written)
    dist, ctx, session, _ = offline._prepare(built, logits, [1, 2], None, 7, None)
    return session.propose(dist, ctx)


number = lambda low, high: st.floats(low, high).map(lambda x: repr(round(x, 2)))  # noqa: E731  # two digits, as text
STAGES = st.one_of(
    number(0.3, 3).map(lambda v: f"temperature({v})"),
    st.integers(1, 90).map(lambda k: f"top_k({k})"),
    number(0.05, 0.99).map(lambda p: f"top_p({p})"),
    st.tuples(number(0.05, 0.99), st.integers(1, 9)).map(lambda t: f"top_p({t[0]}, min_keep={t[1]})"),
    st.tuples(number(0, 0.9), st.integers(1, 9)).map(lambda t: f"min_p({t[0]}, min_keep={t[1]})"),
    number(0.2, 3).map(lambda n: f"top_n_sigma({n})"),
    number(0.2, 1).map(lambda m: f"typical({m})"),
    st.just("xtc(0.5, 0.05)"),
    st.just("repetition(1.3)"),
    st.just("presence(0.5)"),
    st.just("dry(0.8)"),
    st.just("when entropy > 3 { temperature(0.5) } else { top_k(20) }"),
)
PIPELINES = st.lists(STAGES, min_size=1, max_size=5).map(lambda stages: " | ".join([*stages, "sample"]))


@settings(max_examples=120, deadline=None)
@given(PIPELINES, st.integers(0, 2**31))
def test_planned_equals_as_written_on_a_wide_vocabulary(text: str, seed: int) -> None:
    logits = grid(seed)
    planned, written = proposed(text, logits), proposed(text, logits, as_written=True)
    assert torch.equal(planned.law().dense().logits, written.law().dense().logits)
    assert torch.equal(planned.tokens, written.tokens)


def test_the_end_runs_in_one_go_and_its_account_is_there_when_asked_for() -> None:
    text = "repetition(1.2) | top_k(40) | temperature(0.7) | top_p(0.9) | min_p(0.02) | sample"
    proposal, written = proposed(text, grid(1)), proposed(text, grid(1), as_written=True)
    one_by_one = ["repetition", "top_k"] if choosing() is None else ["repetition"]  # a kernel finds the best, too
    assert [visit.node.name for visit in proposal.recorded] == one_by_one
    assert len(proposal.laws) == 1
    told = proposal.visits
    assert [visit.node.name for visit in told] == "repetition top_k temperature top_p min_p sample".split()
    for mine, other in zip(told, written.visits, strict=True):
        assert mine.rows == other.rows
        assert torch.equal(mine.before.dense().logits, other.before.dense().logits), mine.node.name
        assert torch.equal(mine.after.dense().logits, other.after.dense().logits), mine.node.name
    assert proposal.visits is told  # once
    assert len(proposal.laws) == 1


class Foreign(LogitsProcessor, name="test.foreign"):
    """A third party's, of which nothing is known; it reads and writes logits by column."""

    examples: ClassVar[tuple[str, ...]] = ()

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist.with_logits(dist.logits - 0.25 * (dist.token_ids() % 3))


def test_a_foreign_stage_costs_only_itself() -> None:
    """Before it the candidates are few already, and behind it the rest runs in one go again."""
    before = lm.top_k(30) | lm.temperature(0.7)
    strategy = before | Foreign() | lm.top_k(20) | lm.top_p(0.9) | lm.sample()
    proposal, written = proposed(strategy, grid(2)), proposed(strategy, grid(2), as_written=True)
    assert [visit.node.name for visit in proposal.recorded] == ["top_k", "temperature", "test.foreign", "top_k#2"]
    seen = next(visit for visit in proposal.recorded if visit.node.name == "test.foreign")
    assert seen.before.columns == 30
    assert torch.equal(proposal.law().dense().logits, written.law().dense().logits)
    assert torch.equal(proposal.tokens, written.tokens)


def test_rows_that_differ_in_numbers_alone_run_in_one_call() -> None:
    texts = [f"temperature({t}) | top_k(40) | top_p({p}) | sample" for t, p in ((0.5, 0.9), (0.9, 0.5), (1.5, 0.99))]
    plans = [plan(Strategy.parse(text)) for text in texts]
    dist, ctx, session, _ = offline._prepare(plans[0], grid(3), None, None, 7, None)
    session = type(session)(plans, list(session.index), session.states)
    together = session.propose(dist, ctx)
    assert len(together.laws) == 1
    for row, text in enumerate(texts):
        alone = Strategy.parse(text).draw(grid(3), seed=7)
        assert int(together.tokens[row]) == int(alone[row])


class Broken(LogitsProcessor, name="test.broken"):
    """Says it works on a head, and raises wherever it works."""

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        raise RuntimeError("no")

    def on_head(self, head: Any, ctx: Any) -> bool:
        raise RuntimeError("not here either")


class Infinite(LogitsProcessor, name="test.infinite"):
    """Makes what nothing can be drawn from."""

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist.with_logits(dist.logits + float("inf"))


def test_faults_are_named_as_stage_by_stage() -> None:
    with pytest.raises(StageError, match="RuntimeError: no") as raised:
        (lm.top_k(30) | lm.temperature(0.7) | Broken() | lm.sample()).draw(grid(4))
    assert raised.value.stage == "test.broken"
    wrong = grid(5)
    wrong[1, 77] = float("nan")
    with pytest.raises(NumericalError) as numerical:
        Strategy.parse("top_k(30) | temperature(0.7) | sample").draw(wrong)
    assert numerical.value.stage == "logits"
    with pytest.raises(NumericalError) as numerical:
        (lm.top_k(30) | Infinite() | lm.temperature(0.7) | lm.sample()).draw(grid(5))
    assert numerical.value.stage == "test.infinite"


def test_a_temperature_that_overflows_goes_the_long_way() -> None:
    hot = grid(6) * 1e36
    text = "top_k(30) | temperature(0.001) | top_p(0.9) | sample"
    planned, written = proposed(text, hot), proposed(text, hot, as_written=True)
    assert torch.equal(planned.tokens, written.tokens)


@pytest.mark.parametrize("looks", [True, False])
def test_a_head_keeps_what_a_dist_keeps(looks: bool) -> None:
    """Whatever the mask: the first removed, all removed, one in the middle; and then its first are the best left."""
    ranked = Dist(grid(3)).narrow(8)
    ranked.looks = looks
    masks = torch.tensor([[0, 1, 1, 0, 1, 1, 0, 1], [0] * 8, [1] * 8], dtype=torch.bool)
    head, dist = Head(ranked), Dist(ranked.logits, ranked.ids, vocab_size=VOCAB).keep_ranked(masks)
    before = head.weights
    head.keep(masks)
    assert head.law().dense().logits.equal(dist.dense().logits)
    assert before is not head.weights
    head.first(3)
    assert head.law().dense().logits.equal(dist.narrow(3).dense().logits)
    head.keep(masks[:, :3])
    assert head.law().dense().logits.equal(dist.narrow(3).keep_ranked(masks[:, :3]).dense().logits)


@pytest.mark.parametrize("divisor", [0.0, -1.0, float("nan"), float("inf"), 1e39])
def test_a_head_is_divided_by_what_keeps_the_order(divisor: float) -> None:
    with pytest.raises(ValueError, match="divided by a number above 0 that float32 holds, got"):
        Head(Dist(grid(1)).narrow(5)).divide(divisor)


class Flat(LogitsProcessor, name="test.flat"):
    """All that is left is as likely."""

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist.divided(self.divisor)

    def on_head(self, head: Any, ctx: Any) -> bool:
        head.divide(self.divisor)
        return True

    divisor: Any = float("inf")


@pytest.mark.parametrize("divisor", [float("inf"), 1e39, torch.full((3, 1), float("inf"))])
@pytest.mark.parametrize("ids", [[0, 1, 2], [5, 900, 5999]])
def test_what_is_divided_by_infinity_does_not_come_back(divisor: Any, ids: list[int]) -> None:
    logits = torch.full((3, VOCAB), float("-inf")).index_copy_(1, torch.tensor(ids), grid(1)[:, :3])
    strategy = lm.top_k(10) | Flat(divisor=divisor) | lm.sample()
    assert torch.equal(proposed(strategy, logits).tokens, proposed(strategy, logits, as_written=True).tokens)
    drawn = torch.stack([strategy.draw(logits, seed=seed) for seed in range(40)])
    assert set(drawn.flatten().tolist()) == set(ids)
    law = strategy.distribution(logits)
    assert torch.allclose(law[:, ids], torch.full((3, 3), 1 / 3))


def test_a_mask_for_all_of_a_row() -> None:
    head = Head(Dist(grid(1)).narrow(5))
    head.keep(torch.tensor([[True], [False], [True]]))
    law = head.law()
    assert law is not None
    assert law.kept.tolist() == [[5], [1], [5]]


@pytest.mark.parametrize("count", [0, -1])
def test_a_head_has_one_candidate_at_least(count: int) -> None:
    with pytest.raises(ValueError, match=f"a head keeps at least one candidate, got {count}"):
        Head(Dist(grid(1)).narrow(5)).first(count)
