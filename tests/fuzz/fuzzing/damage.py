"""Documents with mistakes: tokens lost, added, swapped; noise; too deep, too long; mappings with wrong parts."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

TOKEN = re.compile(r'r?"(?:\\[^\n]|[^"\\\n])*"|#[^\n]*|->|[=!<>]=|[A-Za-z_]\w*|[0-9][\w.]*|\s+|.', re.DOTALL)
INSERTED = [
    *"|(){}[]=,:\"#~<>-+*/.@';\\&%$!?`", "->", "<=", "==", "!=", " let ", " until ", " with ", " when ", " else ",
    " as ", " use ", " dsl 1 ", " over ", " by ", " and ", " or ", " not ", " in ", " true ", " false ", " raw.",
    "0", "1e999", "-1", "00", '""', 'r"', "r\"\\\"", "{}", "[]", "()", "[1: 2]", "sample", "greedy", "eos",
    "entropy", "step", " | ",
    "top_p(", "\n", "\t", "\r", "\x00", "\x1b", "\ufeff", "\u00a0", "\u2028", "\ud800", "é", "日", "😀", "“", "−", "→",
    "\u0663", "²", "ℵ", "\u202e", "\u0300", "\x85", "\x0b", "\x0c", "\U0010ffff", "True", "None", "null", "nan", "inf",
]  # fmt: skip
JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "a", "eos",
    "top_k@2", "top_p", "when", "sample", "\ud800", "greedy | sample", "entropy < 0.5", "dsl 1\nlet main = sample", [],
    {}, [[]], {"expr": "entropy"}, {"expr": ""}, {"expr": "{"}, {"regex": "("}, {"regex": "a"}, {"pipeline": []},
    {"ramp": [0, 1], "over": 3}, {"ramp": [0], "over": 3}, {"ramp": [0, 1], "over": 0, "by": "nosuch"},
    {"stop": "eos@1"}, {"any": []}, {"all": [{"stop": "eos@1"}]}, {"not": "eos"}, {"stage": "top_k@1"},
    {"stage": "when@1"},
    {"weight": 1}, {1: 2}, {None: 1}, {"": 1}, ["sample"], [{"sample": None}], [{"top_p": {"p": 0.5}}], (),
    "x" * 300, b"bytes",
    {"args": {}},
]  # fmt: skip
KEYS = "dsl main pipeline stage args block blocks as weight until with any all not stop expr regex ramp over by use " \
       "let pack params test then else orelse when value p k heat.value temperature.value".split()  # fmt: skip


def tokens(text: str) -> list[str]:
    """The pieces of a text: words, strings, comments, blanks and single characters."""
    return TOKEN.findall(text)


def damaged(chance: Random, text: str, times: int) -> str:
    """``text`` after ``times`` mishaps."""
    for _ in range(times):
        text = chance.choice(MISHAPS)(chance, text)
    return text


def _drop(chance: Random, text: str) -> str:
    found = tokens(text)
    at = chance.randrange(len(found) + 1)
    return "".join(found[:at] + found[at + chance.choice([1, 1, 1, 2, 4]) :])


def _insert(chance: Random, text: str) -> str:
    found = tokens(text)
    found.insert(chance.randint(0, len(found)), chance.choice(INSERTED))
    return "".join(found)


def _swap(chance: Random, text: str) -> str:
    found = tokens(text)
    if len(found) > 1:
        a, b = chance.randrange(len(found)), chance.randrange(len(found))
        found[a], found[b] = found[b], found[a]
    return "".join(found)


def _repeat(chance: Random, text: str) -> str:
    found = tokens(text)
    a = chance.randint(0, len(found))
    b = min(len(found), a + chance.choice([1, 1, 2, 5, 20]))
    return "".join(found[:b] + found[a:b] * chance.choice([1, 1, 1, 3]) + found[b:])


def _noise(chance: Random, text: str) -> str:
    at, cut = chance.randint(0, len(text)), chance.randint(0, 3)
    added = "".join(
        chance.choice([chr(chance.randrange(0x80)), chance.choice(INSERTED)]) for _ in range(chance.randint(0, 3))
    )
    return text[:at] + added + text[at + cut :]


def _cut(chance: Random, text: str) -> str:
    return text[: chance.randint(0, len(text))] if chance.random() < 0.5 else text[chance.randint(0, len(text)) :]


def _bracket(chance: Random, text: str) -> str:
    opener, closer = chance.choice(["()", "[]", "{}", '""'])
    a = chance.randint(0, len(text))
    b = chance.randint(a, len(text))
    return text[:a] + opener + text[a:b] + closer + text[b:]


MISHAPS: list[Callable[[Random, str], str]] = [
    _drop,
    _drop,
    _insert,
    _insert,
    _swap,
    _repeat,
    _noise,
    _noise,
    _cut,
    _bracket,
]


def deep(chance: Random, inner: str, levels: int) -> str:
    """``inner`` or a leaf under many levels of one construct."""
    name = chance.choice(sorted(DEEP))
    return DEEP[name](inner, levels)


def _lets(inner: str, levels: int) -> str:
    lets = [f"let a0 = {inner}", *(f"let a{n} = when entropy < 1 {{ a{n - 1} }}" for n in range(1, levels))]
    return "\n".join(["dsl 1", *lets, f"let main = a{max(0, levels - 1)} | sample"])


def _lets_of_mixes(inner: str, levels: int) -> str:
    lets = ["let a0 = min_p(0.1)", *(f"let a{n} = mix(1: {{ a{n - 1} }}, 2: {{ a{n - 1} }})" for n in range(1, levels))]
    return "\n".join(["dsl 1", *lets, f"let main = a{max(0, levels - 1)} | sample"])


def _params(inner: str, levels: int) -> str:
    lets = ["let a0(t=1) = temperature(t)", *(f"let a{n}(t=1) = a{n - 1}(t=t + t)" for n in range(1, levels))]
    return "\n".join(["dsl 1", *lets, f"let main = a{max(0, levels - 1)} | sample"])


DEEP: dict[str, Callable[[str, int], str]] = {
    "blocks": lambda inner, n: "when entropy < 1 { " * n + inner + " }" * n + " | sample",
    "elses": lambda inner, n: "when step < 1 { top_k(1) } else " * n + "{ " + inner + " } | sample",
    "mixes": lambda inner, n: "mix(1: { " * n + inner + " })" * n + " | sample",
    "phases": lambda inner, n: "phases({ sample until eos }, { " * n + "sample" + " })" * n,
    "parentheses": lambda inner, n: "temperature(" + "(" * n + "0.5" + ")" * n + ") | sample",
    "minuses": lambda inner, n: "temperature(" + "-" * n + "entropy) | sample",
    "nots": lambda inner, n: "sample until " + "not " * n + "eos",
    "sums": lambda inner, n: "temperature(" + "entropy + " * n + "1) | sample",
    "right sums": lambda inner, n: "temperature(" + "1 - (" * n + "entropy" + ")" * n + ") | sample",
    "functions": lambda inner, n: "temperature(" + "max(1, " * n + "entropy" + ")" * n + ") | sample",
    "lists": lambda inner, n: "ban(" + "[" * n + "1" + "]" * n + ") | sample",
    "maps": lambda inner, n: "bias(" + "[1: " * n + "1" + "]" * n + ") | sample",
    "open": lambda inner, n: "when entropy < 1 { " * n + inner,
    "closed": lambda inner, n: inner + " }" * n,
    "tests": lambda inner, n: "sample until " + "(" * n + "eos" + " or eos) and step > 1" * n,
    "strings": lambda inner, n: 'sample until stop("' + '\\"' * n + '")',
    "comments": lambda inner, n: "".join(f"# {i} {{\n" for i in range(n)) + inner + " | sample",
    "lets": _lets,
    "lets of mixes": _lets_of_mixes,
    "parameters": _params,
}


def long(chance: Random, pieces: list[str], size: int) -> str:
    """Many of one thing: stages, alternatives, items, arguments, blanks."""
    piece = chance.choice(pieces)
    return {
        "stages": lambda: " | ".join([piece] * size) + " | sample",
        "tests": lambda: (
            "sample until " + chance.choice([" or ", " and "]).join(["eos", "max_tokens(3)", "step > 2"] * size)
        ),
        "ids": lambda: f"ban({', '.join(map(str, range(size)))}) | sample",
        "pairs": lambda: f"bias([{', '.join(f'{i}: {i}' for i in range(size))}]) | sample",
        "strings": lambda: "sample until stop(" + ", ".join(['"abc"'] * size) + ")",
        "string": lambda: f'sample until stop("{"ab " * size}")',
        "digits": lambda: f"temperature({'1' * size}) | sample",
        "decimals": lambda: f"temperature(0.{'1' * size}) | sample",
        "name": lambda: f"{'a' * size} | sample",
        "blanks": lambda: " \n" * size + "sample" + "\t" * size,
        "sum": lambda: f"temperature({'1 + ' * size}1) | sample",
        "product": lambda: f"temperature({'entropy * ' * size}1) | sample",
        "lets": lambda: "dsl 1\n" + "".join(f"let a{i} = top_k({i})\n" for i in range(size)) + "let main = sample",
        "patches": lambda: "temperature(1) | sample with " + ", ".join([f"temperature.value={i}" for i in range(size)]),
        "quotes": lambda: '"' * size,
        "pattern": lambda: f'sample until stop_regex(r"{"(a|b)" * size}")',
    }[chance.choice(LONG)]()


LONG = """
    stages tests ids pairs strings string digits decimals name blanks sum product lets patches quotes pattern
