"""Laws of time: apply may run again, and a stage may be taken back to an earlier token."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ....core import state as states
from ....core.dist import Dist
from ....core.stage import LogitsProcessor, Sampler, Stage
from ....core.state import HostState
from .. import bench
from ..cases import Case
from ..law import PIPED, ROWS, Breach, law
from ..outcome import apart, on, shown
from ..walk import Walk, keeps_state, straight, tokens_for


@law(ROWS)
def pure(stage: Stage, case: Case) -> Breach | None:
    """Applied twice it gives the same, and it changes none of its inputs."""
    dist = case.dist()
    ctx = case.context(dist)
    looked: dict[str, Callable[[], Tensor]] = {
        "logits": lambda: dist.logits, "tokens": lambda: ctx.tokens, "counts": lambda: ctx.counts,
        "prompt_counts": lambda: ctx.prompt_counts, "the model's own logits": lambda: ctx.raw.logits,
        "the entropies": lambda: ctx.entropies,
    }  # fmt: skip
    before = {name: look().clone() for name, look in looked.items()}
    first = on(stage, dist, ctx)
    held = first.dense().logits.clone() if isinstance(first, Dist) else None
    second = on(stage, dist, ctx)
    for name, look in looked.items():
        changed = ~torch.isclose(look(), before[name], rtol=0, atol=0, equal_nan=True)
        if bool(changed.any()):
            return Breach(f"it changed {name} of its input", int(changed.nonzero()[0, 0]))
    row = apart(first, second, 0.0)
    if row is not None:
        return Breach(f"first it gives {shown(first, row)}, then {shown(second, row)}", row)
    if held is not None and not torch.allclose(first.dense().logits, held, rtol=0, atol=0, equal_nan=True):
        return Breach("what it returned the first time has changed since")
    return _moves_state(stage, case) if isinstance(stage, LogitsProcessor | Sampler) else None


def _moves_state(stage: LogitsProcessor | Sampler, case: Case) -> Breach | None:
    """Whether apply, or a sampler's law, moves the state, or gives another result of the same one."""
    dist = case.dist()
    made, view = bench.bound(stage, dist, case.context(dist))
    state, name = made.init(view), "law" if isinstance(stage, Sampler) else "apply"
    held = () if isinstance(state, HostState) else tuple(part.clone() for part in state)
    first, second = (getattr(made, name)(dist, state, view) for _ in range(2))
    for before, part in zip(held, state, strict=False):  # a HostState's objects are not compared
        changed = ~torch.isclose(part, before, rtol=0, atol=0, equal_nan=True)
        if bool(changed.any()):
            return Breach(f"its {name} changes its state, which is accept's to do", int(changed.nonzero()[0, 0]))
    row = apart(first, second, 0.0)
    return None if row is None else Breach(f"of one state it gives {shown(first, row)}, then {shown(second, row)}", row)


@law(PIPED, walks=True)
def replay(stage: Stage, case: Case) -> Breach | None:
    """Rolled back and replayed it gives the same as straight on."""
    expected, taken = straight(stage, case)
    remembers = keeps_state(stage)
    for back in range(case.steps) if remembers else range(min(1, case.steps)):
        walk = Walk.start(stage, case)
        for tokens in taken[:back]:
            walk = walk.then(tokens)
        saved = walk.saved()
        for step in range(back, case.steps):  # another way, looked at twice
            walk.law()
            walk = walk.then(tokens_for(walk.law(), step, turn=1))
        walk = saved
        for step in range(back, case.steps + 1):
            row = apart(walk.law(), expected[step], 0.0)
            if row is not None:
                got, wanted = shown(walk.law(), row), shown(expected[step], row)
                way = f"taken back to token {back} and on by tokens {taken[back:step]}"
                return Breach(f"{way} it gives {got}, straight on {wanted}", row)
            if step < case.steps:
                walk = walk.then(taken[step])
    return _host_rollback(stage, case, expected)


def _host_rollback(stage: Stage, case: Case, expected: list[Dist]) -> Breach | None:
    """Host objects say themselves how they are taken back."""
    walk = Walk.start(stage, case)
    if not any(isinstance(state, HostState) for state in walk.session.states.values()) or not case.steps:
        return None
    ahead = walk.saved()
    for step in range(case.steps):
        ahead = ahead.then(tokens_for(ahead.law(), step))
    back = {node: states.copied(state) for node, state in ahead.session.states.items()}
    for state in back.values():
        for item in state if isinstance(state, HostState) else ():
            item.rollback(case.steps)
    walk.session.states = back
    row = apart(walk.law(), expected[0])
    if row is None:
        return None
    got, wanted = shown(walk.law(), row), shown(expected[0], row)
    return Breach(f"after rollback({case.steps}) it gives {got}, at the start {wanted}", row)


__all__ = ["pure", "replay"]
