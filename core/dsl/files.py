"""What a file says: its text, and YAML and JSON as plain dicts and lists, with nothing in it that could surprise.

YAML by the 1.2 core schema, read from ruamel.yaml's events: 1e-3 is a number; 1:30, yes and on are text. No tags, no
anchors, no second document, no key twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import Any

from ..errors import Path, Span, StrategyError, Where
from .scan import MAX_BYTES, MAX_NESTING, normalise

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"null": None, "Null": None, "NULL": None, "~": None, "": None,
          "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}  # fmt: skip
_MAX_DEPTH = 4 * MAX_NESTING  # a block of the language is some four lists and mappings of a document


def read_text(path: FilePath, shown: str, where: Where | None = None) -> str:
    """The text of a file, called ``shown`` in errors. Raises StrategyError where it cannot be read or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise StrategyError(f"{shown} cannot be read: {file_trouble(error)}", where, code="file") from None
    raise StrategyError(f"{shown} is larger than {MAX_BYTES:,} bytes", where, code="too-long")


def file_trouble(error: OSError | ValueError) -> str:
    """Why a file cannot be read or written, in words."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8" if isinstance(error, UnicodeError) else f"no file has such a name ({error})"


def read_json(text: str, file: str | None = None, *, infinite: bool = False) -> Any:
    """What a JSON text says. Raises StrategyError for anything that is no JSON, and for a key given twice.

    NaN and Infinity are no numbers there; with ``infinite`` they are read, since Python writes them.
    """
    text = normalise(text, file)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            names = [key for key, _ in items]
            twice = next(key for key in names if names.count(key) > 1)
            raise StrategyError(
                f"the key {twice!r} stands twice", Path("the document", file), hint="remove one", code="duplicate"
            )
        return made

    def constant(name: str) -> Any:
        raise StrategyError(f"{name} is no number", Path("the document", file), code="number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=None if infinite else constant)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise StrategyError(f"not JSON: {reason}", Span(text, error.pos, error.pos + 1, file), code="json") from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, StrategyError):
            raise
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number with too many digits"
        raise StrategyError(f"not readable: {reason}", Path("the document", file), code="json") from None


def read_yaml(text: str, file: str | None = None) -> Any:
    """What a YAML text says, by the core schema of YAML 1.2. Raises StrategyError at the place of the first mistake."""
    from ruamel.yaml import YAML  # only those who write YAML pay for it
    from ruamel.yaml.error import YAMLError

    text = normalise(text, file)
    reader = _YamlReader(text, file)
    try:
        return reader.document(YAML(typ="safe", pure=True).parse(text))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = reader.span(mark.index, mark.index + 1) if mark is not None else Path("the document", file)
        reason = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise StrategyError(f"not YAML: {reason}", where, code="yaml") from None


class _YamlReader:
    """Builds plain values from events, without recursion."""

    def __init__(self, text: str, file: str | None) -> None:
        self.text, self.file = text, file

    def span(self, start: int, end: int) -> Span:
        start = min(start, len(self.text))
        return Span(self.text, start, max(end, start), self.file)

    def wrong(self, event: Any, message: str, hint: str = "") -> StrategyError:
        return StrategyError(message, self.span(event.start_mark.index, event.end_mark.index), hint=hint, code="yaml")

    def document(self, events: Iterable[Any]) -> Any:
        """The one document among the events."""
        finished: list[Any] = []
        adders: list[Callable[[Any, Any], None]] = [lambda value, event: finished.append(value)]
        for event in events:
            kind = type(event).__name__.removesuffix("Event")
            if kind == "Alias" or getattr(event, "anchor", None):
                raise self.wrong(event, "anchors and aliases are not read", "write the value out where it is wanted")
            if getattr(event, "tag", None):
                raise self.wrong(event, "tags are not read", "remove it: the stage says what type it wants")
            if kind == "DocumentStart" and finished:
                raise self.wrong(event, "a second document", "one file holds one strategy")
            if kind == "Scalar":
                adders[-1](self.scalar(event), event)
            elif kind in ("MappingStart", "SequenceStart"):
                if len(adders) > _MAX_DEPTH:
                    raise self.wrong(event, "nested too deep", f"a document has at most {_MAX_DEPTH} levels")
                made: Any = {} if kind == "MappingStart" else []
                adders[-1](made, event)
                adders.append(self.into(made) if kind == "MappingStart" else self.onto(made))
            elif kind in ("MappingEnd", "SequenceEnd"):
                adders.pop()
        return finished[0] if finished else None

    @staticmethod
    def onto(made: list[Any]) -> Callable[[Any, Any], None]:
        """What takes the items of one sequence."""
        return lambda value, event: made.append(value)

    def into(self, made: dict[Any, Any]) -> Callable[[Any, Any], None]:
        """What takes the keys and values of one mapping in turn."""
        key: list[Any] = []

        def add(value: Any, event: Any) -> None:
            if key:
                made[key.pop()] = value
                return
            if isinstance(value, dict | list):
                raise self.wrong(event, "a key is a plain name", "lists and mappings stand behind the ':'")
            if value in made:
                raise self.wrong(event, f"the key {value!r} stands twice", "remove one")
            key.append(value)

        return add

    def scalar(self, event: Any) -> Any:
        """A scalar by the core schema; quoted ones are text."""
        text: str = event.value
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if len(text) < 64 and _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if len(text) < 64 and _FLOAT.fullmatch(text):
            return float(text)
        return text
