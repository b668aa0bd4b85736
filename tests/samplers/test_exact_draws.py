"""Every stage that reads noise against its exact law, over 20,000 rows with seeds of their own.

A pipeline's law is worked out here, or, for the samplers that are registered, asked of ``distribution``, which the
stages' own tests hold against values worked by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from logitmill.core.dist import Dist
from logitmill.core.loader import registry
from logitmill.core.planner import plan
from logitmill.core.session import Session
from logitmill.core.strategy import Strategy

DRAWS = 20_000
#: chance that one test below fails although the draws are exact; some fifty of them: about one in 2 * 10^7
FALSE_ALARM = 1e-9

PROBS = [0.3, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02]
P = torch.tensor(PROBS, dtype=torch.float64)
FLAT = P.sqrt() / P.sqrt().sum()


def only(*tokens: int) -> Tensor:
    """PROBS without any other token, float64 [8]."""
    left = torch.zeros_like(P)
    left[list(tokens)] = P[list(tokens)]
    return left / left.sum()


def fits(drawn: Tensor, law: Any) -> None:
    """Chi-square of draws against a law over PROBS's tokens; nothing drawn that it lacks."""
    law = torch.as_tensor(law, dtype=torch.float64)
    counts = torch.bincount(drawn, minlength=len(law))
    support = law > 0
    assert counts[~support].sum() == 0
    if support.sum() > 1:
        expected = law[support] / law[support].sum() * len(drawn)
        assert stats.chisquare(counts[support].numpy(), expected.numpy()).pvalue > FALSE_ALARM


def draws(bench: Any, text: str, seed: Any = 31, **history: Any) -> Tensor:
    return Strategy.parse(text).draw(bench.logits_of(PROBS).expand(DRAWS, -1), seed=seed, **history)


def near(target: float) -> Tensor:
    """adaptive_p's first law."""
    d = (P - target).abs() / 0.3
    return (5 - 10 * d * d / (1 + d)).softmax(0)


def samplers() -> Iterator[Any]:
    """Each registered sampler as it is usually written, behind nothing, a narrowing stage or masking ones."""
    before = itertools.cycle(["", "top_k(4) | ", "ban(0, 3) | temperature(1.4) | "])
    for entry in registry().of("sampler"):
        text = next(before) + (entry.load().examples or (entry.name,))[0]
        yield pytest.param(text, id=text)


@pytest.mark.parametrize("text", list(samplers()))
def test_every_sampler_draws_from_its_law(bench: Any, text: str) -> None:
    fits(draws(bench, text), Strategy.parse(text).distribution(bench.logits_of(PROBS))[0])


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("top_p(0.7) | gumbel", only(0, 1, 2, 3)),
        ("mirostat(1.3)", only(0, 1)),  # mu = 2.6 bits, and 0.16 has 2.64
        ("mirostat(1.33)", only(0, 1, 2)),
        ("mirostat(1.4, variant=1)", only(0, 1, 2)),  # s = 0.8505, and k = 3.43
        ("adaptive_p(0.22)", near(0.22)),
        ("mix(0.7: { top_k(2) }, 0.3: { temperature(2) }) | gumbel", 0.7 * only(0, 1) + 0.3 * FLAT),
        ("product(1: { temperature(2) }, 0.5: { top_k(3) }) | sample", only(0, 1, 2)),
        ("when entropy > 1 { top_k(2) } else { top_k(4) } | sample", only(0, 1)),
        ("when max_p > 0.9 { greedy } else { top_k(3) | gumbel }", only(0, 1, 2)),
        ("best_of(1) { top_k(3) | sample }", only(0, 1, 2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_pipelines_draw_from_laws_worked_out_here(bench: Any, text: str, law: Tensor) -> None:
    fits(draws(bench, text), law)


@pytest.mark.parametrize(("length", "temperature"), [(2, 1.0), (9, 0.5)])
def test_a_schedule_has_the_law_of_its_step(bench: Any, length: int, temperature: float) -> None:
    drawn = draws(bench, "temperature(1.5 -> 0.5 over 4) | sample", output=[0] * length)
    law = P ** (1 / temperature)
    fits(drawn, law / law.sum())


def acts(bench: Any, seed: Any = 40, **history: Any) -> Tensor:
    """bool [DRAWS]: whether xtc(0.3) acted in each row: token 0 is gone."""
    logits = bench.logits_of(PROBS).expand(DRAWS, -1)
    return Strategy.parse("xtc(0.3, 0.15)").distribution(logits, seed=seed, **history)[:, 0] == 0


def independent(one: Tensor, other: Tensor) -> None:
    table = torch.bincount(one.long() * 2 + other.long(), minlength=4).reshape(2, 2)
    assert stats.chi2_contingency(table.numpy()).pvalue > FALSE_ALARM


def test_xtc_acts_as_often_as_it_says_whatever_the_row_and_the_step(bench: Any) -> None:
    """By exact binomial; neighbours and consecutive steps by chi-square of their table."""
    first, second = acts(bench), acts(bench, output=[0])
    for acted in (first, second):
        assert stats.binomtest(int(acted.sum()), DRAWS, 0.3).pvalue > FALSE_ALARM
    independent(first, second)
    independent(first[::2], first[1::2])


def test_two_xtc_of_a_pipeline_throw_a_coin_each(bench: Any) -> None:
    """Neither acts, one does (which leaves the same tokens) or both: 1 : 2 : 1. Of one coin it would be 1 : 0 : 1."""
    logits = bench.logits_of(PROBS).expand(DRAWS, -1)
    left = (Strategy.parse("xtc(0.5, 0.15) | xtc(0.5, 0.15)").distribution(logits, seed=41) > 0).sum(-1)
    counts = torch.bincount(left, minlength=9)[[8, 6, 4]]  # {2..7} has three of at least 0.15 again: two of them go
    assert stats.chisquare(counts.numpy(), [DRAWS / 4, DRAWS / 2, DRAWS / 4]).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("text", "token", "law"),
    [
        # mu = 2.4 and a law of (0.577, 0.423): token 1 surprises by 1.241 bits, and mu = 2.4 - 10 * 0.041 = 1.99
        ("mirostat(1.2, 10)", 1, only(0)),
        # token 0 by 0.793, and mu = 2.4 + 0.407 = 2.81: 0.16 has 2.64
        ("mirostat(1.2, 1)", 0, only(0, 1, 2)),
        # decay 0: the average is token 2's 0.16, and the aim 2 * 0.25 - 0.16
        ("adaptive_p(0.25, 0)", 2, near(0.34)),
    ],
)
def test_the_second_draw_has_the_law_that_the_first_token_left(bench: Any, text: str, token: int, law: Any) -> None:
    dist = Dist(bench.logits_of(PROBS).expand(DRAWS, -1))
    ctx = bench.context(dist, seeds=list(range(DRAWS)))
    session = Session.opened(plan(Strategy.parse(text)), ctx)
    tokens = torch.full((DRAWS, 1), token)
    proposal = session.propose(dist, ctx)
    ctx.history.append(tokens, [token] * DRAWS)
    session.commit(proposal, tokens, ctx)
    ctx._noise.positions = [1] * DRAWS
    fits(session.propose(dist, ctx).tokens[:, 0], law)
