"""What a name means at a place: ``let`` definitions, their parameters, and what ``use`` brought in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from ..errors import StrategyError
from . import syntax
from .files import read_text
from .parse import parse_program

if TYPE_CHECKING:
    from ..registry import Registry


@dataclass(frozen=True, eq=False)
class Definition:
    """A ``let`` and the scope its body is read in."""

    let: syntax.Let
    scope: Scope


@dataclass(frozen=True, eq=False)
class Bound:
    """What a parameter stands for, and the scope that is read in."""

    value: syntax.Value
    scope: Scope


@dataclass(frozen=True, eq=False)
class Scope:
    """The names of one document, and inside a ``let`` those of its parameters."""

    lets: dict[str, Definition] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)  # a name under an alias -> the registered one
    params: Mapping[str, Bound] = field(default_factory=dict)

    def with_params(self, params: Mapping[str, Bound]) -> Scope:
        """The same names, with parameters."""
        return Scope(self.lets, self.stages, params)

    def param(self, value: syntax.Value) -> Bound | None:
        """What ``value`` stands for, if it is a parameter's bare name."""
        if isinstance(value, syntax.Call) and not value.args:
            return self.params.get(value.name.text)
        return None

    def meaning(self, value: syntax.Value) -> syntax.Value:
        """``value`` itself, or what was written where a parameter stands for it."""
        bound = self.param(value)
        return value if bound is None else bound.scope.meaning(bound.value)


@dataclass(frozen=True)
class Source:
    """Where a document came from: ``root`` is the folder whose files it may use, None for an untrusted one."""

    root: FilePath | None = None
    folder: FilePath | None = None
    inside: tuple[str, ...] = ()  # the packs and files being read, outermost first


def read_scope(program: syntax.Program, registry: Registry, source: Source) -> Scope:
    """The scope of a document's own items. Raises StrategyError for a pack that cannot be had or a name given twice."""
    scope = Scope()
    for item in program.items:
        if isinstance(item, syntax.Use):
            _bring(item, scope, registry, source)
        elif item.name.text in scope.lets:
            raise StrategyError(
                f"'{item.name.text}' is defined twice", item.name.where, hint="choose another name", code="duplicate"
            )
        else:
            scope.lets[item.name.text] = Definition(item, scope)
    return scope


def _bring(use: syntax.Use, scope: Scope, registry: Registry, source: Source) -> None:
    name = use.source.value
    prefix = f"{use.alias.text}." if use.alias is not None else ""
    if name in source.inside or len(source.inside) >= 16:
        path = " -> ".join([*source.inside, name])
        raise StrategyError(
            f"'use' goes in circles: {path}", use.source.where, hint="remove one of them", code="recursive"
        )
    if "/" in name or "\\" in name or name.startswith("."):
        text, inner = _file(use, source)
    elif name in registry.presets:
        text, inner = registry.presets[name][0], Source(inside=(*source.inside, name))
    else:
        stages = [
            entry.name
            for entry in registry.entries.values()
            if entry.plugin.replace("-", "_") == name.replace("-", "_")
        ]
        if not stages:
            raise _unknown_pack(use, registry)
        scope.stages.update({prefix + stage.rpartition(".")[2]: stage for stage in stages if prefix})
        return
    program = parse_program(text, name)
    for key, definition in read_scope(program, registry, inner).lets.items():
        if key == "main":
            continue
        if prefix + key in scope.lets:
            raise StrategyError(
                f"'{key}' of {name!r} is defined here already",
                use.where,
                hint='give the pack a name: use "..." as x',
                code="duplicate",
            )
        scope.lets[prefix + key] = definition


def _file(use: syntax.Use, source: Source) -> tuple[str, Source]:
    """The text of a file under the root. A module, a file elsewhere or any file for an untrusted source is refused."""
    name, where = use.source.value, use.source.where
    if source.root is None or source.folder is None:
        raise StrategyError(
            f"{name!r} is a file, which only a strategy from a file may use",
            where,
            hint="name a registered pack",
            code="untrusted",
        )
    try:
        path = (source.folder / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in it, or links in a circle
        raise StrategyError(f"{name!r} cannot be read: {error}", where, code="file") from None
    if not path.is_relative_to(source.root.resolve()):
        raise StrategyError(
            f"{name!r} lies outside {source.root}", where, hint="keep files under one folder", code="untrusted"
        )
    if str(path) in source.inside:
        raise StrategyError(
            f"'use' goes in circles through {name!r}", where, hint="remove one of them", code="recursive"
        )
    text = read_text(path, repr(name), where)
    return text, Source(source.root, path.parent, (*source.inside, str(path)))


def _unknown_pack(use: syntax.Use, registry: Registry) -> StrategyError:
    packs = {*registry.presets, *(entry.plugin for entry in registry.entries.values() if not entry.builtin)}
    hint = did_you_mean(use.source.value, packs) or "install the plugin that brings it"
    return StrategyError(f"unknown pack {use.source.value!r}", use.source.where, hint=hint, code="unknown-pack")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``did you mean 'top_p'?``, or nothing where no name is near."""
    found = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)
    return f"did you mean '{found[0]}'?" if found else ""
