"""Dicts, as JSON and YAML give them, to the same syntax tree: the canonical form, and the short one people write.

A place is a path, ``main.pipeline[1].args.p``. Wherever the canonical form has a mapping, a text of the language may
stand that says the same: ``until: eos or max_tokens(64)``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import Path, StrategyError
from ..expression import Pattern
from . import syntax
from .parse import check_depth, parse_expression, parse_program
from .places import Places, found, join
from .scan import MAX_NESTING
from .scope import did_you_mean

_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:@(\d+))?", re.ASCII)
_BODY = ("pipeline", "until", "with")
_STAGE = ("args", "block", "blocks", "as")
_IN_DOCUMENTS = 2  # ban(1) is {"tokens": [1]} here: a list in what text writes without one, a pair in a map
_MAX_CONTAINERS = 250  # lists and mappings inside one another: some three for each level of the language


def read_program(document: object, file: str | None = None) -> syntax.Program:
    """The tree of ``{"dsl": 1, "main": ...}``, or of a bare strategy ``{"pipeline": [...]}``.

    Raises StrategyError with the path of the first mistake.
    """
    _check_containers(document, file)
    reader = _Reader(file)
    if not isinstance(document, Mapping):
        raise reader.wrong("", "a document is a mapping", f"got {found(document)}: write dsl: 1 and main: ...")
    program = reader.program(document)
    check_depth(program, MAX_NESTING + _IN_DOCUMENTS)
    return program


def _check_containers(document: object, file: str | None) -> None:
    level: list[object] = [document]
    for _ in range(_MAX_CONTAINERS):
        inside = [node for node in level if isinstance(node, Mapping | list | tuple)]
        level = [child for node in inside for child in (node.values() if isinstance(node, Mapping) else node)]
        if not level:
            return
        if len(level) > 1_000_000:
            break
    raise StrategyError("the document is nested too deep", Path("the document", file), code="too-deep")


class _Reader(Places):
    """Reads one document."""

    # programs

    def program(self, node: Mapping[Any, Any]) -> syntax.Program:
        where = self.at("")
        if "pipeline" in node and "dsl" not in node and "main" not in node:
            body = self.body(node, "", ())
            return syntax.Program(None, (syntax.Let(_main(where), (), body, where=where),), where=where)
        self.keys(node, ("dsl", "use", "let", "main"), "")
        if "dsl" not in node:
            raise self.wrong("", "the document does not say its version", "add dsl: 1", code="version")
        if node["dsl"] != 1 or isinstance(node["dsl"], bool):
            raise self.wrong(
                "dsl", f"unknown version {node['dsl']!r}", "this is version 1: write dsl: 1", code="version"
            )
        items: list[syntax.Item] = [*self.uses(node.get("use", []))]
        lets = node.get("let", {})
        if not isinstance(lets, Mapping):
            raise self.wrong("let", "definitions are a mapping of names to strategies", f"got {found(lets)}")
        items += [self.let(name, body, f"let.{name}") for name, body in lets.items()]
        if "main" in node:
            items.append(
                syntax.Let(_main(self.at("main")), (), self.body(node["main"], "main", ()), where=self.at("main"))
            )
        if not items:
            raise self.wrong("", "the document is empty", "it needs a main", code="empty")
        return syntax.Program(1, tuple(items), where=where)

    def uses(self, node: object) -> Iterable[syntax.Use]:
        if not isinstance(node, list | tuple):
            raise self.wrong("use", "use is a list of packs", f"got {found(node)}")
        for position, item in enumerate(node):
            path = f"use[{position}]"
            pack, alias = (item.get("pack"), item.get("as")) if isinstance(item, Mapping) else (item, None)
            if isinstance(item, Mapping):
                self.keys(item, ("pack", "as"), path)
            if not isinstance(pack, str):
                raise self.wrong(
                    path,
                    f"a pack is named by a string, got {found(pack)}",
                    'write "name" or {pack: "name", as: alias}',
                )
            label = None if alias is None else self.word(alias, f"{path}.as", "an alias")
            yield syntax.Use(syntax.Text(pack, where=self.at(path)), label, where=self.at(path))

    def let(self, name: object, node: object, path: str) -> syntax.Let:
        word = self.word(name, path, "a definition's name")
        params = node.get("params", {}) if isinstance(node, Mapping) else {}
        if not isinstance(params, Mapping):
            raise self.wrong(f"{path}.params", "parameters are a mapping of names to defaults", f"got {found(params)}")
        made = tuple(
            syntax.Param(
                self.word(key, f"{path}.params.{key}", "a parameter"),
                None if value is None else self.value(value, f"{path}.params.{key}"),
                where=word.where,
            )
            for key, value in params.items()
        )
        return syntax.Let(word, made, self.body(node, path, ("params",)), where=word.where)

    def body(self, node: object, path: str, extra: tuple[str, ...]) -> syntax.Body:
        """A strategy: a mapping, a list of stages, or its text."""
        where = self.at(path)
        if isinstance(node, str):
            program = self.text(node, path, parse_program)
            if program.version is not None:
                raise self.wrong(path, "a whole program inside a document", "write the strategy alone, without 'dsl 1'")
            read: syntax.Body = program.main.body
            return dataclasses.replace(read, where=where)
        if isinstance(node, list | tuple):
            node = {"pipeline": node}
        if not isinstance(node, Mapping):
            raise self.wrong(path, f"a strategy is a mapping, a list of stages or a text, got {found(node)}")
        self.keys(node, (*_BODY, *extra), path)
        if "pipeline" not in node:
            raise self.wrong(
                path, "a strategy without a pipeline", "write pipeline: [...]; an empty list changes nothing"
            )
        stages = node["pipeline"]
        if not isinstance(stages, list | tuple):
            raise self.wrong(join(path, "pipeline"), f"a pipeline is a list of stages, got {found(stages)}")
        made = tuple(self.stage(stage, f"{join(path, 'pipeline')}[{i}]") for i, stage in enumerate(stages))
        until = self.test(node["until"], join(path, "until")) if "until" in node else None
        patches = node.get("with", {})
        if not isinstance(patches, Mapping):
            raise self.wrong(
                join(path, "with"), "patches are a mapping such as {heat.value: 0.3}", f"got {found(patches)}"
            )
        return syntax.Body(
            made, until, tuple(self.patch(key, value, path) for key, value in patches.items()), where=where
        )

    def patch(self, key: object, value: object, path: str) -> syntax.Patch:
        place = f"{join(path, 'with')}.{key}"
        word = self.word(key, place, "a patch's target")
        return syntax.Patch(word, self.value(value, place), where=word.where)

    # stages

    def stage(self, node: object, path: str) -> syntax.Step:
        """``{"stage": "top_p@1", "args": {...}}``, ``{top_p: 0.9}``, ``greedy``, or a text of one stage."""
        where = self.at(path)
        if isinstance(node, str):
            if _REFERENCE.fullmatch(node):
                return syntax.Stage(self.reference(node, path), where=where)
            program = self.text(node, path, parse_program)
            body = program.main.body if program.version is None else None
            if body is None or len(body.stages) != 1 or body.until is not None or body.patches:
                raise self.wrong(path, "one stage stands here", "each stage of a pipeline is an item of the list")
            step: syntax.Step = body.stages[0]
            return step
        if not isinstance(node, Mapping):
            raise self.wrong(path, f"a stage is a name or a mapping, got {found(node)}")
        if "stage" in node:
            name, args = node["stage"], self.args(node.get("args", {}), join(path, "args"))
            allowed: tuple[str, ...] = ("stage", *_STAGE)
        else:
            name, given = self.short(node, path, (*_STAGE, "then", "else"))
            allowed = (name, *_STAGE)
            if name == "when":
                return self.when({**node, "stage": "when", "test": given}, path, ("when", "stage"))
            args = self.args(given, join(path, name))
        if isinstance(name, str) and name.partition("@")[0] == "when":
            return self.when(node, path, ("stage",))
        self.keys(node, allowed, path)
        call = self.reference(name, path)
        blocks = node.get("blocks", [])
        if not isinstance(blocks, list | tuple):
            raise self.wrong(f"{path}.blocks", f"blocks are a list of strategies, got {found(blocks)}")
        args = (*(self.block(block, f"{path}.blocks[{i}]") for i, block in enumerate(blocks)), *args)
        inner = self.braced(node["block"], f"{path}.block") if "block" in node else None
        label = self.word(node["as"], f"{path}.as", "a label") if "as" in node else None
        return syntax.Stage(dataclasses.replace(call, args=args), inner, label, where=where)

    def short(self, node: Mapping[Any, Any], path: str, beside: tuple[str, ...]) -> tuple[str, Any]:
        """Name and argument of ``{top_p: 0.9}``."""
        names = [key for key in node if key not in beside]
        odd = next((str(name) for name in names[1:] if did_you_mean(str(name), beside)), None)
        if odd is not None:
            raise self.wrong(join(path, odd), f"unknown key {odd!r}", did_you_mean(odd, beside), code="unknown-key")
        if len(names) != 1 or not isinstance(names[0], str):
            message = "a stage has one name" if len(names) > 1 else "a stage without a name"
            raise self.wrong(path, message, "write one stage an item: - top_p: 0.9")
        return names[0], node[names[0]]

    def when(self, node: Mapping[Any, Any], path: str, extra: tuple[str, ...]) -> syntax.When:
        self.keys(node, (*extra, "test", "then", "else"), path)
        for key in ("test", "then"):
            if key not in node:
                raise self.wrong(
                    path,
                    f"a 'when' needs {key!r}",
                    "write when: TEST, then: [...], else: [...]",
                    code="missing-argument",
                )
        call = self.reference(node["stage"], path)
        then = self.braced(node["then"], f"{path}.then")
        otherwise = self.braced(node["else"], f"{path}.else") if "else" in node else None
        return syntax.When(self.test(node["test"], f"{path}.test"), then, otherwise, call.revision, where=self.at(path))

    def reference(self, name: object, path: str) -> syntax.Call:
        """``top_p`` or ``top_p@1``."""
        match = _REFERENCE.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            raise self.wrong(path, f"a stage is named like 'top_p' or 'top_p@1', got {found(name)}")
        where = self.at(path)
        revision = None if match[2] is None else int(match[2][:9])
        return syntax.Call(syntax.Word(match[1], where=where), (), revision, where=where)

    def args(self, node: object, path: str) -> tuple[syntax.Arg, ...]:
        """Named arguments of a mapping, else one positional argument; null is none."""
        if node is None:
            return ()
        if not isinstance(node, Mapping) or _is_value(node):
            return (syntax.Arg(self.value(node, path), where=self.at(path)),)
        return tuple(
            syntax.Arg(
                self.value(value, f"{path}.{key}"),
                self.word(key, f"{path}.{key}", "an argument"),
                where=self.at(f"{path}.{key}"),
            )
            for key, value in node.items()
        )

    def braced(self, node: object, path: str) -> syntax.Block:
        return syntax.Block(self.body(node, path, ()), where=self.at(path))

    def block(self, node: object, path: str) -> syntax.Arg:
        """One of ``blocks``, with its weight if it has one."""
        weight = None
        if isinstance(node, Mapping) and "weight" in node:
            weight = self.value(node["weight"], f"{path}.weight")
            node = {key: value for key, value in node.items() if key != "weight"}
        return syntax.Arg(self.braced(node, path), weight=weight, where=self.at(path))

    # values and tests

    def value(self, node: Any, path: str) -> syntax.Value:
        where = self.at(path)
        match node:
            case bool():
                return syntax.Truth(node, where=where)
            case int() | float():
                if not isinstance(node, int) and not math.isfinite(node):
                    raise self.wrong(path, f"{node} is no number here", "a finite number is wanted", code="number")
                if isinstance(node, int) and abs(node) >= 2**64:
                    raise self.wrong(path, "a number too large", "whole numbers go up to 2^64 - 1", code="number")
                return syntax.Number(node, where=where)
            case str():
                return syntax.Text(self.paired(node, path), where=where)
            case list() | tuple():
                return syntax.ListOf(
                    tuple(self.value(item, f"{path}[{i}]") for i, item in enumerate(node)), where=where
                )
            case {"ramp": [start, end], "over": over}:
                self.keys(node, ("ramp", "over", "by"), path)
                by = self.word(node["by"], f"{path}.by", "a schedule's shape") if "by" in node else None
                ends = self.value(start, f"{path}.ramp[0]"), self.value(end, f"{path}.ramp[1]")
                return syntax.Ramp(*ends, self.value(over, f"{path}.over"), by, where=where)
            case {"expr": str() as text, **rest} if not rest:
                parsed: syntax.Value = self.text(text, path, parse_expression)
                return parsed
            case {"regex": str() as pattern, **rest} if not rest:
                return syntax.Text(self.pattern(pattern, path), raw=True, where=where)
            case {"pipeline": _}:
                return self.braced(node, path)
            case None:
                raise self.wrong(path, "null is no value", "leave the key out to have the default")
        hint = "a mapping here is {ramp: [a, b], over: n}, {expr: ...}, {regex: ...} or {pipeline: [...]}"
        raise self.wrong(path, f"{found(node)} is no value", hint)

    def paired(self, text: str, path: str) -> str:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise self.wrong(path, "half of a surrogate pair in a string", code="escape")
        return text

    def pattern(self, source: str, path: str) -> str:
        """A pattern as r"..." can write it, so that ``fmt`` makes no plain string of it."""
        try:
            return Pattern(self.paired(source, path)).source
        except StrategyError as error:
            raise self.wrong(path, error.message, error.hint, code=error.code) from None

    def test(self, node: object, path: str) -> syntax.Value:
        """``any`` or ``all`` of a list, ``not`` of a test, ``{"stop": ...}``, ``{"expr": ...}``, or a test's text."""
        where = self.at(path)
        if isinstance(node, str):
            if _REFERENCE.fullmatch(node) and "@" in node:
                return self.reference(node, path)
            parsed: syntax.Value = self.text(node, path, parse_expression)
            return parsed
        if not isinstance(node, Mapping):
            raise self.wrong(path, f"a test is a mapping or a text, got {found(node)}")
        match node:
            case {"any": [*parts], **rest} | {"all": [*parts], **rest} if not rest and parts:
                word = next(iter(node))
                made = tuple(self.test(part, f"{path}.{word}[{i}]") for i, part in enumerate(parts))
                return syntax.Either(made, where=where) if word == "any" else syntax.Both(made, where=where)
            case {"not": part, **rest} if not rest:
                return syntax.Not(self.test(part, f"{path}.not"), where=where)
            case {"expr": _}:
                return self.value(node, path)
            case {"stop": name, "args": args, **rest} if not rest:
                return dataclasses.replace(self.reference(name, path), args=self.args(args, f"{path}.args"))
            case {"stop": str() as name, **rest} if not rest and "@" in name:
                return self.reference(name, path)
        name, given = self.short(node, path, ())
        return dataclasses.replace(self.reference(name, path), args=self.args(given, f"{path}.{name}"))


def _is_value(node: Mapping[Any, Any]) -> bool:
    """Whether a mapping is one value rather than named arguments."""
    keys = set(node)
    return {"ramp", "over"} <= keys or keys in ({"expr"}, {"regex"}) or "pipeline" in keys


def _main(where: Path) -> syntax.Word:
    return syntax.Word("main", where=where)
