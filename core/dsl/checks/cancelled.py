"""Stages that another one undoes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...stage import LogitsProcessor, Stage
from ...strategy import Step
from .reading import Pipe, Reading, constant
from .warning import Found, StrategyWarning


def cancelled(reading: Reading) -> Found:
    """Within each pipeline, from one stage to a later one."""
    for pipe in reading.pipes:
        steps = pipe.strategy.pipeline
        yield from _temperatures(reading, steps)
        yield from _biases(reading, steps)
        yield from _removed(pipe)


def _temperatures(reading: Reading, steps: Sequence[Step]) -> Found:
    """Numbers in a row, nothing between them that looks at probabilities."""
    last: float | None = None
    for step in steps:
        stage = step.stage
        if stage.stage_name == "temperature":
            value = constant(getattr(stage, "value", None))
            now = None if value in (None, 0.0, 1.0) else value
            if now is not None and last is not None:
                yield _product(reading, step, last, now)
            last = now if now is not None else last if value == 1.0 else None
        elif not (isinstance(stage, LogitsProcessor) and stage.masks_only and (stage.ranks_only or stage.pointwise)):
            last = None


def _product(reading: Reading, step: Step, last: float, now: float) -> StrategyWarning:
    if math.isclose(last * now, 1.0):
        message = f"the temperatures {last:g} and {now:g} undo each other"
        return StrategyWarning("cancelled", message, reading.at(step), "take both away")
    message = f"two temperatures multiply: {last:g} and {now:g} are {last * now:g}"
    return StrategyWarning("temperatures-multiply", message, reading.at(step), "write one of them")


def _biases(reading: Reading, steps: Sequence[Step]) -> Found:
    """Amounts of biases in a row that add up to nothing."""
    before: dict[Any, float] = {}
    for step in steps:
        if step.stage.stage_name != "bias":
            before = {}
            continue
        mine: dict[Any, float] = {}
        for key, amount in getattr(step.stage, "amounts", ()):
            mine[key] = mine.get(key, 0.0) + amount
        both = {key: before.get(key, 0.0) + amount for key, amount in mine.items()}
        if mine and not any(both.values()) and any(amount for _, amount in getattr(step.stage, "amounts", ())):
            message = "this bias undoes an earlier one" if any(mine.values()) else "these biases add up to 0"
            yield StrategyWarning("cancelled", message, reading.at(step), "take both away")
        before = before | both


def _removed(pipe: Pipe) -> Found:
    """What is kept or made likelier by one stage and removed by another of the same pipeline."""
    named = [(place, step, _keys(step.stage)) for place, step in enumerate(pipe.strategy.pipeline)]
    by_name = {name: [item for item in named if item[1].stage.stage_name == name] for name in ("bias", "allow", "ban")}
    bans, allows = by_name["ban"], by_name["allow"]
    for _, step, keys in by_name["bias"]:
        other = next((o for o in (*bans, *allows) if keys and _gone(keys, o[1].stage, o[2])), None)
        if other is not None:
            message = f"'{other[1].stage.stage_name}' removes every token that this bias is for"
            yield StrategyWarning("cancelled", message, step.where, "take one away")
    for place, step, keys in allows:
        for there, other_step, theirs in (*bans, *(o for o in allows if o[0] > place)):
            if _gone(keys, other_step.stage, theirs):
                later = step if place > there else other_step
                message = f"this '{later.stage.stage_name}' leaves nothing of what an earlier stage keeps"
                yield StrategyWarning("cancelled", message, later.where, "then the best one stays: take one away")
                break


def _keys(stage: Stage) -> frozenset[Any]:
    """The keys of a stage that names tokens."""
    if stage.stage_name == "bias":
        return frozenset(key for key, _ in getattr(stage, "amounts", ()))
    return frozenset(getattr(stage, "tokens", ())) if stage.stage_name in ("ban", "allow") else frozenset()


def _gone(keys: frozenset[Any], other: Stage, theirs: frozenset[Any]) -> bool:
    """Whether ``other``, a ban or an allow of ``theirs``, removes everything that the keys name."""
    if other.stage_name == "ban":
        return keys <= theirs
    return _ids(keys) and _ids(theirs) and not keys & theirs


def _ids(keys: frozenset[Any]) -> bool:
    return all(isinstance(key, int) for key in keys)


__all__ = ["cancelled"]
