"""Samplers with a state while a model runs: a row's state is its own, whoever runs beside it and however it is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.planner import plan
from logitmill.core.rng import fold
from logitmill.core.session import Session
from logitmill.core.strategy import Strategy

Make = Callable[..., Any]

STATEFUL = [
    "mirostat(2, 0.5) until max_tokens(14)",
    "temperature(1.3) | mirostat(3, 0.3, variant=1) until max_tokens(14)",
    "min_p(0.02) | adaptive_p(0.3, 0.7) until max_tokens(14)",
    "when last < 90 { greedy } else { mirostat(2, 0.5) } until max_tokens(14)",
    "phases({ mirostat(2, 0.5) until max_tokens(6) }, { adaptive_p(0.4) until max_tokens(9) })",
    "best_of(3) { mirostat(2, 0.5) } until max_tokens(9)",
    "best_of(2, by=-mean_logprob) { min_p(0.02) | adaptive_p(0.3, 0.7) } until max_tokens(9)",
]
OTHERS = [
    "greedy until max_tokens(9)",
    "mirostat(6, 1) until max_tokens(15)",
    "temperature(0.7) | sample until max_tokens(5)",
    "adaptive_p(0.9, 0.2) until max_tokens(14)",
    "top_k(3) | gumbel until max_tokens(13)",
    "mirostat(2, 0.5) until max_tokens(7)",
    "mirostat(1, 0.1, variant=1) until max_tokens(10)",
]
PROMPTS = ["abc", "a much longer prompt than the others", "x", "123", "--", "the end", "q", "and"]


@pytest.mark.parametrize("lookahead", [False, True])
def test_the_same_alone_and_in_company(make_engine: Make, lookahead: bool) -> None:
    """By themselves, among seven others, and all at once: then there are more requests than rows."""
    engine = make_engine(batch_invariant=True, lookahead=lookahead)
    alone = [engine.generate("abc", text, seed=3).tokens for text in STATEFUL]
    assert len(set(alone)) == len(STATEFUL)
    for text, tokens in list(zip(STATEFUL, alone, strict=True))[::3]:
        company = engine.generate(PROMPTS, [text, *OTHERS], seed=[3, *range(20, 27)])
        assert company[0].tokens == tokens, text
    together = engine.generate(
        ["abc", "other words"] * len(STATEFUL), [t for text in STATEFUL for t in (text, OTHERS[1])], seed=[3, 8] * 7
    )
    assert [completion.tokens for completion in together[::2]] == alone
    assert len({completion.tokens for completion in together[1::2]}) == 1


@pytest.mark.parametrize("text", STATEFUL[:5])
def test_the_same_with_any_lookahead_and_stage_by_stage(make_engine: Make, text: str) -> None:
    expected = make_engine(lookahead=False).generate("abc", text, seed=5).tokens
    assert make_engine(lookahead=True).generate("abc", text, seed=5).tokens == expected
    assert make_engine(reference=True).generate("abc", text, seed=5).tokens == expected


@pytest.mark.parametrize("text", STATEFUL[:5])
def test_n_completions_have_a_state_each(engine: Any, text: str) -> None:
    several = engine.generate("abc", text, seed=4, n=3)
    for index, completion in enumerate(several):
        assert completion.tokens == engine.generate("abc", text, seed=fold(4, index)).tokens
    assert len({completion.tokens for completion in several}) == 3


def test_best_of_rows_have_a_state_each(engine: Any) -> None:
    """The row that won is what its own seed alone would have drawn."""
    block = "mirostat(2, 0.5)"
    won = engine.generate("abc", f"best_of(4) {{ {block} }} until max_tokens(12)", seed=4).tokens
    alone = [
        engine.generate("abc", f"{block} until max_tokens(12)", seed=fold(4, branch, level=1)).tokens
        for branch in range(4)
    ]
    assert won in alone
    assert len(set(alone)) == 4


def test_a_phase_begins_with_its_own_state(engine: Any) -> None:
    """What follows is drawn as if the first phase's tokens had stood in the prompt."""
    ids = engine.vocab.encode("abc")
    both = engine.generate(
        ids, "phases({ greedy until max_tokens(4) }, { mirostat(2, 0.5) until max_tokens(9) })", seed=6
    )
    head, tail = both.tokens[:4], both.tokens[4:]
    assert engine.generate([*ids, *head], "mirostat(2, 0.5) until max_tokens(9)", seed=6).tokens == tail


@pytest.mark.parametrize("text", STATEFUL[:4])
def test_each_token_moves_the_state_once(engine: Any, byte_model: Any, bench: Any, text: str) -> None:
    """The engine's tokens are those of a plain replay over the model's logits, from one commit a token."""
    prompt = engine.vocab.encode("abc")
    tokens = engine.generate(prompt, text, seed=7).tokens
    logits = byte_model.model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 :].float()
    session = None
    for step, token in enumerate(tokens):
        dist = Dist(logits[step : step + 1])
        ctx = bench.context(dist, prompt, list(tokens[:step]), seeds=[7])
        session = session or Session.opened(plan(Strategy.parse(text)), ctx)
        proposal = session.propose(dist, ctx)
        assert proposal.tokens.item() == token, step
        session.commit(proposal, proposal.tokens, bench.context(dist, prompt, list(tokens[: step + 1]), seeds=[7]))
