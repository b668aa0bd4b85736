"""Patches: ``with heat.value=0.3`` and a request's overrides, applied to the stages they name."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from .errors import Path, StrategyError
from .stage import Stage, StoppingCriterion
from .strategy import AnyOf, Patch, Step, Strategy, Test, check_overrides


def patched(strategy: Strategy, overrides: Mapping[str, Any] | None = None) -> Strategy:
    """``strategy`` without patches, its own and then the overrides applied.

    The patches of a block work inside it, before those of what holds it. An override's key is the path, ``heat.value``;
    its value a Python value, or a tree from ``core.dsl.read.parse_value``. Raises StrategyError for a path that names
    no stage, more than one, or no field, and for a value the field refuses.
    """
    if overrides is not None:
        check_overrides(overrides)
    strategy = _each_block(strategy, patched)
    for patch in strategy.patches:
        strategy = _applied(strategy, patch)
    strategy = replace(strategy, patches=())
    for key, value in (overrides or {}).items():
        path = tuple(key.split("."))
        where = Path(f"override {key}")
        try:
            strategy = _applied(strategy, Patch(path, _value(strategy, path, value), where))
        except StrategyError as error:
            raise StrategyError(error.message, where, hint=error.hint, code=error.code) from None
    return strategy


def target(strategy: Strategy, path: tuple[str, ...]) -> Stage:
    """The stage that ``path`` (its names, then a field) means: the one so labelled, else the only one of that name."""
    return _target(strategy, path)[1]


def _target(strategy: Strategy, path: tuple[str, ...]) -> tuple[int, Stage]:
    """Its number in the order of ``_changed``, and the stage."""
    name = ".".join(path[:-1])
    if not name:
        raise StrategyError(f"'{path[0]}' is no path", hint="write label.field or stage.field", code="patch")
    named: list[tuple[str | None, Stage]] = []

    def note(label: str | None, stage: Stage) -> Stage:
        named.append((label, stage))
        return stage

    _changed(strategy, note)
    labelled = [(i, stage) for i, (label, stage) in enumerate(named) if label == name]
    found = labelled or [(i, stage) for i, (_, stage) in enumerate(named) if stage.stage_name == name]
    if len(found) > 1:
        raise StrategyError(
            f"'{name}' is {len(found)} stages", hint="give the one you mean a label with 'as'", code="patch"
        )
    if not found:
        names = sorted({label for label, _ in named if label} | {stage.stage_name for _, stage in named})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names) or 'none'}"
        raise StrategyError(f"no stage '{name}' to patch", hint=hint, code="patch")
    stage = found[0][1]
    if path[-1] not in type(stage).model_fields:
        near = difflib.get_close_matches(path[-1], list(type(stage).model_fields), n=1)
        takes = ", ".join(type(stage).model_fields) or "none"
        hint = f"did you mean '{near[0]}'?" if near else f"it takes {takes}"
        raise StrategyError(f"'{stage.stage_name}' has no argument '{path[-1]}'", hint=hint, code="unknown-argument")
    return found[0]


def _value(strategy: Strategy, path: tuple[str, ...], value: Any) -> Any:
    """An override's value: a tree of the language is read as the field takes it."""
    from .dsl import read, syntax  # a floor of its own beside this one

    if isinstance(value, syntax.Node):
        written: Any = value
        return read.field_value(target(strategy, path), path[-1], written)
    return value


def _applied(strategy: Strategy, patch: Patch) -> Strategy:
    number, old = _target(strategy, patch.path)
    values = {name: getattr(old, name) for name in type(old).model_fields} | {patch.path[-1]: patch.value}
    try:
        new = type(old)(**values)
    except StrategyError as error:
        raise StrategyError(error.message, error.where or patch.where, hint=error.hint, code=error.code) from None
    counted = itertools.count()
    return _changed(strategy, lambda label, stage: new if next(counted) == number else stage)


def _changed(strategy: Strategy, change: Callable[[str | None, Stage], Stage]) -> Strategy:
    """``change(label, stage)`` of every stage and stopping criterion at any depth, holders before what they hold."""
    steps = []
    for step in strategy.pipeline:
        stage = _with_blocks(change(step.label, step.stage), lambda block: _changed(block, change))
        steps.append(step if stage is step.stage else replace(step, stage=stage))
    stop = _test(strategy.stop, change) if strategy.stop is not None else None
    if stop is strategy.stop and all(a is b for a, b in zip(steps, strategy.pipeline, strict=True)):
        return strategy
    return replace(strategy, pipeline=tuple(steps), stop=stop)


def _test(test: Test, change: Callable[[str | None, Stage], Stage]) -> Test:
    if isinstance(test, StoppingCriterion):
        return cast(StoppingCriterion, change(None, test))
    if isinstance(test, AnyOf):
        parts = tuple(_test(part, change) for part in test.tests)
        return test if all(a is b for a, b in zip(parts, test.tests, strict=True)) else type(test)(parts)
    return test


def _each_block(strategy: Strategy, change: Callable[[Strategy], Strategy]) -> Strategy:
    steps: list[Step] = []
    for step in strategy.pipeline:
        stage = _with_blocks(step.stage, change)
        steps.append(step if stage is step.stage else replace(step, stage=stage))
    same = all(a is b for a, b in zip(steps, strategy.pipeline, strict=True))
    return strategy if same else replace(strategy, pipeline=tuple(steps))


def _with_blocks(stage: Stage, change: Callable[[Strategy], Strategy]) -> Stage:
    """The stage with every block in its fields changed; itself where none was."""
    values = {name: _inside(getattr(stage, name), change) for name in type(stage).model_fields}
    return stage.bound(values)


def _inside(value: Any, change: Callable[[Strategy], Strategy]) -> Any:
    if isinstance(value, Strategy):
        return change(value)
    if isinstance(value, tuple):
        parts = tuple(_inside(part, change) for part in value)
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    return value
