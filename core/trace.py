"""Traces: what every stage did to every token. One schema feeds the terminal, a notebook and a file of JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .account import Book, Candidate
from .dist import Dist
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


def traced(
    proposal: Proposal,
    raw: Dist,
    tokens: Tensor,
    wanted: Sequence[tuple[int, int, int]],
    text: Callable[[int], str],
    count: int = TOP,
) -> list[StepTrace]:
    """The accounts of a session's rows: what is said of all of them is computed at once and read in one transfer.

    ``raw``: the model's distributions of its rows [R, V]; ``tokens``: what was committed, int64 [R, 1]; ``wanted``:
    (row of the session, step, position) of each row that is traced; ``text``: of a token.
    """
    visits, book = proposal.visits, Book(count)
    book.measure(raw, visits)
    changes = [book.change(visit) for visit in visits]
    better, sure = (book.write(part) for part in _better(raw, book.head(raw), tokens))
    prob, token_of = book.write(book.prob(raw, tokens)), book.write(tokens)
    finals = [(rows, book.write(book.prob(law, tokens if len(rows) == len(tokens) else tokens[rows])))
              for rows, law in proposal.laws]  # fmt: skip
    book.read()

    def account(row: int, step: int, position: int) -> StepTrace:
        stages = []
        for visit, (removed, rescued) in zip(visits, changes, strict=True):
            if row not in visit.rows:
                continue
            at = visit.rows.index(row)
            before, after = book.facts(visit.before, at, text), book.facts(visit.after, at, text)
            stages.append(
                StageTrace(
                    visit.node.name, visit.node.stage.kind, after.kept, book.number(removed, at),
                    before.entropy, after.entropy, bool(book.number(rescued, at)), before.top, after.top,
                )
            )  # fmt: skip
        token = int(book.number(token_of, row))
        rank = int(book.number(better, row)) if book.number(sure, row) else _rank(raw.logits[row], token)
        final = next(book.number(place, rows.index(row)) for rows, place in finals if row in rows)
        return StepTrace(
            step, position, token, text(token), rank + 1, book.number(prob, row),
            book.facts(raw, row, text).entropy, final, tuple(stages),
        )  # fmt: skip

    return [account(*which) for which in wanted]


def _better(raw: Dist, head: tuple[Tensor, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """[R, 1] each: how many of the model's favourites are better than a token; whether no other is."""
    logits, ids = head
    own = raw.logits.gather(-1, tokens)
    better = (logits > own) | ((logits == own) & (ids < tokens))
    return better.sum(-1, keepdim=True), (own > logits[:, -1:]) | (raw.columns <= logits.shape[1])


def _rank(logits: Tensor, token: int) -> int:
    """How many tokens are better than this one: logits [V], ties to the lower id."""
    own = logits[token]
    return int((logits[:token] >= own).sum() + (logits[token + 1 :] > own).sum())
