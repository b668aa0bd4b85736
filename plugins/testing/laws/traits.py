"""Laws of traits: what a stage promises of itself is true. Checker and planner rely on it."""

from __future__ import annotations

import torch
from torch import Tensor

from ....core.dist import Dist
from ....core.errors import StrategyError
from ....core.rng import Noise
from ....core.stage import LogitsProcessor, Sampler, Stage
from .. import bench
from ..cases import INF, Case, ordinary, repetitive
from ..law import PIPED, Breach, law
from ..outcome import outcome, shown
from ..subjects import with_value
from .columns import reads_the_rest


@law(PIPED)
def monotone(stage: Stage, case: Case) -> Breach | None:
    """monotone = True: the order of the logits is kept."""
    if not stage.monotone:
        return None
    order, after = case.dist().order, outcome(stage, case).dense()
    in_order = after.logits.gather(-1, order)
    turned = in_order[:, 1:] > in_order[:, :-1]
    if not bool(turned.any()):
        return None
    row, place = turned.nonzero()[0].tolist()
    low, high = order[row, place + 1].item(), order[row, place].item()
    return Breach(f"token {low} comes above token {high}: it gives {shown(after, row)}", row)


@law(PIPED)
def masks_only(stage: Stage, case: Case) -> Breach | None:
    """masks_only = True: a token is removed or keeps its logit."""
    if not stage.masks_only:
        return None
    before, after = case.dist().logits, outcome(stage, case).dense()
    changed = after.alive & (after.logits != before)
    if not bool(changed.any()):
        return None
    row, token = changed.nonzero()[0].tolist()
    return Breach(f"token {token} goes from {before[row, token]:g} to {after.logits[row, token]:g}", row)


@law(PIPED)
def ranks_only(stage: Stage, case: Case) -> Breach | None:
    """ranks_only = True: what is kept depends on the order of the logits alone."""
    if not stage.ranks_only or reads_the_rest(stage):
        return None
    after = outcome(stage, case).dense()
    for name, squeezed in (("l / 4 + 3", _affine), ("ranks", _ranked)):
        logits = squeezed(case.dist())
        other = outcome(stage, case, Dist(logits)).dense()
        wrong = (other.alive != after.alive).any(-1)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            kept = [found.alive[row].nonzero()[:, 0].tolist() for found in (after, other)]
            return Breach(f"it keeps {kept[0]}, and {kept[1]} of the same order written as {name}", row)
    return None


def _affine(dist: Dist) -> Tensor:
    return dist.logits / 4 + 3


def _ranked(dist: Dist) -> Tensor:
    """Every logit replaced by how many are below it: the same order and ties, other distances."""
    below = (dist.logits[:, None, :] < dist.logits[:, :, None]).sum(-1)
    return below.float().square().masked_fill(~dist.alive, -INF)


@law(PIPED, ordinary, repetitive)
def identity(stage: Stage, case: Case) -> Breach | None:
    """At the values of identity_when it changes nothing."""
    twins = {repr(stage): stage} if stage.is_identity() else {}
    for field, value in stage.identity_when.items():
        if callable(value):
            continue
        try:
            twin = with_value(stage, field, value)
        except StrategyError:
            continue  # refused together with another field, a dialect for instance
        if not twin.is_identity():
            return Breach(f"identity_when says {field} = {value!r}, and is_identity() does not hold there")
        twins[f"{field} = {value!r}"] = twin
    before = case.dist()
    for name, twin in twins.items():
        after = outcome(twin, case).dense()
        wrong = (after.logits != before.logits).any(-1)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            return Breach(f"at {name} it gives {shown(after, row)}", row)
    return None


@law(PIPED)
def noise(stage: Stage, case: Case) -> Breach | None:
    """It reads ctx.noise where it says stochastic = True, nowhere else, and no other random numbers."""
    asked: list[int] = []

    class Counting(Noise):
        def uniform(self, key: int, draws: int = 1) -> Tensor:
            asked.append(draws)
            return super().uniform(key, draws)

        def by_token(self, key: int, ids: Tensor) -> Tensor:
            asked.append(1)
            return super().by_token(key, ids)

    dist = case.dist()
    made, view = bench.bound(stage, dist, case.context(dist, noise=Counting))
    before = torch.get_rng_state()
    if isinstance(stage, LogitsProcessor):
        made.apply(dist, made.init(view), view)
    elif isinstance(stage, Sampler):
        made.pick(made.law(dist, made.init(view), view), view)
    if not torch.equal(torch.get_rng_state(), before):
        return Breach("it takes numbers from torch's global generator, which others use too: take ctx.noise(self)")
    if asked and not stage.stochastic:
        who = "the pick that it has from Sampler" if getattr(type(stage), "pick", None) is Sampler.pick else "it"
        return Breach(f"{who} reads ctx.noise, and it does not say stochastic = True")
    if not asked and stage.stochastic and not stage.is_identity():
        return Breach("it says stochastic = True, and reads no ctx.noise")
    return None


__all__ = ["identity", "masks_only", "monotone", "noise", "ranks_only"]
