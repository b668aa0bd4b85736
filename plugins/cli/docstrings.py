"""A stage's docstring in its parts: summary, edge cases, source, and what each dialect does differently."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: engines by the names they have in prose: a clause about one that is no dialect of the stage tells of the default
ENGINES = ("transformers", "llama.cpp", "vLLM", "text-generation-webui", "textgen")
_SECTION = re.compile(r"(?m)^(?=(?:Source|Dialects):)|\n{2,}")


@dataclass(frozen=True)
class Parts:
    """``summary`` and ``details`` are paragraphs as written, line breaks and all; ``source`` and ``dialects`` prose."""

    summary: str
    details: tuple[str, ...]
    source: str
    dialects: str


def parts(doc: str) -> Parts:
    """The parts of a clean docstring. ``Source:`` and ``Dialects:`` begin a line and go on to the paragraph's end."""
    found = {"Source": "", "Dialects": ""}
    plain: list[str] = []
    for piece in (piece.strip("\n") for piece in _SECTION.split(doc) if piece.strip()):
        head, _, rest = piece.partition(":")
        if head in found:
            found[head] = " ".join([found[head], *rest.split()]).strip()
        else:
            plain.append(piece)
    summary = " ".join(plain[0].split()) if plain else ""
    return Parts(summary, tuple(plain[1:]), found["Source"], found["Dialects"])


def differences(told: str, dialects: Iterable[str], default: str) -> dict[str, str]:
    """dialect -> its clauses of ``told``; what is said of an engine that is no dialect here stands under ``default``.

    A clause begins at a dialect's or an engine's name, at the start or behind ``;`` or ``.``, and ends before
    the next one. Several names may share one: ``hf and vllm keep ties``.
    """
    names = sorted(dialects, key=len, reverse=True)
    any_name = "|".join(map(re.escape, [*names, *ENGINES]))
    found: dict[str, list[str]] = {}
    for clause in _clauses(told, any_name):
        named = re.match(rf"((?:{any_name})\b(?:(?:,| and|, and) (?:{any_name})\b)*):? ", clause)
        owners = [name for name in names if named and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.'])", named[1])]
        text = clause[named.end() :] if named and owners else clause
        for owner in owners or [default]:
            found.setdefault(owner, []).append(text)
    return {name: "; ".join(found[name]) for name in dialects if name in found}


def _clauses(told: str, any_name: str) -> list[str]:
    """``told`` cut before each name that begins a clause, outside brackets."""
    depth, cuts = 0, [0]
    for at, char in enumerate(told):
        depth += (char == "(") - (char == ")")
        if depth == 0 and char in ";." and re.match(rf"[;.] (?:{any_name})(?![\w])", told[at:]):
            cuts.append(at + 2)
    pieces = [told[start:end] for start, end in zip(cuts, [*cuts[1:], len(told)], strict=True)]
    return [piece.strip().rstrip(";.") for piece in pieces if piece.strip()]


__all__ = ["ENGINES", "Parts", "differences", "parts"]
