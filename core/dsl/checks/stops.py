"""Stop tests: what they cover twice, never meet, or leave unbounded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ...errors import Where
from ...expression import Comparison, Constant, Logic, Read
from ...stage import Combinator, Search, StoppingCriterion
from ...strategy import AllOf, AnyOf, Not, Strategy, Test
from .intervals import FLIPPED
from .reading import Pipe, Reading, everything, least
from .removal import Removal
from .warning import Found, StrategyWarning

_REGIONS = ("within", "thinking_budget", "budget")


def stops(reading: Reading) -> Found:
    """Everything about how rows end."""
    yield from _covered(reading, reading.strategy)
    for pipe in reading.pipes:
        removal = Removal(pipe, reading.vocab)
        yield from _unreachable(reading, pipe, removal)
        yield from _regions(reading, pipe, removal)
    yield from _minima(reading, reading.strategy, math.inf, math.inf, 0)
    if reading.strategy.complete and not bounded(reading.strategy):
        endless = _endless(reading.strategy)
        hint = "add 'until eos or max_tokens(512)'" if endless.stop is None else "add 'or max_tokens(512)' to its until"
        yield StrategyWarning("no-bound", "nothing bounds the length", _end(endless), hint)


def _endless(strategy: Strategy) -> Strategy:
    """What to bound of a strategy without a bound: the first of its phases that has none, else itself."""
    last = strategy.pipeline[-1].stage
    if isinstance(last, Combinator) and last.sequential:
        return _endless(next(block for block in last.children() if not bounded(block)))
    return strategy


def _end(strategy: Strategy) -> Where | None:
    last = strategy.pipeline[-1].where if strategy.pipeline else None
    return last or strategy.where


# -- twice -------------------------------------------------------------------------------------------------------------


def _covered(reading: Reading, strategy: Strategy) -> Found:
    if isinstance(strategy.stop, AnyOf) and not isinstance(strategy.stop, AllOf | Not):
        tests: Any = strategy.stop.tests
        if any(getattr(test, "stage_name", None) == "eos" for test in tests):
            for test in tests:
                strings = getattr(test, "strings", ())
                place = next((i for i, text in enumerate(strings) if text in reading.eos), None)
                if place is not None:
                    where = reading.at_test(test, strategy, "strings", place)
                    message = f"'eos' already stops at {strings[place]!r}"
                    yield StrategyWarning("stop-is-eos", message, where, "take the string away")
    for child in strategy.children():
        yield from _covered(reading, child)


# -- never -------------------------------------------------------------------------------------------------------------


def _unreachable(reading: Reading, pipe: Pipe, removal: Removal) -> Found:
    strategy = pipe.strategy
    for leaf in _plain(strategy.stop):
        if leaf.stage_name in ("eos", "stop_ids"):
            ids = getattr(leaf, "ids", ())
            step = removal.of_ids(ids) if ids else removal.of_ends()
            if step is not None:
                message = f"'{leaf.stage_name}' never comes true: '{step.stage.stage_name}' removes its tokens"
                hint = "allow them too" if step.stage.stage_name == "allow" else "take one of the two away"
                yield StrategyWarning("unreachable-stop", message, reading.at_test(leaf, strategy), hint)
        for place, text in enumerate(getattr(leaf, "strings", ())):
            why = _never_written(reading, removal, text, most(strategy.stop))
            if why:
                where = reading.at_test(leaf, strategy, "strings", place)
                yield StrategyWarning("unreachable-stop", f"the text never has {text!r}: {why[0]}", where, why[1])


def _plain(test: Test | None) -> Iterator[StoppingCriterion]:
    """The criteria of a stop test that end the row by coming true."""
    if isinstance(test, AnyOf) and not isinstance(test, Not):
        for part in test.tests:
            yield from _plain(part)
    elif isinstance(test, StoppingCriterion):
        yield test


def _never_written(reading: Reading, removal: Removal, text: str, cap: float) -> tuple[str, str] | None:
    """Why a text cannot come, and what to do; None where it may."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "it has half of a surrogate pair", "write the whole character"
    vocab = reading.vocab
    specials = reading.eos if vocab is None else {vocab.texts[i] for i in vocab.special_ids if i < vocab.size}
    inside = next((special for special in sorted(specials) if special and special in text and special != text), None)
    if inside is not None:
        return f"it does not show the special token {inside!r}", f"stop at {inside!r} alone, or at what is around it"
    if vocab is None or text in specials:
        return None
    fewest = removal.visible.fewest(text.encode("utf-8"))
    if fewest is None:
        return "no tokens that may come make it", "look at its characters, and at what the pipeline bans"
    if fewest > cap:
        return f"it takes {fewest} tokens, and a row has {cap:g}", "raise the bound on the length"
    return None


