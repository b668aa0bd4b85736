"""adaptive_p: the transform and the average, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.planner import plan
from logitmill.core.session import Session
from logitmill.core.strategy import Strategy

INF = float("inf")
PROBS = [0.5, 0.3, 0.2]


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(logit) for logit in logits]
    return [w / sum(weights) for w in weights]


def law(bench: Any, probs: Any, *args: Any) -> list[float]:
    strategy = Strategy.of(bench.stage("adaptive_p", *args))
    return [float(p) for p in strategy.distribution(bench.logits_of(probs))[0]]


def run(bench: Any, stage: Any, probs: Any, tokens: list[list[int]]) -> tuple[list[list[float]], list[list[float]]]:
    """(each row's average, each row's probability of its token) at each of some steps, the tokens given."""
    dist = Dist(bench.logits_of(probs))
    ctx = bench.context(dist)
    session = Session.opened(plan(Strategy.of(stage)), ctx)
    averages, drawn = [], []
    for step in tokens:
        proposal = session.propose(dist, ctx)
        column = torch.tensor(step)[:, None]
        drawn.append(proposal.law().logprob_of(column).exp()[:, 0].tolist())
        ctx.history.append(column, step)
        session.commit(proposal, column, ctx)
        state = session.states[0]
        averages.append((state.probabilities / state.weights)[:, 0].tolist())
    return averages, drawn


@pytest.mark.parametrize(
    ("target", "logits"),
    [
        (0.5, [5.0, 5 - 10 * (4 / 9) / (5 / 3), 5 - 10 * 1.0 / 2.0]),  # d = 0, 2/3 and 1
        (0.2, [5 - 10 * 1.0 / 2.0, 5 - 10 * (1 / 9) / (4 / 3), 5.0]),  # d = 1, 1/3 and 0
        (0.0, [5 - 10 * (25 / 9) / (8 / 3), 5 - 10 * 1.0 / 2.0, 5 - 10 * (4 / 9) / (5 / 3)]),
        (1.0, [5 - 10 * (25 / 9) / (8 / 3), 5 - 10 * (49 / 9) / (10 / 3), 5 - 10 * (64 / 9) / (11 / 3)]),
    ],
)
def test_the_first_step_aims_at_the_target(bench: Any, target: float, logits: list[float]) -> None:
    assert law(bench, PROBS, target) == pytest.approx(softmax(logits), abs=1e-6)


def test_a_negative_target_is_off(bench: Any) -> None:
    assert law(bench, PROBS, -1.0) == pytest.approx(PROBS, abs=1e-7)
    averages, _ = run(bench, bench.stage("adaptive_p", -1.0, 0.5), PROBS, [[0], [2]])
    assert averages[0] == averages[1]


def test_a_target_above_one_counts_as_one_and_starts_the_average_where_it_is(bench: Any) -> None:
    assert law(bench, PROBS, 1.5) == pytest.approx(law(bench, PROBS, 0.5), abs=1e-6)  # 2 * 1 - 1.5
    assert law(bench, PROBS, 2.5) == pytest.approx(law(bench, PROBS, 0.0), abs=1e-6)  # clipped


def test_what_is_removed_stays_so_and_has_no_part(bench: Any) -> None:
    got = law(bench, [0.4, 0.0, 0.4, 0.0], 0.5)
    assert got == pytest.approx([0.5, 0.0, 0.5, 0.0])
    assert law(bench, [0.0, 1.0, 0.0], 0.1) == [0.0, 1.0, 0.0]
    assert law(bench, [1.0], 0.1) == [1.0]


def test_the_average_takes_the_probability_before_the_transform(bench: Any) -> None:
    """decay 1/2: A starts as 0.4 with weight 2. Token 0 (0.5): (0.5 + 0.4) / 2. Token 2 (0.2): (0.2 + 0.45) / 2."""
    averages, drawn = run(bench, bench.stage("adaptive_p", 0.4, 0.5), PROBS, [[0], [2], [1]])
    assert [a for (a,) in averages] == pytest.approx([0.45, 0.325, 0.3125], abs=1e-7)
    aims = [0.4, 0.35, 0.475]
    for aim, token, (p,) in zip(aims, (0, 2, 1), drawn, strict=True):
        d = [abs(q - aim) / 0.3 for q in PROBS]
        assert p == pytest.approx(softmax([5 - 10 * x * x / (1 + x) for x in d])[token], abs=1e-6)


def test_the_aim_is_clipped(bench: Any) -> None:
    """decay 0: A is the last token's p. A target of 0.1 after 0.5 aims at -0.3, so at 0; 0.9 at 1.3, so at 1."""
    for target, other in ((0.1, 0.0), (0.9, 1.0)):
        _, drawn = run(bench, bench.stage("adaptive_p", target, 0.0), PROBS, [[0], [1]])
        assert drawn[1][0] == pytest.approx(law(bench, PROBS, other)[1], abs=1e-6)


