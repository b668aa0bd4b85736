"""What the laws are tried on: stages made of classes, instances, texts of the language and values of fields."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic.fields import FieldInfo

from ...core.errors import LogitmillError, StrategyError
from ...core.expression import Expression
from ...core.loader import registry
from ...core.planner import leaves
from ...core.registry import Entry
from ...core.scalar import Ramp
from ...core.stage import Signal, Stage, StoppingCriterion
from ...core.strategy import Strategy
from ...core.vocab import Vocab
from . import bench
from .cases import VOCAB

WIDE = 320  # every token of the bench's tokenizer
MOST = 256  # stages from one call: beyond that, values were multiplied by mistake


@contextmanager
def known(cls: type[Stage]) -> Iterator[None]:
    """The class registered under its name for a while: what is read and planned by name finds it."""
    book = registry().schedules if cls.kind == "schedule" else registry().entries
    name = cls.stage_name
    before = book.get(name)
    if before is not None and before.target is cls:
        yield
        return
    book[name] = Entry(name, cls.kind, "logitmill.testing", cls, builtin=True)
    try:
        yield
    finally:
        book.pop(name)
        if before is not None:
            book[name] = before


def stages_of(what: type[Stage] | Stage | str, fields: Mapping[str, Any]) -> list[Stage]:
    """The stages to try. Raises TypeError for what is none, StrategyError for values that a stage refuses."""
    if isinstance(what, Stage):
        return [what]
    if isinstance(what, str):
        return list(written(what))
    if not (isinstance(what, type) and issubclass(what, Stage)):
        raise TypeError(f"a stage class, a stage or its text in the language is wanted, got {what!r}")
    if fields:
        return _of_values(what, fields)
    with known(what):
        named = [stage for text in what.examples for stage in everything(text) if type(stage) is what]
    found = [stage for stage in dict.fromkeys(named) if _fits(stage)]  # an example may name a real model's tokens
    return found or [what(**required(what))]


def _fits(stage: Stage) -> bool:
    try:
        return bool(vocabulary_for(stage))
    except ValueError:
        return False


def everything(text: str) -> Iterator[Stage]:
    """The stages that a text names at any depth, the signals they read and the shapes of their schedules among them."""
    for stage in written(text):
        steps = [step.stage for child in getattr(stage, "children", tuple)() for step in child.steps()]
        for part in (stage, *steps):
            yield part
            for name in type(part).model_fields:
                value = getattr(part, name)
                if isinstance(value, Ramp):
                    yield value.shape
                elif isinstance(value, Expression):
                    yield from (read.signal for read in value.reads())


def _of_values(cls: type[Stage], fields: Mapping[str, Any]) -> list[Stage]:
    """A stage for every combination of values: a list is several, anything else is one."""
    unknown = [name for name in fields if name not in cls.model_fields]
    if unknown:
        takes = ", ".join(cls.model_fields) or "none"
        raise StrategyError(f"{cls.stage_name} has no argument {unknown[0]!r}; it takes {takes}", code="argument")
    choices = [value if isinstance(value, list) else [value] for value in fields.values()]
    given = [dict(zip(fields, values, strict=True)) for values in itertools.product(*choices)]
    if len(given) > MOST:
        raise ValueError(f"{len(given)} combinations of values are too many: call it for a few fields at a time")
    rest = required(cls, given=set(fields))
    return [cls(**rest, **values) for values in given]


def required(cls: type[Stage], given: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]  # read only
    """Values for the required fields that are not given: the middle of a number's range, a small block, and so on."""
    return {
        name: _middle(cls, name, info)
        for name, info in cls.model_fields.items()
        if info.is_required() and name not in given
    }


