"""What can be seen in a strategy's text without its grammar: size, comments, brackets, and what strings say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import Span, StrategyError, Where
from .syntax import Comment

MAX_BYTES = 64 * 1024
MAX_NESTING = 64

_OPENS = {"(": ")", "[": "]", "{": "}"}
_LEXEME = re.compile(r'"(?:\\[^\n]|[^"\\\n])*"|\br"[^"\n]*"|#[^\n]*|[()\[\]{}]')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)?", re.DOTALL)
_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Bracket:
    """An opening bracket, and where it is closed (None: never)."""

    char: str
    start: int
    end: int | None

    @property
    def closer(self) -> str:
        return _OPENS[self.char]


def normalise(text: str, file: str | None = None) -> str:
    """``text`` with one kind of line end and no byte order mark. StrategyError where it is too long or no Unicode."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > MAX_BYTES or not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise StrategyError(
                "half of a surrogate pair in the text",
                Span(text, error.start, error.start + 1, file),
                hint="remove it: it is no character",
                code="character",
            ) from None
        if size > MAX_BYTES:
            raise StrategyError(f"the text has {size:,} bytes, more than the {MAX_BYTES:,} allowed", code="too-long")
    return text


def lexemes(text: str) -> Iterator[re.Match[str]]:
    """Strings, comments and brackets, in order."""
    return _LEXEME.finditer(text)


def check_nesting(text: str, file: str | None = None) -> None:
    """Refuse more than 64 brackets inside one another, before anything recurses into them."""
    depth = 0
    for match in lexemes(text):
        char = match[0]
        if char in _OPENS:
            depth += 1
            if depth > MAX_NESTING:
                raise too_deep(Span(text, match.start(), match.end(), file))
        elif char in ")]}":
            depth = max(0, depth - 1)


def too_deep(where: Where) -> StrategyError:
    """The one error for whatever is nested too deep."""
    return StrategyError(f"nested deeper than {MAX_NESTING} levels", where, hint="make it flatter", code="too-deep")


def brackets(text: str) -> list[Bracket]:
    """Every opening bracket in order, with the position of the bracket that closes it."""
    found: dict[int, Bracket] = {}
    stack: list[Bracket] = []
    for match in lexemes(text):
        char, start = match[0], match.start()
        if char in _OPENS:
            stack.append(Bracket(char, start, None))
            found[start] = stack[-1]
        elif char in ")]}" and any(bracket.closer == char for bracket in stack):
            while stack[-1].closer != char:  # left open by what closes around it
                stack.pop()
            opened = stack.pop()
            found[opened.start] = Bracket(opened.char, opened.start, start)
    return list(found.values())


def comments(text: str, file: str | None = None) -> tuple[Comment, ...]:
    """The comments of ``text``, in order."""
    if "#" not in text:
        return ()
    found = []
    for match in lexemes(text):
        if match[0][0] == "#":
            before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            where = Span(text, match.start(), match.end(), file)
            found.append(Comment(match[0].rstrip(), not before.strip(), where=where))
    return tuple(found)


def unescape(literal: str, text: str, start: int, file: str | None = None) -> str:
    """What the quoted ``literal``, which stands at ``start`` of ``text``, says: JSON's escapes and no others."""
    if "\\" not in literal:
        return literal[1:-1]
    pieces: list[str] = []
    done, half = 1, -1  # half: where the first half of a surrogate pair stands, or -1
    for match in _ESCAPE.finditer(literal):
        here = start + match.start()
        escape = match[1] or ""
        if (len(escape) == 1 and escape not in _SIMPLE) or not escape or escape == "u":
            span = Span(text, here, start + match.end(), file)
            hint = "four hexadecimal digits must follow" if escape == "u" else 'write r"..." or double the backslash'
            raise StrategyError(f"unknown escape '{match[0]}' in a string", span, hint=hint, code="escape")
        char = _SIMPLE.get(escape) or chr(int(escape[1:], 16))
        pair = half >= 0 and match.start() == done and "\udc00" <= char <= "\udfff"
        if (half >= 0 and not pair) or (half < 0 and "\udc00" <= char <= "\udfff"):
            raise _lone(text, half if half >= 0 else here, file)
        pieces.append(literal[done : match.start()])
        if pair:
            char = (pieces.pop(-2) + char).encode("utf-16", "surrogatepass").decode("utf-16")
            half = -1
        elif "\ud800" <= char <= "\udbff":
            half = here
        pieces.append(char)
        done = match.end()
    if half >= 0:
        raise _lone(text, half, file)
    return "".join([*pieces, literal[done:-1]])


def _lone(text: str, at: int, file: str | None) -> StrategyError:
    return StrategyError(
        f"'{text[at : at + 6]}' is half of a surrogate pair",
        Span(text, at, at + 6, file),
        hint="both halves must stand together",
        code="escape",
    )
