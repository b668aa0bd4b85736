"""The Python face of the language: signals with operators, ``ramp``, ``when``, ``mix``.

The same objects as the text makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from .errors import PluginError, StrategyError
from .expression import (
    FUNCTIONS,
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    Function,
    Inverse,
    Logic,
    Negative,
    Pattern,
    Read,
)  # fmt: skip
from .loader import registry
from .scalar import Ramp
from .stage import Schedule, Signal, Stage, StoppingCriterion
from .strategy import AnyOf


def expression_of(value: Any) -> Expression:
    """An expression from an operand of Python's: a signal, a number, a truth, a text, a pattern or a list."""
    value = getattr(value, "expression", value)
    if isinstance(value, Expression):
        return value
    if isinstance(value, Signal):
        return Read(value)
    if isinstance(value, list | tuple):
        return Constant(tuple(value))
    if isinstance(value, bool | int | float | str | Pattern):
        return Constant(value)
    raise StrategyError(f"{value!r} cannot stand in an expression of signals", code="type")


class Operand:
    """Something to calculate with and to compare: ``signals.entropy < 0.4``. ``expression`` is what it stands for."""

    __slots__ = ("expression",)
    __hash__ = None  # type: ignore[assignment]  # == builds a comparison

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def _calculate(self, op: str, left: Any, right: Any) -> Operand:
        return Operand(Arithmetic(op, expression_of(left), expression_of(right)))

    def _compare(self, op: str, other: Any) -> Operand:
        return Operand(Comparison(op, self.expression, expression_of(other)))

    def __add__(self, other: Any) -> Operand:
        return self._calculate("+", self, other)

    def __radd__(self, other: Any) -> Operand:
        return self._calculate("+", other, self)

    def __sub__(self, other: Any) -> Operand:
        return self._calculate("-", self, other)

    def __rsub__(self, other: Any) -> Operand:
        return self._calculate("-", other, self)

    def __mul__(self, other: Any) -> Operand:
        return self._calculate("*", self, other)

    def __rmul__(self, other: Any) -> Operand:
        return self._calculate("*", other, self)

    def __truediv__(self, other: Any) -> Operand:
        return self._calculate("/", self, other)

    def __rtruediv__(self, other: Any) -> Operand:
        return self._calculate("/", other, self)

    def __neg__(self) -> Operand:
        return Operand(Negative(self.expression))

    def __lt__(self, other: Any) -> Operand:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Operand:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Operand:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Operand:
        return self._compare(">=", other)

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    def matches(self, pattern: str | Pattern) -> Operand:
        """``text ~ pattern``."""
        return self._compare("~", pattern if isinstance(pattern, Pattern) else Pattern(pattern))

    def in_(self, choices: Iterable[Any] | str) -> Operand:
        """``value in [..]``."""
        return self._compare("in", choices if isinstance(choices, str) else tuple(choices))

    def and_(self, *others: Any) -> Any:
        """This condition and all of the others."""
        return self._join("and", others)

    def or_(self, *others: Any) -> Any:
        """This condition or any of the others."""
        return self._join("or", others)

    def _join(self, op: Literal["and", "or"], others: tuple[Any, ...]) -> Any:
        from .strategy import all_of, any_of

        tests = [getattr(other, "expression", other) for other in others]
        joined = (all_of if op == "and" else any_of)(self.expression, *tests)
        return Operand(joined) if isinstance(joined, Logic | Expression) else joined

    def not_(self) -> Operand:
        """The opposite condition."""
        return Operand(Inverse(self.expression))

    def __bool__(self) -> bool:
        raise StrategyError(
            "a condition on signals has no truth before a model runs: join conditions by and_, or_ and not_, "
            "and write a < b < c as (a < b).and_(b < c)",
            code="type",
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Operand:
        if not isinstance(self.expression, Read):
            raise TypeError("only a signal takes arguments")
        return Operand(Read(type(self.expression.signal)(*args, **kwargs), self.expression.raw))

    def __repr__(self) -> str:
        from .dsl.write import test_text

        return f"<{test_text(self.expression)}>"


class _Waiting:
    """A signal that needs arguments: ``signals.within("<think>", "</think>")``."""

    def __init__(self, signal: type[Stage], raw: bool) -> None:
        self._signal, self._raw = signal, raw

    def __call__(self, *args: Any, **kwargs: Any) -> Operand:
        return Operand(Read(self._signal(*args, **kwargs), self._raw))  # type: ignore[arg-type]


class Signals:
    """``signals.entropy``, ``signals.raw.entropy``, ``signals.within(a, b)``, and min, max, clamp, exp, log."""

    def __init__(self, raw: bool = False, prefix: str = "") -> None:
        self._raw, self._prefix = raw, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "raw" and not self._raw and not self._prefix:
            return Signals(raw=True)
        full = self._prefix + name
        if full in FUNCTIONS:
            return lambda *args: Operand(Function(full, tuple(map(expression_of, args))))
        entry = registry().find(full)
        if entry is None and any(known.startswith(full + ".") for known in registry().entries):
            return Signals(self._raw, full + ".")
        if entry is None or entry.kind != "signal":
            near = registry().near(full, ("signal",))
            raise AttributeError(f"no signal {full!r} is registered" + (f"; did you mean {near!r}?" if near else ""))
        signal = entry.load()
        if any(info.is_required() for info in signal.model_fields.values()):
            return _Waiting(signal, self._raw)
        return Operand(Read(signal(), self._raw))  # type: ignore[arg-type]

    def __dir__(self) -> list[str]:
        return sorted({entry.name for entry in registry().of("signal")} | {"raw"} | set(FUNCTIONS))


signals = Signals()


def ramp(start: float, end: float, *, over: float, by: str = "linear") -> Ramp:
    """``start -> end over n by shape``: a schedule for any Scalar field."""
    entry = registry().schedule(by)
    if entry is None:
        known = ", ".join(sorted(registry().schedules))
        raise StrategyError(f"unknown schedule {by!r}; there are {known}", code="schedule")
    shape = entry.load()()
    assert isinstance(shape, Schedule)
    return Ramp(start, end, over, shape)


def when(test: Any, then: Any, orelse: Any = None) -> Stage:
    """``when test { then } else { orelse }``."""
    condition = getattr(test, "expression", test)
    if not isinstance(condition, Expression) or condition.kind != "truth":
        got = "not a stopping criterion" if isinstance(condition, StoppingCriterion | AnyOf) else f"got {condition!r}"
        if isinstance(condition, Expression):
            got = f"this expression is a {condition.kind}"
        hint = "write lm.when(lm.signals.entropy < 0.4, ...)"
        raise StrategyError(f"when takes a condition on signals, {got}", hint=hint, code="kind")
    extra = {} if orelse is None else {"orelse": orelse}
    return registry().stage("when", test=condition, then=then, **extra)


def stage_factory(name: str) -> Any:
    """The class behind a registered name, or a name space of vendor stages. Raises AttributeError."""
    known = registry()
    entry = known.find(name)
    if entry is not None and entry.kind != "signal":
        try:
            return entry.load()
        except PluginError as error:
            raise AttributeError(str(error)) from error
    if any(full.startswith(name + ".") for full in known.entries):
        return _Vendor(name)
    near = known.near(name)
    raise AttributeError(
        f"module 'logitmill' has no attribute {name!r}" + (f"; did you mean {near!r}?" if near else "")
    )


class _Vendor:
    """``logitmill.acme.quadratic``: a third party's stages under its name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return stage_factory(f"{self._prefix}.{name}")
