"""What is wrong with an argument, in words and at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..complaints import complaints
from ..errors import Span, StrategyError, Where
from ..stage import Stage
from . import syntax
from .fields import Field, fields, shown
from .scope import Scope, did_you_mean


@dataclass(frozen=True)
class Given:
    """One argument under its field's name. ``place`` is where a fault of the whole argument is shown."""

    field: Field
    value: syntax.Value
    place: Where


def placed(error: StrategyError, where: Where | None) -> StrategyError:
    """The same error, with a place if it had none."""
    return StrategyError(error.message, error.where or where, hint=error.hint, code=error.code)


def unknown_error(stage: type[Stage], key: syntax.Word) -> StrategyError:
    """An argument that the stage does not have."""
    names = list(fields(stage))
    takes = f"it takes {', '.join(names)}" if names else "it takes none"
    hint = did_you_mean(key.text, names) or takes
    return StrategyError(
        f"'{stage.stage_name}' has no argument '{key.text}'", key.where, hint=hint, code="unknown-argument"
    )


def missing_error(stage: type[Stage], field: Field, where: Where) -> StrategyError:
    """An argument that the stage cannot do without."""
    hint = f"it is {field.wanted}" + (f", {field.range}" if field.range else "")
    if field.name == "block":
        hint = f"write {stage.stage_name}(...) {{ ... }}"
    return StrategyError(f"'{stage.stage_name}' needs '{field.name}'", where, hint=hint, code="missing-argument")


def type_error(stage: type[Stage], field: Field, node: syntax.Value) -> StrategyError:
    """A value of a kind that the field does not take."""
    hint = f"got {shown(node)}"
    if isinstance(node, syntax.Call) and not node.args:
        hint = did_you_mean(node.name.text, field.words) or (f'write "{node.name.text}"' if field.admits(str) else hint)
    return StrategyError(
        f"'{field.name}' of '{stage.stage_name}' takes {field.wanted}", node.where, hint=hint, code="type"
    )


_BOUNDS = {"greater_than_equal", "less_than_equal", "greater_than", "less_than"}


def fault(
    stage: type[Stage], error: StrategyError, given: list[Given], scope: Scope, call: syntax.Call
) -> StrategyError:
    """The first of pydantic's complaints in the order of the text, in our words and at its place."""
    cause = error.__context__
    if not isinstance(cause, ValidationError):
        return placed(error, call.name.where)
    by_name = {item.field.name: item for item in given}
    faults = []
    for detail in complaints(cause):
        loc = detail["loc"]
        item = by_name.get(str(loc[0])) if loc else None
        if item is None:
            faults.append(_as_said(stage, detail, call.name.where))
            continue
        node = _inside(item.value, loc[1:], scope)
        where = node.where if node is not None else item.place
        faults.append(_in_words(stage, item.field, detail, node, where))
    return min(faults, key=lambda fault: fault.where.start if isinstance(fault.where, Span) else 0)


def _inside(node: syntax.Value, loc: Sequence[int | str], scope: Scope) -> syntax.Value | None:
    """The item of a list or map that pydantic's location points to; None for what a parameter stands for elsewhere."""
    if scope.param(node) is not None:
        return node
    for index in (part for part in loc if isinstance(part, int)):
        if isinstance(node, syntax.ListOf) and index < len(node.items):
            node = node.items[index]
        elif isinstance(node, syntax.MapOf) and index < len(node.pairs):
            return node.pairs[index][next((p for p in loc[::-1] if isinstance(p, int)), 0) % 2]
    return node


def _in_words(stage: type[Stage], field: Field, detail: Any, node: syntax.Value | None, where: Where) -> StrategyError:
    name, kind = f"'{field.name}' of '{stage.stage_name}'", detail["type"]
    got = f"got {shown(node)}" if node is not None else ""
    if kind in _BOUNDS:
        range_ = field.range or _bound(detail)
        return StrategyError(f"{name} is out of range", where, hint=f"it is {range_}; {got}", code="range")
    if kind == "value_error":
        return _as_said(stage, detail, where, name)
    if kind == "block":
        message = detail["msg"][:1].lower() + detail["msg"][1:]
        return StrategyError(f"{name}: {message}", where, hint=f"it takes {field.wanted}", code="type")
    if kind == "scalar_large":
        most = detail["ctx"]["most"]
        return StrategyError(f"{name} is out of range", where, hint=f"it is at most {most}; {got}", code="range")
    if kind == "scalar_kind":
        got += f", which is a {detail['ctx']['kind']}"
    if kind in ("too_short", "string_too_short"):
        least = detail["ctx"]["min_length"]
        what = (
            f"at least {least} character{'s' * (least > 1)}"
            if kind == "string_too_short"
            else f"at least {least} of them"
        )
        return StrategyError(f"{name} is too short", where, hint=f"it takes {what}", code="range")
    hint = (did_you_mean(node.value, field.words) if isinstance(node, syntax.Text) else "") or got
    return StrategyError(f"{name} takes {field.wanted}", where, hint=hint, code="type")


def _bound(detail: Any) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[key]} {value:g}" for key, value in detail["ctx"].items() if key in words)


def _as_said(stage: type[Stage], detail: Any, where: Where, name: str = "") -> StrategyError:
    """What the stage's own validator says."""
    said = detail.get("ctx", {}).get("error")
    if isinstance(said, StrategyError):
        return StrategyError(said.message, where, hint=said.hint, code=said.code)
    message = str(said) if said is not None else str(detail["msg"])
    return StrategyError(
        f"{name or repr(stage.stage_name)}: {message[:1].lower()}{message[1:]}", where, code="argument"
    )
