"""The four ways in: text, a dict, a file, and one value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from ..errors import Span, StrategyError, Where
from . import render, syntax
from .document import read_program
from .files import read_json, read_text, read_yaml
from .parse import check_depth, parse_expression, parse_program
from .scan import MAX_NESTING, check_nesting
from .scope import Scope, Source

if TYPE_CHECKING:
    from ..registry import Registry
    from ..stage import Stage
    from ..strategy import Strategy

YAML_SUFFIXES, JSON_SUFFIXES = (".yaml", ".yml"), (".json",)


def from_text(
    text: str, *, trusted: bool = False, file: str | None = None, registry: Registry | None = None
) -> Strategy:
    """The strategy a text says. ``trusted`` lets it ``use`` files beside ``file`` (in the working folder without one).

    Raises StrategyError at the first mistake, with line, column and caret.
    """
    if not isinstance(text, str):
        raise StrategyError(f"a strategy is written as text, got {type(text).__name__}", code="type")
    folder = (FilePath(file).parent if file is not None else FilePath()) if trusted else None
    return resolve(parse_program(text, file), Source(folder, folder), registry)


def from_dict(document: Mapping[str, Any], *, registry: Registry | None = None) -> Strategy:
    """The strategy a document says, in the canonical or the short form. Raises StrategyError with the path."""
    return resolve(read_program(document), Source(), registry)


def from_file(path: FilePath, *, registry: Registry | None = None) -> Strategy:
    """The strategy a file says: YAML, JSON or text by its name. Files under its folder may be used."""
    return resolve(program_of_file(path), Source(path.parent, path.parent, (str(path.resolve()),)), registry)


def program_of_file(path: FilePath) -> syntax.Program:
    """The tree of a file, for ``fmt``. Raises StrategyError for a file that cannot be read."""
    name = str(path)
    text = read_text(path, name)
    if path.suffix.lower() in YAML_SUFFIXES:
        return read_program(read_yaml(text, name), name)
    if path.suffix.lower() in JSON_SUFFIXES:
        return read_program(read_json(text, name), name)
    return parse_program(text, name)


def resolve(program: syntax.Program, source: Source | None = None, registry: Registry | None = None) -> Strategy:
    """The strategy of a tree. ``registry``: the process's own where none is given."""
    from .resolve import Resolver

    strategy = Resolver(_registry(registry), source).program(program)
    if program.version is not None or not isinstance(program.where, Span) or _deep(program):
        _check_written(strategy, program)
    return strategy


def _deep(program: syntax.Program) -> bool:
    """Whether a text comes near the limit: its canonical form may have a list around what it writes without one."""
    try:
        check_depth(program, MAX_NESTING - 4)
    except StrategyError:
        return True
    return False


def _check_written(strategy: Strategy, program: syntax.Program) -> None:
    """Refuse what nobody could read again: definitions and documents may say more than one text can hold."""
    from .lower import lower

    try:
        tree = lower(strategy)
        check_depth(tree)
        check_nesting(render.body(tree))
    except StrategyError as error:
        if error.code != "too-deep":
            raise
        message = f"nested deeper than {MAX_NESTING} levels once it is written out"
        raise StrategyError(message, _place(program), hint="make it flatter", code="too-deep") from None


def _place(program: syntax.Program) -> Where:
    return program.main.name.where if program.main is not None else program.where


def parse_value(text: str) -> syntax.Value:
    """The tree of one value, for an override: ``0.3``, ``"text"``, ``1.2 -> 0.6 over 64``."""
    return parse_expression(text)


def field_value(stage: Stage, field: str, value: syntax.Value, *, registry: Registry | None = None) -> Any:
    """What a written value is as a field of ``stage``. Raises StrategyError where the field refuses it."""
    from .arguments import changed
    from .resolve import Resolver

    return changed(Resolver(_registry(registry)), stage, syntax.Word(field, where=value.where), value, Scope())


def _registry(registry: Registry | None) -> Registry:
    if registry is not None:
        return registry
    from ..loader import registry as own

    return own()
