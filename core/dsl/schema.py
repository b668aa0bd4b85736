"""JSON Schema of everything registered now, so that YAML and JSON strategies complete in an editor."""

from __future__ import annotations

import inspect
import types as python_types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..expression import Expression, Pattern
from ..registry import Registry
from ..scalar import ScalarType, scalar_type
from ..stage import Stage
from ..strategy import Strategy
from . import dump
from .fields import Field, fields
from .lower import lower_value

Schema = dict[str, Any]
_STEPS = ("logits processor", "sampler", "combinator", "search")


def schema(registry: Registry | None = None) -> Schema:
    """JSON Schema, draft 2020-12: the canonical form and the short form, with ranges, defaults and descriptions.

    Imports every registered stage. A text of the language is a plain string to it; ``check`` reads those.
    """
    if registry is None:
        from ..loader import registry as own

        registry = own()
    steps = [entry.load() for kind in _STEPS for entry in registry.of(kind)]
    tests = [entry.load() for entry in registry.of("stopping criterion")]
    criteria = [part for test in tests for part in _criterion(test)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "logitmill strategy",
        "anyOf": [{"$ref": "#/$defs/program"}, {"$ref": "#/$defs/body"}],
        "$defs": {
            "program": _program(),
            "strategy": {"anyOf": [{"$ref": "#/$defs/body"}, _list(_ref("stage")), {"type": "string"}]},
            "body": _object(_strategy_keys(), ["pipeline"]),
            "block": _block(),
            "expr": _object({"expr": _text("an expression of signals, as in 0.3 + 0.2*entropy")}, ["expr"]),
            "regex": _object({"regex": {"type": "string", "format": "regex"}}, ["regex"]),
            "ramp": _ramp([entry.name for entry in registry.of("schedule")]),
            "value": {
                "anyOf": [
                    {"type": ["number", "string", "boolean"]}, _list(_ref("value")),
                    *(_ref(name) for name in ("expr", "regex", "ramp", "body")),
                ]
            },
            "stage": {"anyOf": [_names(steps), *(part for stage in steps for part in _stage(stage))]},
            "test": {"anyOf": [_text("a test, as in eos or max_tokens(64)"), *_logic(), *criteria]},
        },
    }  # fmt: skip


# what does not depend on the stages


def _program() -> Schema:
    pack = _object({"pack": {"type": "string"}, "as": {"type": "string"}}, ["pack"])
    definition = _object({"params": _map(_ref("value")), **_strategy_keys()}, ["pipeline"])
    return _object(
        {
            "dsl": {"const": 1, "description": "the version of the language"},
            "use": _list({"anyOf": [{"type": "string"}, pack]}),
            "let": _map({"anyOf": [definition, _list(_ref("stage")), {"type": "string"}]}),
            "main": _ref("strategy"),
        },
        ["dsl"],
    )


def _strategy_keys() -> Schema:
    return {"pipeline": _list(_ref("stage")), "until": _ref("test"), "with": _map(_ref("value"))}


def _block() -> Schema:
    weighted = _object({"weight": {"type": "number"}, **_strategy_keys()}, ["pipeline"])
    return {"anyOf": [weighted, _list(_ref("stage")), {"type": "string"}]}


def _ramp(shapes: list[str]) -> Schema:
    ends = {**_list(_number()), "minItems": 2, "maxItems": 2}
    return _object({"ramp": ends, "over": _number(), "by": {"enum": shapes, "default": "linear"}}, ["ramp", "over"])


def _logic() -> list[Schema]:
    parts = {**_list(_ref("test")), "minItems": 1}
    return [
        _object({"any": parts}, ["any"]),
        _object({"all": parts}, ["all"]),
        _object({"not": _ref("test")}, ["not"]),
        _ref("expr"),
    ]


# stages


def _names(stages: list[type[Stage]]) -> Schema:
    bare = [stage.stage_name for stage in stages if not any(field.required for field in fields(stage).values())]
    return {"anyOf": [{"enum": bare}, _text("one stage, as in top_p(0.95)")]}


