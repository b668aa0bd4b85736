"""Syntax errors in words: what was found, where, and what to do instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ..errors import Span, StrategyError
from .scan import Bracket, brackets, lexemes, unescape

KEYWORDS = frozenset("until with as use let when else over by and or not in true false dsl".split())

_WORDS = {
    "VBAR": "'|'", "LPAR": "'('", "RPAR": "')'", "LSQB": "'['", "RSQB": "']'", "LBRACE": "'{'", "RBRACE": "'}'",
    "COMMA": "','", "COLON": "':'", "DOT": "'.'", "EQUAL": "'='", "MINUS": "'-'", "PLUS": "'+'", "STAR": "'*'",
    "SLASH": "'/'", "NAME": "a name", "NUMBER": "a number", "STRING": "a string", "RELATION": "a comparison",
    "$END": "the end",
}  # fmt: skip
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "RELATION", "IN", "AND", "OR", "DOT", "AS", "WITH", "UNTIL"}
_LOOKALIKES = {
    "→": "write '->'", "≤": "write '<='", "≥": "write '>='", "≠": "write '!='", "×": "write '*'", "−": "write '-'",
    "“": 'strings take plain double quotes: "..."', "”": 'strings take plain double quotes: "..."',
    "'": 'strings take double quotes: "..."', "‘": 'strings take double quotes: "..."', "`": "write a plain name",
    "\u00a0": "it is a no-break space: write a plain one", ";": "items need nothing between them, stages a '|'",
    "&": "write 'and'", "!": "write 'not', or '!=' to compare", "%": "there is no such operator",
    "@": "a revision is written in JSON and YAML only", "$": "a parameter is written by its bare name",
    ".": "a number needs a digit before its point: 0.5", "\ufeff": "a byte order mark stands at the start only",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """What the parser met: the token, the one before it, and what could have stood there."""

    token: Token
    before: Token | None
    accepts: frozenset[str]
    text: str

    @property
    def found(self) -> str:
        """The token in words."""
        match self.token.type:
            case "$END":
                return "end of the text"
            case "NAME":
                return f"name '{self.token}'"
            case "NUMBER":
                return f"number {self.token}"
            case "STRING" | "RAWSTRING":
                return "string " + (str(self.token) if len(self.token) <= 30 else str(self.token)[:28] + '.."')
            case _ if str(self.token) in KEYWORDS:
                return f"word '{self.token}'"
            case _:
                return f"'{self.token}'"


def syntax_error(error: UnexpectedInput, parser: Lark, text: str, file: str | None) -> StrategyError:
    """The error for what ``parser`` could not read in ``text``."""
    if isinstance(error, UnexpectedCharacters):
        start = error.pos_in_stream or 0
    else:
        assert isinstance(error, UnexpectedToken)
        start = len(text) if error.token.type == "$END" else error.token.start_pos or 0
    _check_strings(text, start, file)
    if isinstance(error, UnexpectedCharacters):
        return _character(text, start, file)
    *_, before = [None, *parser.lex(text[:start])]
    failure = Failure(error.token, before, frozenset(error.accepts or ()), text)
    left_open = _left_open(text, start)
    if left_open is not None:
        return _unclosed(left_open, failure, text, file)
    end = start if failure.token.type == "$END" else error.token.end_pos or start
    message, hint = _explain(failure)
    return StrategyError(message, Span(text, start, end, file), hint=hint, code="syntax")


def _check_strings(text: str, stop: int, file: str | None) -> None:
    """Raise for the first bad escape before ``stop``: the first mistake in the text is the one to tell."""
    for match in lexemes(text):
        if match.start() >= stop:
            return
        if match[0][0] == '"':
            unescape(match[0], text, match.start(), file)


def _left_open(text: str, at: int) -> Bracket | None:
    """The innermost bracket open at ``at``, if nothing ever closes it."""
    inside = [
        bracket for bracket in brackets(text) if bracket.start < at and (bracket.end is None or bracket.end >= at)
    ]
    return inside[-1] if inside and inside[-1].end is None else None


def _unclosed(bracket: Bracket, failure: Failure, text: str, file: str | None) -> StrategyError:
    span = Span(text, bracket.start, bracket.start + 1, file)
    hint = f"write '{bracket.closer}' before the {failure.found}"
    if failure.token.type == "$END":
        hint = f"it needs a '{bracket.closer}'"
    return StrategyError(f"this '{bracket.char}' is never closed", span, hint=hint, code="unclosed")


def _character(text: str, at: int, file: str | None) -> StrategyError:
    char = text[at]
    if char == '"':
        stop = text.find("\n", at)
        span = Span(text, at, len(text) if stop < 0 else stop, file)
        hint = "a string ends on its own line; write \\n for a line break inside it"
        return StrategyError("this string is never closed", span, hint=hint, code="unclosed")
    if char.isascii() and char.isdigit():
        end = at
        while end < len(text) and (text[end].isalnum() or text[end] in "._"):
            end += 1
        return StrategyError(
            f"'{text[at:end]}' is neither a number nor a name",
            Span(text, at, end, file),
            hint="numbers look like 7, 0.5 or 1e-3; names begin with a letter",
            code="number",
        )
    shown = f"'{char}'" if char.isprintable() and not char.isspace() else f"U+{ord(char):04X}"
    hint = _LOOKALIKES.get(char, "names are plain letters, digits and _" if char.isalpha() else "remove it")
    return StrategyError(f"stray character {shown}", Span(text, at, at + 1, file), hint=hint, code="character")


def _explain(failure: Failure) -> tuple[str, str]:
    """Message and hint for an unexpected token, the most telling reading first."""
    kind, accepts, before = failure.token.type, failure.accepts, failure.before
    start = failure.token.start_pos or 0
    last = before.type if before is not None else None
    begins = kind in {"NAME", "NUMBER", "STRING", "RAWSTRING", "LSQB", "TRUE", "FALSE", "NOT", "WHEN", "LBRACE"}
    if kind in ("RPAR", "RSQB", "RBRACE") and _stray_closer(failure):
        return f"'{failure.token}' closes nothing", "remove it"
    if kind in ("LET", "USE") and last is None:
        return f"'{failure.token}' in a bare strategy", "a file with 'let' or 'use' starts with the line 'dsl 1'"
    if last == "NUMBER" and accepts == {"LET", "USE"} and kind != "$END":
        return f"unexpected {failure.found} after the version", "name the strategy: let main = ..."
    if kind in ("NAME", "WHEN") and "VBAR" in accepts:
        return f"forgotten '|' before '{failure.token}'", "a '|' stands between two stages"
    if begins and "COMMA" in accepts:
        return f"forgotten ',' before the {failure.found}", "arguments and items are separated by ','"
    if kind in ("NAME", "NOT") and "OR" in accepts:
        return f"forgotten 'and' or 'or' before '{failure.token}'", "two tests are joined by 'and' or 'or'"
    if kind == "DOT" and "NUMBER" in accepts and (digits := re.match(r"[0-9]+", failure.text[start + 1 :])):
        return "a number without a digit before its point", f"write 0.{digits[0]}"
    if kind == "STRING" and last == "LBRACE":
        return f"unexpected {failure.found}", "JSON is read from a file named .json, a dict by Strategy.from_dict"
    if kind == "EQUAL" and "LPAR" in accepts:
        return "unexpected '=' after a stage", f"arguments stand in brackets: {before}(...)"
    if kind == "COMMA" and "VBAR" in accepts:
        return "unexpected ',' between stages", "stages are joined by '|'"
    if kind == "VBAR" and "OR" in accepts and "RPAR" not in accepts:
        return "unexpected '|' after 'until'", "tests are joined by 'or'; 'until' comes behind the whole pipeline"
    if "NAME" in accepts and "WHEN" in accepts and "NUMBER" not in accepts:
        return _stage_missing(failure)
    if str(failure.token) in KEYWORDS and "NAME" in accepts:
        return f"'{failure.token}' is a word of the language", "choose another name"
    if last == "COLON" and accepts == {"LBRACE"}:
        return (
            f"unexpected {failure.found} after ':'",
            "a weight takes a block, 0.7: { ... }; a map stands in brackets, [5: -2]; a name takes '='",
        )
    if kind in ("RELATION", "IN") and "AND" in accepts:
        return "comparisons cannot be chained", "join them with 'and'"
    if kind == "UNTIL" and "COMMA" in accepts:
        return "'until' after 'with'", "the order is pipeline, until, with"
    return f"unexpected {failure.found}", _expected(accepts)


def _stray_closer(failure: Failure) -> bool:
    """Whether nothing open fits this closing bracket."""
    at = failure.token.start_pos
    return all(bracket.end != at for bracket in brackets(failure.text))


def _stage_missing(failure: Failure) -> tuple[str, str]:
    if failure.token.type == "$END":
        return "unexpected end of the text", "a stage must follow"
    if str(failure.token) in KEYWORDS:
        return f"'{failure.token}' is a word of the language", "a stage's name stands here"
    if failure.token.type == "VBAR" and failure.before is not None and failure.before.type == "VBAR":
        return "unexpected '|' after '|'", "one '|' stands between two stages; tests are joined by 'or'"
    return f"unexpected {failure.found}", "a stage must stand here, such as temperature(0.8)"


def _expected(accepts: frozenset[str]) -> str:
    """The shortest useful list of what may follow."""
    values = {"NUMBER", "STRING", "TRUE", "LSQB"} <= accepts
    names = sorted(
        _WORDS.get(name, f"'{name.lower()}'") for name in accepts - _OPERATORS if not (values and name in _VALUES)
    )
    shown = (["a value"] if values else []) + names
    return "expected " + (" or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown))


_VALUES = {
    "NUMBER", "STRING", "RAWSTRING", "TRUE", "FALSE", "LSQB", "LPAR", "MINUS", "NOT", "NAME", "LBRACE",
    "BY", "OVER", "UNTIL", "USE", "LET", "WHEN", "DSL",
}  # fmt: skip
