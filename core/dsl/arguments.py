"""From a call's arguments to a stage: each to its field, converted by the field's type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import Span, StrategyError, Where
from ..expression import Constant, Expression, Pattern
from ..scalar import Ramp, ScalarType
from ..stage import Stage
from ..strategy import Strategy
from . import syntax
from .expressions import build
from .faults import Given, fault, missing_error, placed, type_error, unknown_error
from .fields import Field, fields, shown
from .scope import Scope, did_you_mean

if TYPE_CHECKING:
    from .resolve import Resolver

S = TypeVar("S", bound=Stage)


def make(resolver: Resolver, stage: type[S], call: syntax.Call, scope: Scope, block: syntax.Block | None = None) -> S:
    """The stage of a call. Raises StrategyError at the first argument, in the order of the text, that does not fit."""
    given = _named(stage, call, scope)
    known = fields(stage)
    if block is not None:
        if "block" not in known or not known["block"].admits(Strategy):
            raise StrategyError(
                f"'{stage.stage_name}' takes no block",
                block.where,
                hint="a '|' stands between two stages",
                code="argument",
            )
        given.append(Given(known["block"], block, block.where))
    values = {item.field.name: convert(resolver, item.value, item.field, scope, stage) for item in given}
    missing = [name for name, field in known.items() if field.required and name not in values]
    if missing:
        raise missing_error(stage, known[missing[0]], call.name.where)
    try:
        made = stage(**values)
    except StrategyError as error:
        raise fault(stage, error, given, scope, call) from None
    resolver.marks.note(made, call.where, {item.field.name: item.value for item in given})
    return made


def changed(resolver: Resolver, stage: Stage, key: syntax.Word, value: syntax.Value, scope: Scope) -> Any:
    """What ``value`` is as the field ``key`` of a stage that is there already: how a patch is read."""
    known = fields(type(stage))
    if key.text not in known:
        raise unknown_error(type(stage), key)
    given = Given(known[key.text], value, value.where)
    made = convert(resolver, value, given.field, scope, type(stage))
    call = syntax.Call(syntax.Word(stage.stage_name, where=key.where), where=key.where)
    try:
        twin = type(stage)(**{name: getattr(stage, name) for name in known} | {key.text: made})
    except StrategyError as error:
        raise fault(type(stage), error, [given], scope, call) from None
    return getattr(twin, key.text)


def _named(stage: type[Stage], call: syntax.Call, scope: Scope) -> list[Given]:
    """The arguments under their fields' names, in the order of the text."""
    known = fields(stage)
    order = list(known)
    found: list[Given] = []
    loose: list[syntax.Arg] = []
    for position, arg in enumerate(call.args):
        if arg.key is not None:
            if arg.key.text not in known:
                raise unknown_error(stage, arg.key)
            given = Given(known[arg.key.text], arg.value, arg.key.where)
        elif stage.variadic is not None:
            loose.append(arg)
            continue
        elif position >= len(order):
            takes = f"it takes {len(order)}: {', '.join(order)}" if order else "it takes none"
            raise StrategyError(f"too many arguments for '{stage.stage_name}'", arg.where, hint=takes, code="argument")
        elif arg.weight is not None:
            raise StrategyError(
                f"'{stage.stage_name}' takes no weights",
                arg.weight.where,
                hint="name an argument with '='",
                code="argument",
            )
        else:
            given = Given(known[order[position]], arg.value, arg.value.where)
        if any(given.field is other.field for other in found):
            raise StrategyError(f"'{given.field.name}' is given twice", given.place, hint="remove one", code="argument")
        found.append(given)
    if loose:
        assert stage.variadic is not None
        field = known[stage.variadic]
        if any(field is other.field for other in found):
            raise StrategyError(f"'{field.name}' is given twice", loose[0].where, hint="remove one", code="argument")
        found.insert(0, Given(field, _together(stage, field, loose, scope), loose[0].where))
    return found


