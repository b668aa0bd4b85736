"""Laws of what is left: removed is removed, something stays, and no number leaves the floats."""

from __future__ import annotations

import torch

from ....core.dist import Dist
from ....core.stage import Signal, Stage
from ..cases import Case, extreme, lonely, ordinary, repetitive
from ..law import DISTS, ROWS, Breach, law, raised
from ..outcome import outcome, shown
from ..subjects import siblings


@law(DISTS)
def removed(stage: Stage, case: Case) -> Breach | None:
    """What is removed (-inf) stays removed."""
    before, after = case.dist(), outcome(stage, case).dense()
    back = after.alive & ~before.alive
    if not bool(back.any()):
        return None
    row, token = back.nonzero()[0].tolist()
    return Breach(f"token {token} is back, with logit {after.logits[row, token].item():g}", row)


@law(DISTS, ordinary, repetitive)
def left(stage: Stage, case: Case) -> Breach | None:
    """One finite logit at least is left in each row, at 0 and at the ends of its ranges too."""
    breach = _emptied(stage, case, "it")
    if breach is not None:
        return breach
    for other in siblings(stage):
        try:
            breach = _emptied(other, case, repr(other))
        except Exception as error:  # a value of its own is named with what it raised
            said = raised(error)
            breach = None if said is None else Breach(f"{other!r} {said}")
        if breach is not None:
            return breach
    return None


def _emptied(stage: Stage, case: Case, who: str) -> Breach | None:
    after = outcome(stage, case)
    empty = (after.kept < 1) | ~torch.isfinite(after.max_logit)
    if not bool(empty.any()):
        return None
    row = int(empty[:, 0].nonzero()[0])
    return Breach(f"{who} gives {shown(after, row)}", row)


@law(DISTS | {"signal"}, extreme)
def extremes(stage: Stage, case: Case) -> Breach | None:
    """Extreme logits become neither NaN nor infinite."""
    found = outcome(stage, case)
    if isinstance(stage, Signal):
        if stage.value_kind != "number":
            return None
        wrong = ~torch.isfinite(found)
    else:
        assert isinstance(found, Dist)
        wrong = (found.logits.isnan() | found.probs.isnan()).any(-1, keepdim=True) | ~torch.isfinite(found.max_logit)
    if not bool(wrong.any()):
        return None
    row = int(wrong[:, 0].nonzero()[0])
    return Breach(f"it gives {shown(found, row)}", row)


@law(ROWS, lonely)
def one_token(stage: Stage, case: Case) -> Breach | None:
    """A vocabulary of one token is left as it is."""
    found = outcome(stage, case)
    if not isinstance(found, Dist) or bool(found.dense().alive.all()):
        return None
    return Breach("it removes the only token there is", int((~found.dense().alive).nonzero()[0, 0]))


__all__ = ["extremes", "left", "one_token", "removed"]
