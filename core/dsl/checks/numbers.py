"""Arguments whose number is on the wrong side of something."""

from __future__ import annotations

from ...expression import Expression
from ...stage import Sampler, Stage
from ...strategy import Step, Strategy
from .intervals import Interval, Known, of_vocabulary
from .reading import Reading, everything, least
from .warning import Found, StrategyWarning

_REWARDS, _HOLDS_BACK = "makes what is already there likelier", "holds back"
#: (stage, field) -> the value at which it does nothing, what it does below that, and what above
_PENALTIES = {
    ("repetition", "penalty"): (1.0, _REWARDS, _HOLDS_BACK),
    ("presence", "value"): (0.0, _REWARDS, _HOLDS_BACK),
    ("frequency", "value"): (0.0, _REWARDS, _HOLDS_BACK),
    ("length_decay", "factor"): (1.0, "makes the end less likely, the longer the row gets", "brings it nearer"),
}


def numbers(reading: Reading) -> Found:
    """Penalties that reward, expressions that leave their field's range, seeds that are not read."""
    known = Known(ranges=of_vocabulary(reading.vocab))
    for pipe in reading.pipes:
        for step, part in everything(pipe.strategy):
            if isinstance(part, Stage):
                yield from _sign(reading, step, part, known)
                yield from _range(reading, step, part, known, pipe.strategy)
    yield from _seeds(reading)


def _sign(reading: Reading, step: Step | None, stage: Stage, known: Known) -> Found:
    for (name, field), (neutral, below, above) in _PENALTIES.items():
        if stage.stage_name != name or step is None or getattr(stage, "over", None) == "prompt":
            continue  # to stay close to a prompt, its tokens are made likelier
        value = getattr(stage, field, None)
        lowest = known.interval(value).high if isinstance(value, Expression) else least(value)
        if lowest is not None and lowest < neutral:
            shown = "" if isinstance(value, Expression) else f" of {lowest:g}"
            message = f"'{name}' with a {field}{shown} {below}"
            hint = f"{neutral:g} changes nothing, and what is above {above}"
            yield StrategyWarning("wrong-sign", message, reading.at(step, field), hint)


def _range(reading: Reading, step: Step | None, stage: Stage, known: Known, strategy: Strategy) -> Found:
    for name, scalar in stage.scalars.items():
        value = getattr(stage, name)
        if not isinstance(value, Expression) or (scalar.low is None and scalar.high is None):
            continue
        low = float("-inf") if scalar.low is None else scalar.low
        high = float("inf") if scalar.high is None else scalar.high
        found = known.interval(value)
        if found.low >= low and found.high <= high:
            continue
        inside = not (found & Interval(low, high)).empty
        if inside and (len(value.reads()) != 1 or not known.finite(value)):
            continue  # several signals move together, and what is divided by 0 is endless: nobody knows
        beyond = f"below {low:g}" if found.low < low else f"above {high:g}"
        otherwise = strategy.where if step is None else reading.at(step, name)
        where = reading.at_expression(value, otherwise)
        message = (
            f"'{name}' of '{stage.stage_name}' {'can be' if inside else 'is always'} {beyond}, where it is clamped"
        )
        yield StrategyWarning("clamped", message, where, "say so with clamp(x, low, high), min or max")


def _seeds(reading: Reading) -> Found:
    first: int | None = None
    for step in reading.strategy.steps():
        seed = getattr(step.stage, "seed", None)
        if not isinstance(step.stage, Sampler) or seed is None:
            continue
        if first is not None and seed != first:
            message = f"the seed {seed} is not read: a request has one, and {first} comes first"
            yield StrategyWarning("two-seeds", message, reading.at(step, "seed"), "take it away")
        first = seed if first is None else first


__all__ = ["numbers"]
