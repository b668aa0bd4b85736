"""Tests on text: stop and stop_regex, which cut it at the match, and text, which keeps it.

They see the generated text without special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from torch import Tensor

from ..core.context import Context
from ..core.expression import Pattern
from ..core.stage import StoppingCriterion
from ..core.vocab import Vocab
from .tokens import ids_tensor, just_came


class _Strings(StoppingCriterion):
    """What stop and text share: strings looked for in the text, and among the tokens where one is a special token."""

    variadic: ClassVar[str | None] = "strings"
    needs: ClassVar[frozenset[str]] = frozenset({"text", "tokenizer"})

    strings: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, description='as in stop("\\n\\n", "User:")'
    )

    def prepare(self, vocab: Vocab) -> Tensor:
        special = [] if vocab.tokenizer is None else [vocab.single(text) for text in self.strings]
        return ids_tensor([i for i in special if i in vocab.special_ids], vocab, self.stage_name)

    def check(self, ctx: Context) -> Tensor:
        return just_came(ctx.prepared(self), ctx)

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        if vocab.tokenizer is None or len(tokens) <= prompt or tokens[-1] not in vocab.special_ids:
            return False
        return any(vocab.single(string) == tokens[-1] for string in self.strings)


class Stop(_Strings):
    """One of these strings has come. The text ends where it begins, or behind it with ``include``.

    A match may begin and end anywhere inside tokens. Of several matches the earliest counts, of those that begin
    together the shortest. A string that is one special token, which the text does not show, is matched as a token.
    """

    examples: ClassVar[tuple[str, ...]] = (r'stop("\n\n", "User:")', 'stop("}", include=true)')

    include: bool = Field(False, description="whether the string itself stays in the text")

    def check_text(self, text: str, ctx: Context) -> int | None:
        found = [(at, at + len(string)) for string in self.strings if (at := text.find(string)) >= 0]
        return min(found)[self.include] if found else None

    def held(self, text: str) -> int:
        return 0 if self.include else max(_overlap(text, string) for string in self.strings)


class Text(_Strings):
    """One of these strings has come, and the text keeps it, with all that its last token brought.

    It tells where a phase ends: ``phases({ ... until text("</think>") }, { ... })``. Strings are found as by ``stop``:
    anywhere inside tokens, and as a token where a string is one special token, which the text does not show. In a
    phase, what came before it began counts for nothing.
    """

    examples: ClassVar[tuple[str, ...]] = ('text("</think>")', r'text(".\n", "!\n")')

    def check_text(self, text: str, ctx: Context) -> bool:
        return any(string in text for string in self.strings)


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of text that is a beginning of string, and not all of it."""
    for size in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:size]):
            return size
    return 0


def _pattern(value: Any) -> Any:
    return Pattern(value) if isinstance(value, str) else value


class StopRegex(StoppingCriterion):
    """A regular expression matches. The text ends where the match begins, or behind it with ``include``.

    It is searched for after every token, so it stops at the first text in which it matches: a repetition at its end
    matches as little as has come. Matches that begin more than ``window`` characters before the end are not seen.
    While the end of the text could yet grow into a match it is not streamed, at most ``window`` characters: a pattern
    that begins with ``.*`` holds back that much throughout.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"text", "tokenizer"})
    examples: ClassVar[tuple[str, ...]] = (r'stop_regex(r"\n(User|System):")', r'stop_regex(r"\d{4}", include=true)')

    pattern: Annotated[Pattern, BeforeValidator(_pattern)] = Field(description='as in stop_regex(r"\\n(User|System):")')
    include: bool = Field(False, description="whether the match itself stays in the text")
    window: int = Field(1024, ge=1, le=65536, description="how many characters at the end of the text are searched")

    def check_text(self, text: str, ctx: Context) -> int | None:
        found = self.pattern.search(text, max(0, len(text) - self.window))
        return None if found is None else found.end() if self.include else found.start()

    def held(self, text: str) -> int:
        if self.include:
            return 0
        found = self.pattern.search(text, max(0, len(text) - self.window), partial=True)
        return len(text) - found.start() if found is not None else 0


__all__ = ["Stop", "StopRegex", "Text"]
