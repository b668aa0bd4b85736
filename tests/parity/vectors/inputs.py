"""Inputs that both sides can make by themselves, so that the files hold answers and not numbers.

Standard library alone: record.py runs it beside llama.cpp, the test beside torch. Every number comes from integers by
operations that IEEE 754 rounds exactly, so it is the same float32 everywhere.

Logits are written as a list:

    ["normal", v, seed, scale]     near enough a normal distribution: four uniform numbers, centred, times scale
    ["grid", v, seed, step]        multiples of step in [-8 step, 8 step): many ties
    ["holes", v, seed, scale]      normal, with three tenths of the tokens removed (-inf), never token 0
    ["flat", v, value]             all the same
    ["peak", v, id, height]        0 but for one token
    ["stairs", v, step]            0, -step, -2 step ...
    ["values", [x, ...]]           these; "-inf" is removed

A history is a list of token ids, in which [[ids], n] stands for those ids n times.
"""

from __future__ import annotations

import functools
import json
import math
from array import array
from collections.abc import Iterator
from typing import Any


def uniform(seed: int) -> Iterator[float]:
    """Numbers in [0, 1) of 24 bits: the upper ones of Knuth's 64-bit linear congruential generator (MMIX)."""
    state = (seed * 2654435761 + 1) % 2**64
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 40) / 2**24


def integers(n: int, seed: int, below: int) -> list[int]:
    """n whole numbers in [0, below)."""
    numbers = uniform(seed)
    return [int(next(numbers) * below) for _ in range(n)]


def logits(spec: list[Any]) -> array[float]:
    """The float32 logits that ``spec`` stands for."""
    return _made(json.dumps(spec))


@functools.lru_cache(4096)
def _made(written: str) -> array[float]:
    kind, *arguments = json.loads(written)
    return array("f", _KINDS[kind](*arguments))


def _normal(v: int, seed: int, scale: float) -> list[float]:
    numbers = uniform(seed)
    return [(next(numbers) + next(numbers) + next(numbers) + next(numbers) - 2.0) * 1.75 * scale for _ in range(v)]


def _grid(v: int, seed: int, step: float) -> list[float]:
    return [(number - 8) * step for number in integers(v, seed, 16)]


def _holes(v: int, seed: int, scale: float) -> list[float]:
    gone = integers(v, seed + 1, 10)
    return [-math.inf if i and gone[i] < 3 else x for i, x in enumerate(_normal(v, seed, scale))]


def _flat(v: int, value: float) -> list[float]:
    return [value] * v


def _peak(v: int, at: int, height: float) -> list[float]:
    return [height if i == at else 0.0 for i in range(v)]


def _stairs(v: int, step: float) -> list[float]:
    return [-i * step for i in range(v)]


def _values(numbers: list[float | str]) -> list[float]:
    return [float(x) for x in numbers]


_KINDS: dict[str, Any] = {
    "normal": _normal,
    "grid": _grid,
    "holes": _holes,
    "flat": _flat,
    "peak": _peak,
    "stairs": _stairs,
    "values": _values,
}


def history(spec: list[Any]) -> list[int]:
    """The token ids that ``spec`` stands for."""
    tokens: list[int] = []
    for part in spec:
        tokens.extend([part] if isinstance(part, int) else part[0] * part[1])
    return tokens