""".split()


# -- mappings ----------------------------------------------------------------------------------------------------------


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every part of a document."""
    if path:
        yield path
    if isinstance(node, dict):
        for key in node:
            yield from places(node[key], (*path, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from places(item, (*path, index))


def damaged_document(chance: Random, document: Any, times: int) -> Any:
    """A copy with ``times`` parts replaced, lost, renamed, moved or repeated."""
    made = copy.deepcopy(document)
    for _ in range(times):
        found = list(places(made)) if isinstance(made, dict | list) else []
        if not found:
            return made
        *outer, key = chance.choice(found)
        holder = made
        for part in outer:
            holder = holder[part]
        _change(chance, made, holder, key, found)
    return made


def _change(chance: Random, whole: Any, holder: Any, key: Any, found: list[tuple[Any, ...]]) -> None:
    roll = chance.random()
    if roll < 0.45:
        holder[key] = copy.deepcopy(chance.choice(JUNK))
    elif roll < 0.6:
        del holder[key]
    elif roll < 0.75 and isinstance(holder, dict):
        holder[chance.choice(KEYS)] = holder.pop(key)
    elif roll < 0.85 and isinstance(holder, list):
        holder.insert(chance.randint(0, len(holder)), copy.deepcopy(holder[key]))
    elif roll < 0.95 and isinstance(holder, dict):
        holder[chance.choice(KEYS)] = copy.deepcopy(chance.choice(JUNK))
    else:
        other = whole
        for part in chance.choice(found):
            other = other[part]
        holder[key] = copy.deepcopy(other)


def shorter(chance: Random, document: Any) -> Any:
    """The document with some of its parts in the short form that people write."""
    if isinstance(document, list):
        return [shorter(chance, item) for item in document]
    if not isinstance(document, dict):
        return document
    made = {key: shorter(chance, value) for key, value in document.items()}
    name = made.get("stage", made.get("stop"))
    if not isinstance(name, str) or chance.random() < 0.5:
        return made
    plain, args = name.partition("@")[0], made.get("args")
    rest = {key: value for key, value in made.items() if key not in ("stage", "stop", "args")}
    if plain == "when":
        return {"when": rest.pop("test", None), **rest}
    if args is None and not rest and "stage" in made:
        return plain
    return {plain: args, **rest}