def _together(stage: type[Stage], field: Field, loose: Sequence[syntax.Arg], scope: Scope) -> syntax.Value:
    """Several positional arguments as the one value of a variadic field."""
    where = _across(loose[0].where, loose[-1].where)
    for arg in loose:
        if field.weighted and arg.weight is None and isinstance(arg.value, syntax.Block):
            raise StrategyError(
                f"a block of '{stage.stage_name}' has a weight", arg.where, hint="write 0.5: { ... }", code="argument"
            )
        if arg.weight is not None and not field.weighted:
            raise StrategyError(
                f"'{stage.stage_name}' takes no weights",
                arg.weight.where,
                hint="write the block alone",
                code="argument",
            )
    if len(loose) == 1 and isinstance(scope.meaning(loose[0].value), syntax.ListOf | syntax.MapOf):
        return loose[0].value
    if field.weighted and all(arg.weight is not None for arg in loose):
        return syntax.MapOf(tuple((arg.weight, arg.value) for arg in loose if arg.weight is not None), where=where)
    return syntax.ListOf(tuple(arg.value for arg in loose), where=where)


def _across(first: Where, last: Where) -> Where:
    if isinstance(first, Span) and isinstance(last, Span) and first.source == last.source:
        return Span(first.source, first.start, last.end, first.file)
    return first


def convert(resolver: Resolver, node: syntax.Value, field: Field, scope: Scope, stage: type[Stage]) -> Any:
    """A value as ``field`` of ``stage`` wants it, short of pydantic's own checks."""
    bound = scope.param(node)
    if bound is not None:
        with resolver.deeper(node.where):
            return convert(resolver, bound.value, field, bound.scope, stage)
    if field.admits(Expression) and not isinstance(node, syntax.Block | syntax.ListOf | syntax.MapOf | syntax.Ramp):
        return build(resolver, node, scope)
    match node:
        case syntax.Number() | syntax.Truth():
            return node.value
        case syntax.Text():
            pattern = field.admits(Pattern) and (node.raw or not field.admits(str))
            return _at(node.where, Pattern, node.value) if pattern else node.value
        case syntax.ListOf():
            with resolver.deeper(node.where):
                return tuple(convert(resolver, item, field, scope, stage) for item in node.items)
        case syntax.MapOf():
            with resolver.deeper(node.where):
                return tuple(
                    tuple(convert(resolver, part, field, scope, stage) for part in pair) for pair in node.pairs
                )
        case syntax.Block():
            if not field.admits(Strategy):
                raise type_error(stage, field, node)
            return resolver.block(node, scope, stage)
        case syntax.Ramp():
            if not field.admits(ScalarType):
                raise type_error(stage, field, node)
            return _ramp(resolver, node, scope)
        case syntax.Call() if not node.args and node.name.text in field.words:
            return node.name.text
        case syntax.Call() if not field.admits(ScalarType):
            raise type_error(stage, field, node)
    built = build(resolver, node, scope)
    if isinstance(built, Constant) and not isinstance(built.value, tuple):
        return built.value
    if not field.admits(ScalarType):
        raise type_error(stage, field, node)
    return built


def _ramp(resolver: Resolver, node: syntax.Ramp, scope: Scope) -> Ramp:
    """A schedule: its ends and length are numbers, its shape a registered one."""
    values = [_number(resolver, part, scope) for part in (node.start, node.end, node.over)]
    name = node.by.text if node.by is not None else "linear"
    entry = resolver.registry.schedule(name)
    if entry is None:
        names = sorted(resolver.registry.schedules)
        hint = did_you_mean(name, names) or f"there are {', '.join(names)}"
        raise StrategyError(f"unknown schedule '{name}'", (node.by or node).where, hint=hint, code="unknown-schedule")
    shape: Any = entry.load()
    made: Ramp = _at(node.where, Ramp, *values, shape())
    return made


def _number(resolver: Resolver, node: syntax.Value, scope: Scope) -> float:
    built = build(resolver, node, scope)
    if not isinstance(built, Constant) or isinstance(built.value, bool) or not isinstance(built.value, int | float):
        raise StrategyError(
            "a schedule runs between numbers",
            node.where,
            hint=f"got {shown(node)}; signals stand in expressions",
            code="type",
        )
    return built.value


def _at(where: Where, maker: Any, *args: Any) -> Any:
    """``maker(*args)``, its errors placed."""
    try:
        return maker(*args)
    except StrategyError as error:
        raise placed(error, where) from None
