"""Texts of the grammar itself, whatever their names mean: random derivations of ``core/dsl/grammar.lark``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from fuzzing.words import Words
from lark import Lark

from logitmill.core.registry import WORDS, Registry

MOST = 400  # tokens; from there on the shortest way out is taken


@cache
def grammar() -> tuple[dict[str, list[list[Any]]], dict[str, str]]:
    """Rule -> its expansions, and terminal -> its text where that is fixed."""
    text = files("logitmill.core.dsl").joinpath("grammar.lark").read_text("utf-8")
    made = Lark(text, parser="lalr", lexer="basic", start=["program", "value"], keep_all_tokens=True)
    rules: dict[str, list[list[Any]]] = {}
    for rule in made.rules:
        rules.setdefault(rule.origin.name, []).append(list(rule.expansion))
    fixed = {t.name: t.pattern.value for t in made.terminals if type(t.pattern).__name__ == "PatternStr"}
    return rules, fixed


@cache
def costs() -> dict[str, int]:
    """Rule -> the fewest tokens it can become."""
    rules, _ = grammar()
    least = dict.fromkeys(rules, 10**6)
    for _ in rules:
        for name, expansions in rules.items():
            least[name] = min(least[name], *(_cost(expansion, least) for expansion in expansions))
    return least


def _cost(expansion: list[Any], least: dict[str, int]) -> int:
    return sum(1 if symbol.is_term else least[symbol.name] for symbol in expansion)


class Deriver(Words):
    """Derivations by chance."""

    def __init__(self, chance: Random, registry: Registry, odd: float = 0.05) -> None:
        super().__init__(chance, odd)
        names = [*registry.entries, *registry.schedules, "min", "max", "clamp", "exp", "log"]
        self.names = [name for name in names if name not in WORDS]
        self.keys = ["value", "k", "p", "n", "dialect", "window", "t", "seed", "block", "parts", "test"]

    def text(self, start: str = "program") -> str:
        rules, _ = grammar()
        tokens: list[str] = []
        todo = [start]
        while todo:
            name = todo.pop()
            if name not in rules:
                tokens.append(self.token(name))
                continue
            expansions = rules[name]
            tight = len(tokens) + len(todo) > self.chance.randint(8, MOST)
            if tight:
                best = min(_cost(expansion, costs()) for expansion in expansions)
                expansions = [expansion for expansion in expansions if _cost(expansion, costs()) == best]
            todo += [symbol.name for symbol in reversed(self.chance.choice(expansions))]
        return "".join(token + (self.space() or " ") for token in tokens)

    def token(self, name: str) -> str:
        _, fixed = grammar()
        if name in fixed:
            return fixed[name]
        if name == "NAME":
            return self.chance.choice([*self.names, *self.keys, self.label()]) if not self.rarely() else self.label()
        if name == "NUMBER":
            return self.number()
        if name == "STRING":
            return self.string()
        if name == "RAWSTRING":
            return self.pattern() if self.chance.random() < 0.5 else 'r"x"'
        return self.of("<", "<=", ">", ">=", "==", "!=", "~")
