"""What pydantic finds wrong with a stage's arguments, in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import ErrorDetails

if TYPE_CHECKING:
    from .stage import Stage


def describe(stage: type[Stage], error: ValidationError) -> str:
    """Pydantic's account of the first fault, in one line of our words."""
    fault = complaints(error)[0]
    field = str(fault["loc"][0]) if fault["loc"] else ""
    where = f"{stage.stage_name}.{field}" if field in stage.model_fields else stage.stage_name
    context = fault.get("ctx", {})
    if fault["type"] == "missing":
        return f"{stage.stage_name} needs {field!r}"
    if fault["type"] == "extra_forbidden":
        return f"{stage.stage_name} has no argument {field!r}; it takes {', '.join(stage.model_fields) or 'none'}"
    bounds = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le"),
              "greater_than": ("above", "gt"), "less_than": ("below", "lt")}  # fmt: skip
    if fault["type"] in bounds:
        words, key = bounds[fault["type"]]
        return f"{where} must be {words} {context[key]:g}, got {fault['input']!r}"
    if fault["type"] == "tuple_type" and stage.kind == "combinator" and field == stage.variadic:
        example = f"lm.{stage.stage_name}((0.7, a), (0.3, b))"
        return f"{stage.stage_name} takes pairs of weight and block, as in {example}, got {fault['input']!r}"
    message = str(context.get("error", "")) or fault["msg"]
    told = fault["type"].startswith("scalar") or ", got " in message or not fault["loc"]
    return f"{where}: {message[:1].lower()}{message[1:]}" + ("" if told else f", got {fault['input']!r}")


def complaints(error: ValidationError) -> list[ErrorDetails]:
    """Pydantic's faults in its order. Of a union's, those of types that were not meant only where there are no others.

    A string that is too short for ``int | str`` is no whole number either, which is not what is wrong with it.
    """
    told = error.errors(include_url=False)
    meant = {_union(item) for item in told if not item["type"].endswith("_type")} - {None}
    return [item for item in told if _union(item) not in meant or not item["type"].endswith("_type")]


def _union(item: ErrorDetails) -> tuple[int | str, ...] | None:
    """The place of the union that a fault comes from, which names its own members behind it."""
    loc = item["loc"]
    return loc[:-1] if len(loc) > 1 and isinstance(loc[-1], str) else None


__all__ = ["complaints", "describe"]
