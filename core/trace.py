"""Traces: what every stage did to every token. One schema feeds the terminal, a notebook and a file of JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .account import Book, Candidate
from .account_native import NativeBook
from .account_tensors import TensorBook
from .dist import Dist
from .kernels.accounts import accounts
from .session import Proposal

TOP = 5


@dataclass(frozen=True)
class StageTrace:
    """One stage at one step.

    Entropies in nats; ``removed_mass`` is the probability of what it removed, before it did.
    """

    stage: str
    kind: str
    kept: int
    removed_mass: float
    entropy_before: float
    entropy_after: float
    rescued: bool
    top_before: tuple[Candidate, ...]
    top_after: tuple[Candidate, ...]


@dataclass(frozen=True)
class StepTrace:
    """One committed token.

    ``raw_rank`` (1 = the model's favourite), ``raw_prob`` and ``raw_entropy`` are of the model's own distribution.
    """

    step: int
    position: int
    token: int
    text: str
    raw_rank: int
    raw_prob: float
    raw_entropy: float
    final_prob: float
    stages: tuple[StageTrace, ...]

    def to_dict(self) -> dict[str, Any]:
        """One line of a JSON Lines trace file."""

        def candidates(items: tuple[Candidate, ...]) -> list[dict[str, Any]]:
            return [{"token": token, "text": text, "p": p} for token, text, p in items]

        stages = [
            {**{k: v for k, v in vars(s).items() if not k.startswith("top_")},
             "top_before": candidates(s.top_before), "top_after": candidates(s.top_after)}
            for s in self.stages
        ]  # fmt: skip
        return {**{k: v for k, v in vars(self).items() if k != "stages"}, "stages": stages}


class Wanted(NamedTuple):
    """A row that is traced: which of its session, and what it committed, at which step and position of the row."""

    row: int
    step: int
    position: int
    token: int


def traced(
    proposal: Proposal,
    raw: Dist,
    tokens: Tensor,
    wanted: Sequence[Wanted],
    text: Callable[[int], str],
    count: int = TOP,
) -> list[StepTrace]:
    """The accounts of a session's rows: what is said of all of them is worked out at once and read in one transfer.

    ``raw``: the model's distributions of its rows [R, V]; ``tokens``: what was committed, int64 [R, 1]; ``text``: of a
    token.
    """
    visits, book = proposal.visits, book_for(raw, count)
    book.measure(raw, visits)
    changes = [(book.removed(visit.before, visit.after), book.rescued(visit.after)) for visit in visits]
    prob, rank = book.ranked(raw, tokens)
    finals = [(rows, book.probs(law, tokens if len(rows) == len(tokens) else tokens[rows]))
              for rows, law in proposal.laws]  # fmt: skip
    book.read()

    def account(row: int, step: int, position: int, token: int) -> StepTrace:
        stages = []
        for visit, (removed, rescued) in zip(visits, changes, strict=True):
            if row not in visit.rows:
                continue
            at = visit.rows.index(row)
            before, after = book.facts(visit.before, at, text), book.facts(visit.after, at, text)
            gone = 0.0 if removed is None else removed.number(at)
            stages.append(
                StageTrace(
                    visit.node.name, visit.node.stage.kind, after.kept, gone, before.entropy, after.entropy,
                    rescued is not None and bool(rescued.number(at)), before.top, after.top,
                )
            )  # fmt: skip
        final = next(place.number(rows.index(row)) for rows, place in finals if row in rows)
        return StepTrace(
            step, position, token, text(token), rank(row) + 1, prob.number(row), book.facts(raw, row, text).entropy,
            final, tuple(stages),
        )  # fmt: skip

    return [account(*which) for which in wanted]


def book_for(raw: Dist, count: int) -> Book:
    """By kernels, where there are any."""
    kernels = accounts() if raw.device.type == "cpu" else None
    return TensorBook(count) if kernels is None else NativeBook(count, kernels)
