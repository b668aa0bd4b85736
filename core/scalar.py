"""Scalar: a field that is written as a number, a schedule or an expression of signals.

Wherever a stage's method runs, the value is a plain number or a tensor ``[R, 1]``: write what broadcasts.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

import torch
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from torch import Tensor

from .errors import StrategyError
from .expression import Expression

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with a default, so that a bare Scalar is a whole type

    from .context import Context
    from .dist import Dist
    from .stage import Schedule, Stage


LARGEST = torch.finfo(torch.float32).max
#: a whole number's NaN
NO_NUMBER = -(2**63)


@dataclass(frozen=True)
class Ramp:
    """``start -> end over n by shape``: start at the first generated token, end at token n and from then on."""

    start: float
    end: float
    over: float
    shape: Schedule

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end), ("over", self.over)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise StrategyError(f"a schedule's {name} is a finite number, got {value!r}", code="type")
            if abs(value) > LARGEST:
                raise StrategyError(f"a schedule's {name} is at most 3.4e38, got {value:g}", code="range")
        if self.over <= 0:
            raise StrategyError(f"a schedule runs over at least one token, got {self.over:g}", code="range")
        self.shape.check(self.start, self.end)

    def at(self, step: Tensor) -> Tensor:
        """float32 [R, 1] at ``step`` generated tokens (int64 [R, 1])."""
        fraction = (step.double() / self.over).clamp(0.0, 1.0)
        return self.shape.value(self.start, self.end, fraction).float()

    # How pydantic holds a field's ge, le, gt and lt: both ends have to.
    def __ge__(self, bound: float) -> bool:
        return min(self.start, self.end) >= bound

    def __le__(self, bound: float) -> bool:
        return max(self.start, self.end) <= bound

    def __gt__(self, bound: float) -> bool:
        return min(self.start, self.end) > bound

    def __lt__(self, bound: float) -> bool:
        return max(self.start, self.end) < bound


@dataclass(frozen=True)
class ScalarType:
    """The marker behind ``Scalar`` (float) and ``Scalar[int]``."""

    number: type[int] | type[float] = float

    def validate(self, value: Any) -> Any:
        """The value as it is kept in the stage. Raises pydantic's error for anything that is no Scalar."""
        value = getattr(value, "expression", value)  # the Python face's operators wrap an expression
        if isinstance(value, Expression):
            if value.kind != "number":
                raise PydanticCustomError(
                    "scalar_kind", "a number is wanted, this expression is a {kind}", {"kind": value.kind}
                )
            return value
        if isinstance(value, Ramp):
            return value
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            shown = {"found": type(value).__name__}
            raise PydanticCustomError(
                "scalar_type", "a number, a schedule or an expression of signals is wanted, got {found}", shown
            )
        if isinstance(value, numbers.Integral) and abs(int(value)) >= 2**128:  # no float holds it
            raise _too_large(value, "2^63 - 1" if self.number is int else "3.4e38")
        if not math.isfinite(value):
            raise PydanticCustomError("scalar_finite", "a finite number is wanted, got {value}", {"value": str(value)})
        if self.number is int:
            whole = int(value) if isinstance(value, numbers.Integral) else int(float(value))
            if value != whole:
                raise PydanticCustomError(
                    "scalar_whole", "a whole number is wanted, got {value}", {"value": str(value)}
                )
            if abs(whole) >= 2**63:  # what an int64 on the device holds
                raise _too_large(value, "2^63 - 1")
            return whole
        if abs(float(value)) > LARGEST:  # what a float32 on the device holds
            raise _too_large(value, "3.4e38")
        return float(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The bounds that came with the field are in the inner schema, and are held against what was validated.
        return core_schema.no_info_before_validator_function(self.validate, handler(Any))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "integer" if self.number is int else "number"}


def _too_large(value: Any, most: str) -> PydanticCustomError:
    digits = str(value)
    shown = {"value": digits if len(digits) < 50 else f"a number of {len(digits)} digits", "most": most}
    return PydanticCustomError("scalar_large", "a number here is at most {most}, got {value}", shown)


if TYPE_CHECKING:
    _N = TypeVar("_N", int, float, default=float)
    # To a type checker a Scalar is a number or whatever broadcasts like one.
    Scalar = Union[_N, Any]  # noqa: UP007  # a generic alias, so that Scalar[int] reads as it runs
else:

    class Scalar:
        """``Scalar`` or ``Scalar[int]`` as a field's annotation."""

        def __class_getitem__(cls, number: type) -> Any:
            return Annotated[Any, ScalarType(number)]

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            return ScalarType().__get_pydantic_core_schema__(source, handler)

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
            return ScalarType().__get_pydantic_json_schema__(schema, handler)


def scalar_type(annotation: Any, metadata: Any = ()) -> ScalarType | None:
    """The ScalarType of a field's annotation, also inside ``Scalar | None``; None for any other field."""
    for item in metadata:
        if isinstance(item, ScalarType):
            return item
    if annotation is Scalar:
        return ScalarType()
    if isinstance(annotation, ScalarType):
        return annotation
    for part in get_args(annotation):
        found = scalar_type(part)
        if found is not None:
            return found
    return None


def undefined(stage: Stage, written: Stage) -> Tensor | None:
    """A bool [R, 1]: rows in which an expression in a Scalar field is no number at this step, as 0/0 is none.

    ``stage`` has this step's values, ``written`` the expressions. None where there are none.
    """
    values = [getattr(stage, name) for name in stage.scalars if isinstance(getattr(written, name), Expression)]
    wrong = [value == NO_NUMBER if value.dtype == torch.int64 else value.isnan() for value in values]
    return torch.cat(wrong, -1).any(-1, keepdim=True) if wrong else None


@dataclass(frozen=True)
class ScalarField:
    """What the core knows of a stage's Scalar field: its number type and its closed bounds."""

    name: str
    number: type[int] | type[float]
    low: float | None
    high: float | None

    def stacked(self, values: list[Any], dist: Dist, ctx: Context) -> Any:
        """The field's value for R rows: a plain number where all rows agree on one, else a tensor [R, 1]."""
        first = values[0]
        if not isinstance(first, Ramp | Expression) and all(value is first or value == first for value in values[1:]):
            return first
        if isinstance(first, Expression):  # rows stack only where their expressions are equal
            return self._within(first.evaluate(dist, ctx))
        if all(value is first for value in values):
            return self._within(first.at(ctx.step))
        step = ctx.step
        parts = [
            v.at(step[i : i + 1]) if isinstance(v, Ramp) else torch.full((1, 1), float(v), device=step.device)
            for i, v in enumerate(values)
        ]
        return self._within(torch.cat(parts))

    def _within(self, value: Tensor) -> Tensor:
        if self.low is not None or self.high is not None:
            value = value.clamp(self.low, self.high)  # NaN stays NaN
        return (
            torch.where(value.isnan(), NO_NUMBER, value.round().clamp(-(2.0**62), 2.0**62).long())
            if self.number is int
            else value
        )

    def upper(self, values: list[Any]) -> float | None:
        """A bound known on the host, or None."""
        if any(isinstance(value, Expression) or value is None for value in values):
            return self.high
        return max(max(v.start, v.end) if isinstance(v, Ramp) else v for v in values)

    def lower(self, values: list[Any]) -> float | None:
        """As ``upper``, from below."""
        if any(isinstance(value, Expression) or value is None for value in values):
            return self.low
        return min(min(v.start, v.end) if isinstance(v, Ramp) else v for v in values)
