"""The planner's law: a pipeline as planned gives what it gives stage by stage as written."""

from __future__ import annotations

from dataclasses import replace

from ....core.errors import StrategyError
from ....core.loader import registry
from ....core.planner import plan
from ....core.session import Fault
from ....core.stage import Stage
from ....core.strategy import Strategy
from ..cases import Case
from ..law import DISTS, Breach, law
from ..outcome import apart, shown
from ..subjects import known
from ..walk import Walk, straight


@law(DISTS, walks=True)
def planned(stage: Stage, case: Case) -> Breach | None:
    """Planned, with other stages around it, it gives what it gives as written."""
    with known(type(stage)):
        for strategy in around(stage):
            breach = _compared(strategy, replace(case, steps=min(case.steps, 2)))
            if breach is not None:
                return breach
    return None


def around(stage: Stage) -> list[Strategy]:
    """Pipelines with the stage in them. Temperatures are powers of 2, which round nothing."""
    make = registry().stage
    cool, warm = make("temperature", 0.5), make("temperature", 2.0)
    some, few, nucleus = make("top_k", 6), make("top_k", 3), make("top_p", 0.9)
    pipelines = [[stage], [cool, stage], [some, cool, stage]]
    if not Strategy.of(stage).complete:
        pipelines += [[cool, stage, few], [stage, warm, nucleus], [stage, cool, some, stage]]
    found = []
    for stages in pipelines:
        try:
            built = Strategy.of(stages[0])
            for following in stages[1:]:
                built = built | following
        except StrategyError:  # it may not stand there
            continue
        found.append(built)
    return found


def _order(strategy: Strategy, *, as_written: bool) -> list[tuple[str, Stage]]:
    return [(node.name, node.stage) for node in plan(strategy, as_written=as_written, fragment=True).root.walk()]


def _compared(strategy: Strategy, case: Case) -> Breach | None:
    if _order(strategy, as_written=True) == _order(strategy, as_written=False):
        return None  # the planner left it as it is
    try:
        expected, taken = straight(strategy, case)
    except (Fault, StrategyError):  # the law that it runs at all is another
        return None
    walk = Walk.start(strategy, case, as_written=False)
    for step, wanted in enumerate(expected):
        got = walk.law()
        row = apart(got, wanted, 0.0)
        if row is not None:
            where = f" after tokens {[tokens[row] for tokens in taken[:step]]}" if step else ""
            return Breach(
                f"'{strategy.to_text()}'{where}: planned {shown(got, row)}, as written {shown(wanted, row)}", row
            )
        if step < case.steps:
            walk = walk.then(taken[step])
    return None


__all__ = ["around", "planned"]