def test_rows_have_an_average_each_and_a_token_without_mass_moves_none(bench: Any) -> None:
    probs = [PROBS, PROBS, [0.5, 0.5, 0.0]]
    averages, _ = run(bench, bench.stage("adaptive_p", 0.4, 0.5), probs, [[0, 2, 2]])
    assert averages[0] == pytest.approx([0.45, 0.3, 0.4], abs=1e-7)


def test_the_average_follows_the_target(bench: Any) -> None:
    """64 rows draw 40 tokens each: what they average is near the target, as far as their distributions allow."""
    logits = torch.randn(64, 12, generator=torch.Generator().manual_seed(4)) * 1.5
    dist = Dist(logits)
    averages = []
    for target in (0.2, 0.3, 0.5):
        strategy = bench.stage("min_p", 0.1) | bench.stage("adaptive_p", target, 0.9)
        ctx = bench.context(dist)
        session = Session.opened(plan(strategy), ctx)
        for step in range(40):
            ctx._noise.positions = [step] * 64
            proposal = session.propose(dist, ctx)
            ctx.history.append(proposal.tokens, proposal.tokens[:, 0].tolist())
            session.commit(proposal, proposal.tokens, ctx)
        state = session.states[1]
        averages.append(float((state.probabilities / state.weights).mean()))
    assert averages == pytest.approx([0.2, 0.3, 0.5], abs=0.08)


def test_a_target_may_be_a_schedule_also_through_off(bench: Any) -> None:
    strategy = Strategy.parse("adaptive_p(0.5 -> -0.5 over 2, 0.5)")
    averages, drawn = run(bench, strategy.pipeline[0].stage, PROBS, [[0], [1], [2]])
    assert [a for (a,) in averages] == pytest.approx([0.5, 0.4, 0.4], abs=1e-7)  # targets 0.5, 0, -0.5
    assert drawn[2][0] == pytest.approx(0.2, abs=1e-7)


def test_extreme_logits(bench: Any) -> None:
    table = torch.tensor([[3.4e38, -3.4e38, 0.0, -INF], [0.0, 0.0, 0.0, 0.0], [-3.4e38, -INF, -INF, -INF]])
    got = Strategy.of(bench.stage("adaptive_p", 0.5)).distribution(table)
    assert not got.isnan().any()
    assert got[0, 3] == 0
    assert got[1].tolist() == [0.25] * 4
    assert got[2].tolist() == [1, 0, 0, 0]
    half = bench.logits_of(PROBS).half()
    strategy = Strategy.of(bench.stage("adaptive_p", 0.5))
    assert torch.equal(strategy.distribution(half), strategy.distribution(half.float()))


def test_distribution_starts_at_the_prompt(bench: Any) -> None:
    strategy = Strategy.of(bench.stage("adaptive_p", 0.4, 0.5))
    logits = bench.logits_of(PROBS)
    assert torch.equal(strategy.distribution(logits, [1], [2, 2, 2]), strategy.distribution(logits))


def test_wrong_arguments(bench: Any) -> None:
    for args, says in (((), "needs 'target'"), ((0.5, -0.1), "at least 0"), ((0.5, 1.0), "at most 0.99")):
        with pytest.raises(StrategyError, match=says):
            bench.stage("adaptive_p", *args)
