"""Traces: what every stage did to every token. One schema feeds the terminal, a notebook and a file of JSON Lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .dist import Dist
from .session import Proposal

TOP = 5

#: (token, text, probability)
Candidate = tuple[int, str, float]


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


def top(dist: Dist, row: int, text: Callable[[int], str], count: int = TOP) -> tuple[Candidate, ...]:
    """The likeliest candidates of one row, ties to the lower id."""
    columns = dist.order[row, : min(count, int(dist.kept[row]))]
    tokens = dist.tokens_at(dist.order)[row, : len(columns)].tolist()
    return tuple((t, text(t), float(p)) for t, p in zip(tokens, dist.probs[row, columns].tolist(), strict=True))


def traced(
    proposal: Proposal,
    row: int,
    raw: Dist,
    token: int,
    step: int,
    position: int,
    text: Callable[[int], str],
    count: int = TOP,
) -> StepTrace:
    """The account of one row's step.

    ``row``: its index in the session; ``raw``: that row's own distribution, [1, V].
    """
    stages = []
    for visit in proposal.visits:
        if row not in visit.rows:
            continue
        at = visit.rows.index(row)
        before, after = visit.before.select([at]), visit.after.select([at])
        left = torch.zeros(1, before.vocab_size, dtype=torch.bool, device=before.device)
        left.scatter_(1, after.token_ids(), after.alive)
        gone = before.alive & ~before.lookup(left)
        removed = float((before.weights * gone).sum() / before.weights.sum())
        stages.append(
            StageTrace(
                visit.node.name, visit.node.stage.kind, int(after.kept), removed,
                float(before.entropy), float(after.entropy),
                bool(after.rescued) if after.rescued is not None else False,
                top(before, 0, text, count), top(after, 0, text, count),
            )
        )  # fmt: skip
    chosen = torch.tensor([[token]], device=raw.device)
    own = raw.logits.gather(1, chosen)
    rank = int(((raw.logits > own) | ((raw.logits == own) & (raw.token_ids() < chosen))).sum()) + 1
    law = next(law.select([rows.index(row)]) for rows, law in proposal.laws if row in rows)
    return StepTrace(
        step, position, token, text(token), rank, float(raw.logprob_of(chosen).exp()), float(raw.entropy),
        float(law.logprob_of(chosen).exp()), tuple(stages),
    )  # fmt: skip