def _middle(cls: type[Stage], name: str, info: FieldInfo) -> Any:
    bounds = {
        key: getattr(item, key) for item in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(item, key)
    }
    scalar = cls.scalars.get(name)
    kind = scalar.number if scalar is not None else info.annotation
    if kind in (int, float):
        low = bounds.get("ge", bounds.get("gt", 0))
        high = bounds.get("le", bounds.get("lt", low + 2))
        return kind((low + high) / 2)
    if info.annotation is Strategy:
        return Strategy.of(registry().stage("top_k", 5))
    if info.annotation is str:
        return "cat"
    raise ValueError(
        f"{cls.stage_name} needs {name!r}, and no value of it is known: give one, as in "
        f"assert_laws({cls.__name__}, {name}=...), or write `examples` in the class"
    )


def written(text: str) -> Iterator[Stage]:
    """The stages that a text names: of a pipeline, or of a stop test, an expression, a schedule or their like."""
    try:
        strategy = Strategy.parse(text)
    except StrategyError as first:
        for wrapped in (f"greedy until {text}", f"greedy until 0 < ({text})", f'greedy until ({text}) ~ "a"'):
            try:
                strategy = Strategy.parse(wrapped)
            except StrategyError:
                continue
            yield from _tested(strategy)
            return
        try:
            strategy = Strategy.parse(f"temperature({text})")
        except StrategyError:
            raise first from None
        value = getattr(strategy.pipeline[0].stage, "value", None)
        if not isinstance(value, Ramp):
            raise first from None
        yield value.shape
        return
    if strategy.stop is None or len(strategy.pipeline) > 1:
        yield from (step.stage for step in strategy.pipeline)
    if strategy.stop is not None:
        yield from _tested(strategy)


def _tested(strategy: Strategy) -> Iterator[StoppingCriterion | Signal]:
    """The criteria and signals of a stop test."""
    for leaf in leaves(strategy.stop):
        if isinstance(leaf, Expression):
            yield from (read.signal for read in leaf.reads())
        elif isinstance(leaf, StoppingCriterion):
            yield leaf


def with_value(stage: Stage, name: str, value: Any) -> Stage:
    """The stage with another value in one field. Raises StrategyError where it refuses it."""
    return type(stage)(**{**{field: getattr(stage, field) for field in type(stage).model_fields}, name: value})


def numbers(stage: Stage) -> dict[str, float]:
    """Its Scalar fields that hold a plain number."""
    held = {name: getattr(stage, name) for name in stage.scalars}
    return {name: value for name, value in held.items() if isinstance(value, int | float)}


def siblings(stage: Stage) -> list[Stage]:
    """The same stage at other values of its Scalar fields: the ends of their ranges, what does nothing, 0, others."""
    found: dict[Stage, None] = {}
    for name, value in numbers(stage).items():
        field = stage.scalars[name]
        idle = stage.identity_when.get(name)
        others = [field.low, field.high, None if callable(idle) else idle, value / 2, value * 2 + 1, 0]
        for other in others:
            if other is None:
                continue
            try:
                twin = with_value(stage, name, field.number(other))
            except StrategyError:  # out of its range, or refused together with another field
                continue
            if twin != stage:
                found[twin] = None
    return list(found)


@functools.lru_cache(maxsize=512)
def vocabulary_for(stage: Stage) -> int:
    """How many tokens the laws' vocabulary has for this stage: more where it names tokens beyond the first few."""
    for size in (VOCAB, WIDE):
        try:
            for part in _parts(stage):
                part.prepare(Vocab(size, bench.tokenizer(), (2, 5)))
        except StrategyError as error:
            if error.code == "token":
                continue
            return size  # the law that it runs at all tells what it says
        except Exception:  # as above, whatever a stranger's stage raises
            return size
        return size
    raise ValueError(f"{stage!r} names tokens beyond the {WIDE} of the laws' vocabulary: try it at lower ids")


def _parts(stage: Stage) -> Sequence[Stage]:
    """Whatever has constants to prepare: the stage, and what stands in its blocks and expressions."""
    from ...core.planner import plan

    if stage.kind in ("signal", "stopping criterion", "schedule"):
        return [stage]
    try:
        return plan(Strategy.of(stage), as_written=True, fragment=True).stages
    except LogitmillError:
        return [stage]


__all__ = ["known", "numbers", "required", "siblings", "stages_of", "vocabulary_for", "with_value", "written"]
