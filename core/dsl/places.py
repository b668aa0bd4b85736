"""Places in a document, its errors, and the texts of the language inside it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import Path, Span, StrategyError
from . import syntax


class Places:
    """What reads one document says where; ``file`` is named in its errors."""

    def __init__(self, file: str | None) -> None:
        self.file = file

    # places and errors

    def at(self, path: str) -> Path:
        return Path(path or "the document", self.file)

    def wrong(self, path: str, message: str, hint: str = "", code: str = "document") -> StrategyError:
        return StrategyError(message, self.at(path), hint=hint, code=code)

    def word(self, text: object, path: str, what: str) -> syntax.Word:
        """A plain name."""
        if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", text, re.ASCII):
            raise self.wrong(path, f"{what} is a name, got {found(text)}", "names are made of letters, digits and _")
        return syntax.Word(text, where=self.at(path))

    def keys(self, node: Mapping[Any, Any], allowed: Iterable[str], path: str) -> None:
        """Refuse any key but the ``allowed`` ones."""
        names = list(allowed)
        for key in node:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"here may stand {', '.join(names)}"
                raise self.wrong(join(path, key), f"unknown key {key!r}", hint, code="unknown-key")

    def text(self, text: str, path: str, parse: Callable[[str], Any]) -> Any:
        """A text of the language inside the document, its nodes placed at ``path``."""
        try:
            return placed(parse(text), self.at(path))
        except StrategyError as error:
            column = f"column {error.column} of {text!r}" if isinstance(error.where, Span) else f"in {text!r}"
            hint = f"{column}: {error.hint}" if error.hint else column
            raise self.wrong(path, error.message, hint, code=error.code) from None


def join(path: str, key: object) -> str:
    """The path of a key inside ``path``."""
    return f"{path}.{key}" if path else str(key)


def found(node: object) -> str:
    """A value as an error names it."""
    match node:
        case bool():
            return "true" if node else "false"
        case None:
            return "null"
        case str():
            return f"the text {node[:40]!r}"
        case int() | float():
            return f"the number {node}"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return f"a {type(node).__name__}"


def placed(node: Any, where: Path) -> Any:
    """The same tree, each node of it at ``where``."""
    if isinstance(node, tuple):
        return tuple(placed(item, where) for item in node)
    if not isinstance(node, syntax.Node):
        return node
    names: tuple[str, ...] = type(node).__match_args__
    parts = {name: placed(getattr(node, name), where) for name in names}
    return dataclasses.replace(node, where=where, **parts)
