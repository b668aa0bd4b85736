"""Laws of rows: a row's result is its own, in any company, in any order, and as a copy."""

from __future__ import annotations

from dataclasses import replace

from ....core.stage import Stage
from ..cases import Case, ordinary, repetitive
from ..law import PIPED, ROWS, Breach, law
from ..outcome import apart, outcome, pick, same, shown
from ..walk import Walk, keeps_state, tokens_for


@law(ROWS, ordinary, repetitive)
def row_alone(stage: Stage, case: Case) -> Breach | None:
    """A row alone gets what it gets in a batch."""
    together = outcome(stage, case)
    for row in range(case.rows):
        alone, here = outcome(stage, case.select([row])), pick(together, [row])
        if not same(alone, here):
            return Breach(f"alone it gives {shown(alone)}, in the batch {shown(here)}", row)
    return None


@law(PIPED, ordinary, walks=True)
def selection(stage: Stage, case: Case) -> Breach | None:
    """Selecting and joining rows before is selecting and joining them after."""
    if case.rows == 1:
        return None
    rows, steps = [case.rows - 1, 0], min(case.steps, 2)
    whole, taken = _walked(stage, case, steps)
    law = whole.law()
    chosen = _walked(stage, case, steps)[0].select(rows)
    if case.steps > steps:  # and on from there
        last = tokens_for(law, steps)
        whole, chosen = whole.then(last), chosen.then([last[row] for row in rows])
        taken, law = [*taken, last], whole.law()
    row = apart(chosen.law(), pick(law, rows))
    if row is not None:
        got, wanted = shown(chosen.law(), row), shown(law, rows[row])
        return Breach(f"after tokens {taken} the rows {rows}, selected before, give {got} where all give {wanted}", row)
    return _joined(stage, replace(case, steps=steps))


def _joined(stage: Stage, case: Case) -> Breach | None:
    whole, taken = _walked(stage, case, case.steps)
    parts = [_walked(stage, case.select(some), case.steps, taken, some)[0] for some in ([0], [*range(1, case.rows)])]
    joined = parts[0].joined(parts[1]).law()
    row = apart(joined, whole.law())
    if row is None:
        return None
    return Breach(f"after tokens {taken} joined rows give {shown(joined, row)}, all {shown(whole.law(), row)}", row)


def _walked(
    stage: Stage, case: Case, steps: int, tokens: list[list[int]] | None = None, rows: list[int] | None = None
) -> tuple[Walk, list[list[int]]]:
    """A walk from the start, by given tokens (of these rows of them) or by its own, and the tokens."""
    walk, taken = Walk.start(stage, case), []
    for step in range(steps):
        own = tokens_for(walk.law(), step) if tokens is None else [tokens[step][row] for row in rows or ()]
        taken.append(own)
        walk = walk.then(own)
    return walk, taken


@law(PIPED, ordinary, walks=True)
def copies(stage: Stage, case: Case) -> Breach | None:
    """A copied row goes a way of its own."""
    for row in range(case.rows) if keeps_state(stage) else range(1):
        case_alone = case.select([row])
        walk, taken = _walked(stage, case_alone, min(case.steps, 1))
        law = walk.law()
        here, there = tokens_for(law, walk.step)[0], tokens_for(law, walk.step, turn=1)[0]
        twins = walk.select([0, 0]).then([here, there])
        own = _walked(stage, case.select([row, row]), walk.step + 1, [*taken, [here]], [0, 0])[0]
        got, wanted = pick(twins.law(), [0]), pick(own.law(), [0])
        if not same(got, wanted):
            beside = f"after token {here}, beside a copy that took {there}"
            return Breach(f"{beside}, it gives {shown(got)}; as a row of its own {shown(wanted)}", row)
    return None


__all__ = ["copies", "row_alone", "selection"]