def _regions(reading: Reading, pipe: Pipe, removal: Removal) -> Found:
    for step, part in everything(pipe.strategy):
        marker = getattr(part, "open", None)
        if getattr(part, "stage_name", None) not in _REGIONS or marker is None:
            continue
        why = _never_opened(reading, removal, marker)
        if why:
            otherwise = pipe.strategy.where if step is None else reading.at(step)
            where = reading.at_part(part, "open", otherwise)
            message = f"only a prompt can open this region: {why}"
            yield StrategyWarning("region-never-opens", message, where, "look at its opening marker")


def _never_opened(reading: Reading, removal: Removal, marker: int | str) -> str | None:
    vocab = reading.vocab
    if isinstance(marker, int):
        if vocab is not None and marker >= vocab.size:
            return f"the vocabulary of {vocab.size} has no token {marker}"
        step = removal.of_ids([marker])
    else:
        step = removal.of_text(marker)
        if step is None and vocab is not None and removal.whole.fewest(marker.encode("utf-8", "replace")) is None:
            return f"no tokens that may come make {marker!r}"
    return None if step is None else f"'{step.stage.stage_name}' removes {marker!r}"


# -- bounds ------------------------------------------------------------------------------------------------------------


def _minima(reading: Reading, strategy: Strategy, cap: float, whole: float, start: float) -> Found:
    """``cap``: how many tokens the row has at most, ``whole`` with its prompt; ``start``: how many came at most before
    this began.
    """
    cap = min(cap, start + _longest(strategy))
    whole = min(whole, most(strategy.stop, prompt=True))
    for step in strategy.pipeline:
        stage = step.stage
        n = least(getattr(stage, "n", None)) if stage.stage_name == "min_tokens" else None
        bound = cap if getattr(stage, "over", "output") == "output" else whole
        if n is not None and n > bound:
            message = f"min_tokens({n:.0f}) holds the end back for longer than the {bound:.0f} tokens a row has"
            yield StrategyWarning("min-above-max", message, reading.at(step, "n"), "lower it, or raise the bound")
        if isinstance(stage, Combinator | Search):
            begins = start
            for block in stage.children():
                yield from _minima(reading, block, cap, whole, begins)
                if getattr(stage, "sequential", False):
                    begins += _longest(block)


def _longest(strategy: Strategy) -> float:
    """The most tokens that a row of it gets."""
    last = strategy.pipeline[-1].stage if strategy.pipeline else None
    inner = math.inf
    if isinstance(last, Search):
        inner = min(map(_longest, last.children()), default=math.inf)
    elif isinstance(last, Combinator) and last.sequential:
        inner = sum(map(_longest, last.children()))
    return min(most(strategy.stop), inner)


def most(test: Test | None, *, prompt: bool = False) -> float:
    """The most tokens that come before a stop test holds; with ``prompt`` the most that there are, its own included."""
    match test:
        case None | Not():
            return math.inf
        case AllOf() | Logic(op="and"):
            return max((most(part, prompt=prompt) for part in _parts(test)), default=math.inf)
        case AnyOf() | Logic(op="or"):
            return min((most(part, prompt=prompt) for part in _parts(test)), default=math.inf)
        case StoppingCriterion(stage_name="max_tokens" | "max_length"):
            counted = not prompt or test.stage_name == "max_length"
            return float(getattr(test, "n", math.inf)) if counted else math.inf
        case Comparison() if (found := _reached(test)) is not None:
            signal, number = found
            return number if not prompt or signal == "position" else math.inf
    return math.inf


def _reached(test: Comparison) -> tuple[str, float] | None:
    """Of step >= 64 and its like: the signal, and the count from which on it holds. None for any other comparison."""
    op, read, number = test.op, test.left, test.right
    if isinstance(read, Constant):
        op, read, number = FLIPPED.get(op, op), number, read
    if op not in (">", ">=") or not isinstance(read, Read) or read.signal.stage_name not in ("step", "position"):
        return None
    if not isinstance(number, Constant) or not isinstance(number.value, int | float):
        return None
    return read.signal.stage_name, max(1.0, math.floor(number.value) + 1.0 if op == ">" else math.ceil(number.value))


def _parts(test: Any) -> tuple[Any, ...]:
    parts: tuple[Any, ...] = test.items if isinstance(test, Logic) else test.tests
    return parts


def bounded(strategy: Strategy) -> bool:
    """Whether a row of it surely ends."""
    if strategy.stop is not None and _bounds(strategy.stop):
        return True
    last = strategy.pipeline[-1].stage if strategy.pipeline else None
    if isinstance(last, Search):
        return any(bounded(block) for block in last.children())
    if isinstance(last, Combinator) and last.sequential:
        return all(bounded(block) for block in last.children())
    return False


def _bounds(test: Test) -> bool:
    match test:
        case Not():
            return False
        case AllOf() | Logic(op="and"):
            return all(_bounds(part) for part in _parts(test))
        case AnyOf() | Logic(op="or"):
            return any(_bounds(part) for part in _parts(test))
        case StoppingCriterion():
            return test.finish_reason == "length" and test.stage_name not in _REGIONS  # which bound a region alone
        case Comparison():
            return _reached(test) is not None
    return False


__all__ = ["bounded", "most", "stops"]
