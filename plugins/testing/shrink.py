"""Shrinking: from a case at which a law fails to the smallest one near it at which it still does.

Greedy: a smaller case is taken as soon as it fails, until none of those tried does. Smaller is fewer rows, fewer tokens
before, fewer columns, then simpler numbers; every step lowers ``size``, so it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from .cases import Case, digits

TRIES = 1500
MOST = 3.4e38  # of a float32
Rows = tuple[tuple[float, ...], ...]


def smallest(case: Case, fails: Callable[[Case], bool], tries: int = TRIES) -> Case:
    """The smallest case found at which ``fails`` holds; ``case`` itself is one."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in candidates(case):
            if size(candidate) >= size(case) or not possible(candidate):
                continue
            tries -= 1
            if tries < 0:
                return case
            if fails(candidate):
                case, smaller = candidate, True
                break
    return case


def possible(case: Case) -> bool:
    """Whether a model could have given it: in each row a token is left."""
    return all(any(value > -math.inf for value in row) for row in case.logits)


def size(case: Case) -> tuple[float, ...]:
    """What shrinking lowers, the most important first."""
    tokens = [token for rows in (case.prompts, case.outputs) for row in rows for token in row]
    numbers = [value for row in case.logits for value in row]
    return (
        case.rows,
        len(tokens) + case.steps,
        case.vocab,
        len(case.eos),
        sum(math.isinf(value) for value in numbers),
        sum(value != math.trunc(value) for value in numbers if math.isfinite(value)),
        len(set(numbers)),
        sum(digits(value) for value in numbers if math.isfinite(value)),
        sum(tokens) + sum(case.seeds),
        sum(abs(value) for value in numbers if math.isfinite(value)),
        sum(value < 0 for value in numbers),
        sum(place for row in case.logits for place, value in enumerate(row) if value),
    )


def candidates(case: Case) -> Iterator[Case]:
    """Cases to try next, those that leave out most first."""
    yield from _fewer_rows(case)
    yield from _fewer_tokens(case)
    yield from _fewer_columns(case)
    yield from _simpler(case)


def _fewer_rows(case: Case) -> Iterator[Case]:
    rows = range(case.rows)
    if case.rows > 1:
        yield from (case.select([i]) for i in rows)
    if case.rows > 2:
        yield from (case.select([i, j]) for i in rows for j in rows if i < j)
        yield from (case.select([i for i in rows if i != gone]) for gone in rows)


def _fewer_tokens(case: Case) -> Iterator[Case]:
    empty = ((),) * case.rows
    yield replace(case, prompts=empty, outputs=empty, steps=min(case.steps, 1))
    yield replace(case, prompts=empty)
    yield replace(case, outputs=empty)
    yield from (replace(case, steps=fewer) for fewer in range(case.steps))
    for name in ("prompts", "outputs"):
        rows: tuple[tuple[int, ...], ...] = getattr(case, name)
        for i, row in enumerate(rows):
            for shorter in _shorter(row):
                yield replace(case, **{name: (*rows[:i], shorter, *rows[i + 1 :])})  # type: ignore[arg-type]


def _shorter(row: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    half = len(row) // 2
    if half:
        yield row[:half]
        yield row[half:]
    yield from (row[:i] + row[i + 1 :] for i in range(len(row)))


def _fewer_columns(case: Case) -> Iterator[Case]:
    columns, width = list(range(case.vocab)), case.vocab
    while width > 1:
        width = (width + 1) // 2
        for start in range(0, case.vocab, width):
            kept = columns[:start] + columns[start + width :]
            if kept and len(kept) < case.vocab:
                yield _with_columns(case, kept)
        if width == 1:
            return


def _with_columns(case: Case, kept: list[int]) -> Case:
    """The case over some of its columns. Tokens keep their logits; those whose column goes become the last before."""
    place = {column: i for i, column in enumerate(kept)}
    lower = [max([place[k] for k in kept if k <= column], default=0) for column in range(case.vocab)]

    def move(row: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(lower[min(token, case.vocab - 1)] for token in row)

    return replace(
        case,
        logits=tuple(tuple(row[column] for column in kept) for row in case.logits),
        prompts=tuple(map(move, case.prompts)),
        outputs=tuple(map(move, case.outputs)),
        eos=tuple(dict.fromkeys(move(case.eos))),
    )


def _simpler(case: Case) -> Iterator[Case]:
    yield replace(case, eos=())
    yield replace(case, seeds=tuple(range(case.rows)))
    yield replace(case, logits=_every(case.logits, lambda value: 0.0))
    yield replace(case, logits=_every(case.logits, lambda value: value if math.isinf(value) else float(round(value))))
    yield replace(case, logits=_every(case.logits, lambda value: value if math.isinf(value) else float(int(value / 2))))
    for i, row in enumerate(case.logits):
        yield from (_with_row(case, i, (value,) * len(row)) for value in sorted(set(row)))
        for j, value in enumerate(row):
            for simple in _simple(value):
                yield _with_row(case, i, (*row[:j], simple, *row[j + 1 :]))
            if j and value != row[j - 1]:
                yield _with_row(case, i, (*row[: j - 1], value, row[j - 1], *row[j + 1 :]))
                yield _with_row(case, i, (*row[:j], row[j - 1], *row[j + 1 :]))
    for name in ("prompts", "outputs"):
        rows: tuple[tuple[int, ...], ...] = getattr(case, name)
        for i, tokens in enumerate(rows):
            for j, token in enumerate(tokens):
                for lower in {0, token // 2, token - 1} - {token, -1}:
                    changed_row = (*tokens[:j], lower, *tokens[j + 1 :])
                    yield replace(case, **{name: (*rows[:i], changed_row, *rows[i + 1 :])})  # type: ignore[arg-type]


def _with_row(case: Case, row: int, logits: tuple[float, ...]) -> Case:
    return replace(case, logits=(*case.logits[:row], logits, *case.logits[row + 1 :]))


def _every(logits: Rows, change: Callable[[float], float]) -> Rows:
    return tuple(tuple(map(change, row)) for row in logits)


def _simple(value: float) -> Iterator[float]:
    """Simpler numbers in place of one."""
    yield 0.0
    if math.isinf(value):
        return
    yield from (1.0, -1.0)
    if value != math.trunc(value):
        yield float(round(value))
        yield float(math.trunc(value))
    if abs(value) >= 10:
        yield from _rounder(value)
    if abs(value) > 1:
        yield float(math.trunc(value / 2))
        yield math.copysign(abs(value) - 1, value)
        yield abs(value)


def _rounder(value: float) -> Iterator[float]:
    """Numbers near it with one digit that counts, and smaller ones of as few digits."""
    step = 10.0 ** math.floor(math.log10(abs(value)))
    near = (math.floor(value / step) * step, math.ceil(value / step) * step)
    for other in (*near, math.copysign(abs(value) - step, value), value / 10):
        if abs(other) < MOST:
            yield other


__all__ = ["candidates", "possible", "size", "smallest"]
