"""The first law: a stage runs, and returns what its contract asks for. Where it does not, no other is tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ....core.dist import Dist
from ....core.errors import StrategyError
from ....core.expression import Expression
from ....core.returned import signal_of, tokens_of, truth_of, weights_of
from ....core.stage import Combinator, Sampler, Schedule, Search, Signal, Stage, StoppingCriterion
from ....core.strategy import Strategy
from .. import bench
from ..cases import Case
from ..law import ANY, Breach, law
from ..outcome import outcome
from ..walk import Walk, tokens_for


@law(ANY)
def contract(stage: Stage, case: Case) -> Breach | None:
    """It runs, and returns what its contract asks for."""
    check = _CHECKS.get(stage.kind, _piped)
    try:
        return check(stage, case)
    except StrategyError as error:
        return Breach(f"it raised StrategyError: {error.message}")


def _piped(stage: Any, case: Case) -> Breach | None:
    walk = Walk.start(stage, case)
    law = walk.law()  # holds Dist and rows, and the state of init
    breach = _well_made(law, case)
    if breach is not None:
        return breach
    walk.then(tokens_for(law, 0)).law()  # holds the state of accept
    return _picked(stage, case) if isinstance(stage, Sampler) else None


def _well_made(law: Dist, case: Case) -> Breach | None:
    if law.vocab_size != case.vocab:
        return Breach(f"the vocabulary has {case.vocab} tokens, the Dist it returned {law.vocab_size}")
    if law.ids is None:
        return None if law.columns == case.vocab else Breach(f"{law.columns} columns and no ids: narrow keeps them")
    if law.columns > 1 and not bool((law.ids.diff(dim=-1) > 0).all()):
        return Breach("the ids of its columns do not ascend")
    if not bool(((law.ids >= 0) & (law.ids < case.vocab)).all()):
        return Breach("a column has an id outside the vocabulary")
    return None


def _picked(stage: Sampler, case: Case) -> Breach | None:
    dist = case.dist()
    made, view = bench.bound(stage, dist, case.context(dist))
    tokens_of(made.pick(made.law(dist, made.init(view), view), view), case.rows)
    return None


def _signal(stage: Any, case: Case) -> Breach | None:
    assert isinstance(stage, Signal)
    signal_of(outcome(stage, case), case.rows, stage.value_kind, stage.stage_name)
    if stage.value_kind == "text" and "text" not in stage.needs:
        return Breach('it reads text, and "text" is not among its needs')
    return None


def _criterion(stage: Any, case: Case) -> Breach | None:
    assert isinstance(stage, StoppingCriterion)
    if not (stage.reads_text() or stage.reads_tokens()):
        return Breach("it has neither check nor check_text, so it never ends a row")
    if stage.finish_reason not in ("eos", "stop", "length"):
        return Breach(f"finish_reason is eos, stop or length, this one's is {stage.finish_reason!r}")
    truth_of(outcome(stage, case), case.rows)
    return None


def _combinator(stage: Any, case: Case) -> Breach | None:
    assert isinstance(stage, Combinator)
    children = stage.children()
    if not children or not all(isinstance(child, Strategy) for child in children):
        return Breach(f"children are strategies, at least one; got {children!r}")
    if not stage.sequential:
        dist = case.dist()
        weights = weights_of(stage.weights(dist, case.context(dist)), case.rows, len(children)).tolist()
        for row, own in enumerate(weights):
            if not all(math.isfinite(w) and w >= 0 for w in own) or not any(own):
                return Breach(f"weights are finite, none below 0 and one above it; got {own}", row)
    return _piped(stage, case)


def _search(stage: Any, case: Case) -> Breach | None:
    assert isinstance(stage, Search)
    rows = stage.expand()
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        return Breach(f"expand is a whole number of rows, at least 1; got {rows!r}")
    if not all(isinstance(child, Strategy) for child in stage.children()):
        return Breach("children are strategies")
    wrong = [m for m in stage.measures() if not isinstance(m, Expression) or m.kind != "number"]
    return Breach(f"measures are number expressions, got {wrong[0]!r}") if wrong else None


def _schedule(stage: Any, case: Case) -> Breach | None:
    assert isinstance(stage, Schedule)
    fraction = torch.linspace(0, 1, case.rows, dtype=torch.float64)[:, None]
    value = stage.value(1.5, 0.5, fraction)
    if not isinstance(value, torch.Tensor) or value.shape != fraction.shape or value.dtype != torch.float64:
        return Breach(f"value is float64 {list(fraction.shape)}, as its fraction is; got {_what(value)}")
    return None if bool(torch.isfinite(value).all()) else Breach("value is not finite between two finite ends")


def _what(value: Any) -> str:
    """What came, in words."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


_CHECKS: dict[str, Callable[[Any, Case], Breach | None]] = {
    "signal": _signal,
    "stopping criterion": _criterion,
    "combinator": _combinator,
    "search": _search,
    "schedule": _schedule,
}

__all__ = ["contract"]
