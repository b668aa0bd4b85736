"""What has to hold for any document: it is refused in words, or it is read and every way round ends where it began."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from logitmill.core.dsl.files import read_json, read_yaml
from logitmill.core.dsl.layout import format_program
from logitmill.core.dsl.parse import parse_program
from logitmill.core.dsl.read import from_dict
from logitmill.core.dsl.scan import MAX_BYTES
from logitmill.core.dsl.write import to_lines, to_yaml
from logitmill.core.errors import StrategyError
from logitmill.core.patch import patched
from logitmill.core.strategy import Strategy


class BrokenError(AssertionError):
    """A law does not hold for a document. ``law`` names it."""

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law


def hold(law: str, holds: bool, detail: Callable[[], str] = lambda: "") -> None:
    clock.beat()
    if not holds:
        raise BrokenError(law, detail())


class Clock:
    """Told after each reading, writing or comparison, so that who watches can bound every single one."""

    beat: Callable[[], None] = staticmethod(lambda: None)


clock = Clock()


def read(document: Any, form: str) -> str:
    """Hold every law for one document of a form (text, dict, json, yaml); how it ended, in a word or two."""
    reading = {
        "text": lambda: Strategy.parse(document),
        "dict": lambda: from_dict(document),
        "json": lambda: from_dict(read_json(document)),
        "yaml": lambda: from_dict(read_yaml(document)),
    }[form]
    if form == "text":
        formatted(document)
    try:
        strategy = reading()
    except StrategyError as error:
        return f"refused: {in_words(error)}"
    round_trip(strategy)
    return "whole" if strategy.complete else "fragment"


def in_words(error: StrategyError) -> str:
    """An error is a sentence with a code, and prints."""
    said = str(error)
    hold("an error speaks", said.startswith("error: ") and len(error.message) > 3, lambda: repr(said))
    hold("an error has a code", bool(error.code), lambda: said)
    return error.code


def formatted(text: str) -> None:
    """``fmt`` is a fixed point, says the same, and keeps every comment."""
    try:
        tree = parse_program(text)
    except StrategyError as error:
        in_words(error)
        return
    printed = format_program(tree)
    again = again_read("fmt reads back", printed, lambda: parse_program(printed))
    if again is None:
        return
    hold("fmt says the same", again == tree, lambda: printed)
    hold("fmt is a fixed point", format_program(again) == printed, lambda: f"{printed}\n---\n{format_program(again)}")
    kept = [sorted(comment.text for comment in program.comments) for program in (tree, again)]
    hold("fmt keeps comments", kept[0] == kept[1], lambda: f"{kept[0]} became {kept[1]}")


def again_read(law: str, text: str, reading: Callable[[], Any]) -> Any:
    """What was written has to be readable; None where it is longer than any text may be, which definitions make."""
    clock.beat()
    try:
        return reading()
    except StrategyError as error:
        if error.code == "too-long" and len(text.encode()) > MAX_BYTES:
            return None
        raise BrokenError(law, f"{error}\n---\n{text[:2000]}") from error


def round_trip(strategy: Strategy) -> None:
    """Text to object to JSON to object to text, YAML, the hash, the warnings."""
    text, document = strategy.to_text(), strategy.to_dict()
    loaded = json.loads(json.dumps(document, allow_nan=False))
    hold("JSON says the same", loaded == document, lambda: repr(document)[:2000])
    twin = again_read("the document reads back", text, lambda: from_dict(loaded))
    hold("object to JSON to object", twin == strategy, lambda: f"{text}\n---\n{twin.to_text()}")
    hold("object to JSON to text", twin.to_text() == text, lambda: f"{text}\n---\n{twin.to_text()}")
    hold("the document is a fixed point", twin.to_dict() == document, lambda: text)
    hashes = {strategy.hash, twin.hash}
    parsed = again_read("the text reads back", text, lambda: Strategy.parse(text))
    if parsed is not None:
        hold("object to text to object", parsed == strategy, lambda: f"{text}\n---\n{parsed.to_text()}")
        hold("the text is a fixed point", parsed.to_text() == text, lambda: f"{text}\n---\n{parsed.to_text()}")
        hashes.add(parsed.hash)
    lines = to_lines(strategy)
    laid = again_read("the lines read back", lines, lambda: Strategy.parse(lines))
    if laid is not None:
        hold("lines say the same", laid == strategy, lambda: lines)
        hold("lines are what fmt prints", format_program(parse_program(lines)) == lines + "\n", lambda: lines)
    yaml = to_yaml(strategy)
    written = again_read("YAML reads back", yaml, lambda: read_yaml(yaml))
    hold("YAML says the same", written is None or written == document, lambda: yaml)
    plain = again_read("patches apply", text, lambda: patched(strategy))
    hashes.add(plain.hash)
    hold("the hash is stable", len(hashes) == 1, lambda: f"{text}: {sorted(hashes)}")
    for warning in strategy.check():
        hold("a warning speaks", str(warning).startswith("warning: ") and bool(warning.code), lambda: text)
