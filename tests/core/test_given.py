"""What accept may look at besides the token: the Dist its stage was given, and the entropies of the steps before."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

from logitmill import LogitsProcessor, StoppingCriterion, StrategyError
from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.strategy import Strategy


class Seen(NamedTuple):
    given: Tensor  # float32 [R, 1]: the probability that the last token had before this stage


class Watcher(LogitsProcessor, name="test.watcher"):
    """Squares the distribution, and keeps the probability of the last token before it did."""

    def init(self, ctx: Context) -> Seen:
        return Seen(torch.full((ctx.rows, 1), float("nan")))

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.with_logits(2 * dist.logits)

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Context) -> Seen:
        return Seen(ctx.given.logprob_of(tokens).exp())


class Sure(StoppingCriterion, name="test.sure"):
    """Ends a row after three tokens, and remembers what it saw."""

    needs: ClassVar[frozenset[str]] = frozenset({"history", "entropies"})

    def check(self, ctx: Context) -> Tensor:
        SEEN.append(ctx.entropies.clone())
        return ctx.step >= 3


SEEN: list[Tensor] = []


def test_accept_sees_what_its_stage_was_given(bench: Any) -> None:
    from logitmill.core.planner import plan
    from logitmill.core.session import Session

    strategy = Strategy.of(bench.stage("top_k", 2) | Watcher() | bench.stage("greedy"))
    dist = Dist(torch.tensor([[0.0, 1.0, 2.0], [3.0, 3.0, 0.0]]))
    ctx = bench.context(dist)
    session = Session.opened(plan(strategy), ctx)
    proposal = session.propose(dist, ctx)
    ctx.history.append(proposal.tokens, proposal.tokens[:, 0].tolist())
    session.commit(proposal, proposal.tokens, ctx)
    (state,) = [state for state in session.states.values() if isinstance(state, Seen)]
    torch.testing.assert_close(state.given[:, 0], torch.tensor([1 / (1 + torch.e**-1), 0.5]))
    with pytest.raises(StrategyError, match="inside accept"):
        _ = ctx.given


def test_entropies_are_the_models_own_by_place(make_engine: Any, byte_model: Any, bench: Any) -> None:
    SEEN.clear()
    strategy = Strategy.of(Watcher() | bench.stage("greedy")).until(Sure())
    engine = make_engine()
    prompts = [byte_model.tokenizer(text)["input_ids"] for text in ("ab", "xyz")]
    out = engine.generate(prompts, strategy)
    assert [len(o.tokens) for o in out] == [3, 3]
    last = SEEN[-1]
    model = byte_model.model
    for row, (prompt, o) in enumerate(zip(prompts, out, strict=True)):
        logits = model(torch.tensor([prompt + list(o.tokens)])).logits[0]
        logp = logits.float().log_softmax(-1)
        want = -(logp.exp() * logp).sum(-1)[len(prompt) - 1 : len(prompt) + 2]
        assert last[row, : len(prompt)].isnan().all()
        torch.testing.assert_close(last[row, len(prompt) : len(prompt) + 3], want, rtol=1e-4, atol=1e-5)
