"""The documents of a run: number n of a seed is the same one everywhere, so that a failure can be had again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from fuzzing import damage
from fuzzing.deriving import Deriver
from fuzzing.writing import Writer

from logitmill.core.dsl.write import to_yaml
from logitmill.core.errors import StrategyError
from logitmill.core.loader import Plugins
from logitmill.core.registry import Registry
from logitmill.core.strategy import Strategy

#: kind of document -> its share in a hundred
KINDS = {
    "written": 25, "derived": 10, "damaged": 30, "damaged derived": 4, "deep": 3, "long": 1, "noise": 3,
    "document": 8, "damaged document": 10, "damaged json": 2, "damaged yaml": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """One document: what it is (text, or a dict), and how it is to be read."""

    kind: str
    form: str  # text, dict, json or yaml
    content: Any

    def shown(self) -> str:
        return self.content if isinstance(self.content, str) else repr(self.content)


@cache
def names() -> Registry:
    """What logitmill itself registers, whatever else is installed."""
    import os
    from unittest import mock

    with mock.patch.dict(os.environ, {"LOGITMILL_PLUGINS": ""}):
        loading = Plugins(strict=True)
        loading.discover()
    return loading.registry


def document(seed: int, number: int) -> Document:
    """Number ``number`` of a run with this seed."""
    chance = Random(f"{seed}/{number}")
    kind = chance.choices(list(KINDS), weights=list(KINDS.values()))[0]
    return _made(chance, kind)


def _made(chance: Random, kind: str) -> Document:
    writer = Writer(chance, names())
    match kind:
        case "written":
            return Document(kind, "text", _spaced(chance, writer.program()))
        case "derived":
            return Document(kind, "text", Deriver(chance, names()).text())
        case "damaged":
            return Document(kind, "text", damage.damaged(chance, writer.program(), chance.choice([1, 1, 1, 2, 3, 6])))
        case "damaged derived":
            return Document(
                kind, "text", damage.damaged(chance, Deriver(chance, names()).text(), chance.choice([1, 2]))
            )
        case "deep":
            levels = chance.choice([1, 3, 12, 30, 31, 32, 33, 60, 62, 63, 64, 65, 66, 127, 128, 129, 300, 3000])
            return Document(kind, "text", damage.deep(chance, writer.stage(0), levels))
        case "long":
            size = chance.choice([20, 40, 100, 100, 300, 300, 500, 500, 999, 1000, 1001, 3000, 20_000])
            return Document(
                kind, "text", damage.long(chance, ["top_p(0.9)", "temperature(0.5)", writer.stage(0)], size)
            )
        case "noise":
            letters = chance.choice(
                ['|(){}[]=,:"#~<>-.0123456789abcr \n', "".join(map(chr, range(0x250))), "0123456789.e+-", '"\\ur']
            )
            return Document(kind, "text", "".join(chance.choices(letters, k=chance.randint(0, 60))))
    return _as_document(chance, kind, writer)


def _spaced(chance: Random, text: str) -> str:
    """The same tokens with other blanks and comments between them."""
    if chance.random() < 0.6:
        return text
    writer = Writer(chance, names())
    return "".join(
        writer.space() or piece if piece.isspace() and "\n" not in piece else piece for piece in damage.tokens(text)
    )


def _as_document(chance: Random, kind: str, writer: Writer) -> Document:
    strategy = _parsed(writer)
    whole: Any = damage.shorter(chance, strategy.to_dict())
    if chance.random() < 0.2:
        whole["let"] = {"calm": {"params": {"t": 0.5}, "pipeline": [{"temperature": {"expr": "t"}}]}}
    if kind == "document":
        return Document(kind, "dict", whole)
    times = chance.choice([1, 1, 1, 2, 4])
    if kind == "damaged document":
        return Document(kind, "dict", damage.damaged_document(chance, whole, times))
    text = to_yaml(strategy) if kind == "damaged yaml" else json.dumps(whole, indent=chance.choice([None, 1]))
    return Document(kind, kind.removeprefix("damaged "), damage.damaged(chance, text, times))


def _parsed(writer: Writer) -> Strategy:
    """A strategy that reads, so that there is a document of it."""
    for _ in range(20):
        try:
            return Strategy.parse(writer.strategy())
        except StrategyError:
            continue
    return Strategy.parse("temperature(0.5) | sample")
