"""A proposal: what a session's step would commit, and what each stage did on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .dist import Dist
from .planner import Node
from .stage import Stage


@dataclass
class Visit:
    """What one stage did at one step: the rows that went through it, and its Dist before and after."""

    node: Node
    rows: list[int]  # of the session
    stage: Stage  # with this step's values in its Scalar fields
    before: Dist
    after: Dist
    shared: bool  # inside a merge: the committed token may have come from another child


@dataclass
class Proposal:
    """One step of a session before it is committed."""

    tokens: Tensor  # int64 [R, 1]
    laws: list[tuple[list[int], Dist]]  # rows and their law
    recorded: list[Visit] = field(default_factory=list)
    #: what ran in one go: called with a proposal, each runs it stage by stage and records its visits there
    untold: list[Callable[[Proposal], None]] = field(default_factory=list, repr=False)

    @property
    def visits(self) -> list[Visit]:
        """What each stage did. Stages that ran in one go are run again, one by one, when this is first asked for."""
        for tell in self.untold:
            told = Proposal(self.tokens, [])
            tell(told)
            self.recorded.extend(told.recorded)
        self.untold = []
        return self.recorded

    def select(self, row: int) -> Proposal:
        """The proposal of one row alone."""
        visits = []
        for visit in self.visits:
            if row in visit.rows:
                at = [visit.rows.index(row)]
                stage = narrowed(visit.stage, at)
                visits.append(
                    Visit(visit.node, [0], stage, visit.before.select(at), visit.after.select(at), visit.shared)
                )
        laws = [([0], law.select([rows.index(row)])) for rows, law in self.laws if row in rows]
        return Proposal(self.tokens[row : row + 1], laws, visits)

    def take(self, rows: list[int], tokens: Tensor) -> None:
        """The tokens (int64 [n, 1]) that were drawn for some rows."""
        if len(rows) == len(self.tokens):
            self.tokens = tokens
        else:
            self.tokens = self.tokens.index_copy(0, torch.tensor(rows, device=tokens.device), tokens)

    def law(self) -> Dist:
        """The law of all rows, [R, C]."""
        if len(self.laws) == 1:
            return self.laws[0][1]
        return Dist.assemble([(torch.tensor(rows), law) for rows, law in self.laws], len(self.tokens))


def narrowed(stage: Stage, rows: list[int]) -> Stage:
    """A bound stage for some of its rows."""
    values = {name: getattr(stage, name) for name in stage.scalars}
    return stage.bound({name: value[rows] if isinstance(value, Tensor) else value for name, value in values.items()})


__all__ = ["Proposal", "Visit", "narrowed"]
