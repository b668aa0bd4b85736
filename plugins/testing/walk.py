"""A walk: one stage over a few tokens, its state kept, selected, copied and joined as the core does."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...core import state as states
from ...core.dist import Dist
from ...core.planner import Plan, plan
from ...core.session import Proposal, Session
from ...core.stage import LogitsProcessor, Sampler, Stage
from ...core.strategy import Strategy
from .cases import Case


@dataclass(frozen=True)
class Walk:
    """The rows of a case after ``step`` tokens.

    No method changes it, with one exception, which is the core's: ``then`` may move a lone row's host object in place.
    """

    case: Case
    session: Session
    step: int = 0

    @classmethod
    def start(cls, what: Any, case: Case, *, as_written: bool = True) -> Walk:
        """Before the first token of a stage, a strategy or its text."""
        built: Plan = plan(Strategy.of(what), as_written=as_written, fragment=True)
        return cls(case, Session.opened(built, case.context(case.dist())))

    def law(self) -> Dist:
        """What the stage returns now."""
        return self._proposal.law()

    @functools.cached_property
    def _proposal(self) -> Proposal:
        dist = self.case.dist(step=self.step)
        law, visits = self.session.law(dist, self.case.context(dist))
        return Proposal(torch.zeros(self.case.rows, 1, dtype=torch.int64), [(list(range(self.case.rows)), law)], visits)

    def then(self, tokens: Sequence[int]) -> Walk:
        """After one more token in each row, each of which has mass in ``law()``."""
        after = self.case.then(tokens)
        session = replace(self.session, states=dict(self.session.states))
        committed = torch.tensor(list(tokens), dtype=torch.int64)[:, None]
        session.commit(self._proposal, committed, after.context(self.case.dist(step=self.step)))
        return Walk(after, session, self.step + 1)

    def select(self, rows: Sequence[int]) -> Walk:
        """Some of its rows; one named twice is a copy."""
        session = self.session.select(rows)
        session.index = list(range(len(rows)))
        return Walk(self.case.select(rows), session, self.step)

    def saved(self) -> Walk:
        """A copy to come back to: host objects are cloned, as the core does before it goes on."""
        copied = {node: states.copied(state) for node, state in self.session.states.items()}
        return Walk(self.case, replace(self.session, states=copied), self.step)

    def joined(self, other: Walk) -> Walk:
        """Its rows, and those of another walk of as many tokens behind them."""
        session = Session.joined([self.session, other.session])
        session.index = list(range(session.rows))
        both = Case(
            self.case.logits + other.case.logits,
            self.case.prompts + other.case.prompts,
            self.case.outputs + other.case.outputs,
            self.case.seeds + other.case.seeds,
            self.case.eos,
            self.case.steps,
        )
        return Walk(both, session, self.step)


def keeps_state(stage: Stage) -> bool:
    """Whether it has a state at all: without one there is less to go wrong."""
    base = Sampler if isinstance(stage, Sampler) else LogitsProcessor
    return getattr(type(stage), "accept", None) is not base.accept or type(stage).init is not base.init  # type: ignore[attr-defined]  # PIPED


def tokens_for(law: Dist, step: int, turn: int = 0) -> list[int]:
    """A token with mass in each row, not always the best, and not the same in all; ``turn`` gives others."""
    picked = []
    for i, row in enumerate(law.dense().alive.tolist()):
        left = [token for token, alive in enumerate(row) if alive] or [0]
        picked.append(left[(3 * step + 5 * turn + 2 * i) % len(left)])
    return picked


def straight(what: Any, case: Case, *, as_written: bool = True) -> tuple[list[Dist], list[list[int]]]:
    """What a stage returns at each step of a walk from its start, and the tokens taken: ``case.steps`` of them."""
    walk = Walk.start(what, case, as_written=as_written)
    laws, taken = [walk.law()], []
    for step in range(case.steps):
        taken.append(tokens_for(laws[-1], step))
        walk = walk.then(taken[-1])
        laws.append(walk.law())
    return laws, taken


__all__ = ["Walk", "keeps_state", "straight", "tokens_for"]
