"""Stages that stand in an order, or at a value, in which they change nothing or something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...stage import Combinator, LogitsProcessor, Search, Stage
from ...strategy import Step, Strategy
from .reading import Reading, leaves_one
from .warning import Found, StrategyWarning

_CUTS = ("min_p", "top_p")
_TEMPERATURES = ("temperature", "dynamic_temperature")


def order(reading: Reading) -> Found:
    """What each stage meets where it stands."""
    ported = _ported(reading.strategy)
    yield from _pipeline(reading, reading.strategy, (), ported)
    if ported and _samples(reading.strategy) and not any(s.stage.stage_name == "top_k" for s in _steps(reading)):
        first = next(step for step in _steps(reading) if getattr(step.stage, "dialect", None) == "hf")
        yield StrategyWarning(
            "hidden-top-k",
            "transformers would apply top_k(50) here too",
            reading.at(first, "dialect"),
            'add top_k(50, dialect="hf"), or top_k(0) to say that none is meant',
        )


def _steps(reading: Reading) -> Iterator[Step]:
    return reading.strategy.steps()


def _ported(strategy: Strategy) -> bool:
    """Whether it is written in transformers' dialect, and in no other engine's."""
    return {getattr(step.stage, "dialect", "logitmill") for step in strategy.steps()} - {"logitmill"} == {"hf"}


def _samples(strategy: Strategy) -> bool:
    return strategy.complete and any(step.stage.stage_name == "sample" for step in strategy.steps())


def _pipeline(reading: Reading, strategy: Strategy, outer: tuple[Stage, ...], ported: bool) -> Found:
    """Warnings of one pipeline; ``outer`` ran before it on some way here."""
    before: list[Stage] = list(outer)
    for position, step in enumerate(strategy.pipeline):
        stage = step.stage
        ahead = strategy.pipeline[:position]
        yield from _changed_before(step, before)
        if not (ported and stage.stage_name == "top_k" and getattr(stage, "k", None) == 0):  # says: no hidden one
            yield from _useless(step, ahead)
        if stage.stage_name == "greedy":
            yield from _before_greedy(ahead)
        elif isinstance(stage, LogitsProcessor):
            yield from _behind_one(step, ahead, strategy)
        before.append(stage)
        if isinstance(stage, Combinator | Search):
            for block in stage.children():
                yield from _pipeline(reading, block, tuple(before), ported)
            before.extend(inner.stage for block in stage.children() for inner in block.steps())


def _changed_before(step: Step, before: Sequence[Stage]) -> Found:
    stage = step.stage
    if stage.stage_name in _CUTS and not stage.is_identity():
        heat = next((s for s in before if _heats(s)), None)
        if heat is not None:
            message = f"'{stage.stage_name}' cuts what '{heat.stage_name}' has changed"
            hint = f"to cut the model's own distribution, put it before '{heat.stage_name}'"
            yield StrategyWarning("cut-after-temperature", message, step.where, hint)
    if stage.stage_name == "mirostat":
        cut = next((s for s in before if _is_cut(s)), None)
        if cut is not None:
            message = f"mirostat behind the truncation '{cut.stage_name}'"
            hint = "mirostat truncates by itself: take the other away"
            yield StrategyWarning("mirostat-after-cut", message, step.where, hint)


def _heats(stage: Stage) -> bool:
    return stage.stage_name in _TEMPERATURES and not stage.is_identity() and not leaves_one(stage)


def _is_cut(stage: Stage) -> bool:
    """A truncation by rank or probability that does something."""
    return isinstance(stage, LogitsProcessor) and stage.masks_only and stage.monotone and not stage.is_identity()


def _useless(step: Step, ahead: Sequence[Step]) -> Found:
    """A truncation that is off, or that a like one has done on the same logits."""
    stage = step.stage
    if not isinstance(stage, LogitsProcessor) or not stage.masks_only:
        return
    name = stage.stage_name
    if stage.is_identity():
        hint = "take it away, or give it another value"
        yield StrategyWarning("removes-nothing", f"'{name}' is off at this value", step.where, hint)
        return
    for earlier in (item.stage for item in reversed(ahead)):
        if not isinstance(earlier, LogitsProcessor) or not (earlier.masks_only or earlier.monotone):
            return
        if leaves_one(earlier):
            return  # which is said of every stage behind it
        if earlier.stage_name == name and _done(stage, earlier):
            message = f"an earlier '{name}' has removed what this one would"
            yield StrategyWarning("removes-nothing", message, step.where, "take one away")
            return
        if not earlier.masks_only and name != "top_k":  # changed probabilities; ranks are the same
            return


def _done(stage: Any, earlier: Any) -> bool:
    """Whether ``earlier`` leaves nothing to its like: a smaller k, a higher threshold."""
    field = {"top_k": "k", "min_p": "p"}.get(stage.stage_name)
    if field is None:
        return bool(stage == earlier) and stage.stage_name in ("ban", "allow", "top_n_sigma")
    if field == "k" and earlier.dialect not in ("logitmill", stage.dialect):
        return False  # more than k may have stayed there
    now, then = getattr(stage, field), getattr(earlier, field)
    if not isinstance(now, int | float) or not isinstance(then, int | float):
        return False
    return 0 < then <= now if field == "k" else then >= now


def _before_greedy(steps: Sequence[Step]) -> Found:
    for step in reversed(steps):
        stage = step.stage
        if not isinstance(stage, LogitsProcessor) or not stage.monotone:
            return
        if not stage.is_identity():
            message = f"'{stage.stage_name}' changes nothing ahead of greedy"
            yield StrategyWarning("before-greedy", message, step.where, "take it away, or draw with 'sample'")


def _behind_one(step: Step, ahead: Sequence[Step], strategy: Strategy) -> Found:
    if step.stage.is_identity() or strategy.pipeline[-1].stage.stage_name == "greedy":
        return
    one = next((earlier.stage.stage_name for earlier in ahead if leaves_one(earlier.stage)), None)
    if one is not None:
        message = f"'{step.stage.stage_name}' has nothing to change: '{one}' has left one token"
        yield StrategyWarning("one-token-left", message, step.where, f"take one of them away, or let '{one}' keep more")


__all__ = ["order"]