def _stage(stage: type[Stage]) -> list[Schema]:
    """The canonical and the short form of one stage."""
    name, about = stage.stage_name, _about(stage)
    if name == "when":
        rest = {"then": _ref("strategy"), "else": _ref("strategy")}
        return [
            {**_object({"stage": _reference(stage), "test": _ref("test"), **rest}, ["stage", "test", "then"]), **about},
            {**_object({"when": _ref("test"), **rest}, ["when", "then"]), **about},
        ]
    beside: Schema = {"as": {"type": "string", "description": "a label for patches and for the stage's noise"}}
    known = fields(stage)
    if "block" in known:
        beside["block"] = _ref("strategy")
    if stage.variadic is not None and known[stage.variadic].admits(Strategy):
        beside["blocks"] = _list(_ref("block"))
    canonical = _object({"stage": _reference(stage), "args": _args(stage), **beside}, ["stage"])
    return [{**canonical, **about}, {**_object({name: _short(stage), **beside}, [name]), **about}]


def _criterion(stage: type[Stage]) -> list[Schema]:
    canonical = _object({"stop": _reference(stage), "args": _args(stage)}, ["stop"])
    return [
        {**canonical, **_about(stage)},
        {**_object({stage.stage_name: _short(stage)}, [stage.stage_name]), **_about(stage)},
    ]


def _reference(stage: type[Stage]) -> Schema:
    return {"enum": [stage.reference(), stage.stage_name]}


def _about(stage: type[Stage]) -> Schema:
    doc = inspect.getdoc(stage) or ""
    return {"title": stage.stage_name, "description": doc.split("\n\n")[0].replace("\n", " ")}


def _args(stage: type[Stage]) -> Schema:
    return _object({name: _field(field, stage) for name, field in fields(stage).items() if name != "block"}, [])


def _short(stage: type[Stage]) -> Schema:
    """What stands behind ``top_p:`` - the first argument, all of them by name, or nothing."""
    forms = [_args(stage), {"type": "null"}]
    first = next(iter(fields(stage).values()), None)
    if stage.variadic is not None:
        field = fields(stage)[stage.variadic]
        forms += [_field(field, stage), _type(field.item)]
    elif first is not None and first.name != "block":
        forms.append(_field(first, stage))
    return {"anyOf": forms}


def _field(field: Field, stage: type[Stage]) -> Schema:
    made = _type(field.annotation, field.metadata)
    description = stage.model_fields[field.name].description
    if description:
        made["description"] = description
    if not field.required and field.default is not None:
        made["default"] = dump.value(lower_value(field.default))
    return made


def _type(annotation: Any, metadata: tuple[Any, ...] = ()) -> Schema:
    """The schema of a field's type."""
    own = next((item for item in metadata if isinstance(item, ScalarType)), None)
    if own is None and not get_args(annotation):
        own = scalar_type(annotation)
    if own is not None:
        number = {"type": "integer" if own.number is int else "number", **_bounds(metadata)}
        return {"anyOf": [number, _ref("ramp"), _ref("expr")]}
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0], args[1:])
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, python_types.UnionType):
        return {"anyOf": [_type(part, metadata) for part in args if part is not type(None)]}
    if origin is tuple and args[-1:] == (Ellipsis,):
        return _list(_type(args[0]))
    if origin is tuple:
        return {"type": "array", "prefixItems": [_type(part) for part in args], "items": False, "minItems": len(args)}
    return _plain(annotation, metadata)


def _plain(annotation: Any, metadata: tuple[Any, ...]) -> Schema:
    if annotation is bool:
        return {"type": "boolean"}
    if annotation in (int, float):
        return {"type": "integer" if annotation is int else "number", **_bounds(metadata)}
    if annotation is str:
        return {"type": "string"}
    if annotation is Pattern:
        return {"anyOf": [_ref("regex"), {"type": "string", "format": "regex"}]}
    if annotation is Expression:
        return {"anyOf": [_ref("expr"), {"type": ["number", "boolean"]}]}
    return _ref("strategy") if annotation is Strategy else _ref("value")


def _bounds(metadata: tuple[Any, ...]) -> Schema:
    words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    found: Schema = {}
    for item in metadata:
        inner = (item, *getattr(item, "metadata", ()))  # a FieldInfo inside Annotated holds its own
        found.update(
            {
                word: getattr(part, key)
                for part in inner
                for key, word in words.items()
                if getattr(part, key, None) is not None
            }
        )
    return found


# small change


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _number() -> Schema:
    return {"anyOf": [{"type": "number"}, _ref("expr")]}
