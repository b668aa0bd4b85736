"""Laws of one kind each: what a criterion cuts, how a search ranks, where a schedule begins and ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from ....core.errors import StrategyError
from ....core.expression import Pattern
from ....core.stage import Schedule, Search, Stage, StoppingCriterion
from ..cases import Case
from ..law import Breach, law

PROSE = 'The cat sat. It said "no!" twice, twice, twice.\n\nUser: why? </think> 12 + 30 = 42\nyes yes yes yes. And on'
LONG = 512  # tokens that a row is tried with at most


@law(frozenset({"stopping criterion"}), needs_case=False)
def cuts(stage: Stage, case: Case) -> Breach | None:
    """A text is cut inside it, and where held() let nothing of it go yet."""
    assert isinstance(stage, StoppingCriterion)
    if not stage.reads_text():
        return None
    ctx = case.select([0]).context(case.select([0]).dist())
    for text in texts(stage):
        shown = 0  # characters that a stream has let go
        for size in range(1, len(text) + 1):
            sofar = text[:size]
            verdict = stage.check_text(sofar, ctx)
            if verdict is not None and not isinstance(verdict, bool | int):
                return Breach(f"check_text gives a place, a truth or None; of {sofar!r} it gives {verdict!r}")
            if verdict is True or (isinstance(verdict, int) and not isinstance(verdict, bool)):
                end = size if verdict is True else int(verdict)
                if not 0 <= end <= size:
                    return Breach(f"of {sofar!r}, {size} characters, it cuts at {end}")
                if end < shown:
                    return Breach(f"of {sofar!r} it cuts at {end}, when {shown} characters were let go already")
                break
            held = stage.held(sofar)
            if not 0 <= held <= size:
                return Breach(f"of {sofar!r}, {size} characters, it holds back {held}")
            shown = max(shown, size - held)
    return None


@law(frozenset({"stopping criterion"}))
def bounds(stage: Stage, case: Case) -> Breach | None:
    """A row has ended, by a test on tokens, when it has as many of them as most_tokens() says."""
    assert isinstance(stage, StoppingCriterion)
    for row in range(case.rows):
        alone = case.select([row])
        [prompt] = alone.prompts
        most = stage.most_tokens(len(prompt))
        if most is None:
            continue
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            return Breach(
                f"most_tokens gives a number of tokens or None; of a prompt of {len(prompt)} it gives {most!r}"
            )
        if not stage.reads_tokens() or most > LONG:
            continue
        full = replace(alone, outputs=(tuple(place % case.vocab for place in range(most)),))
        dist = full.dist()
        if not bool(stage.check(full.context(dist)).all()):
            return Breach(f"a row of {len(prompt)} tokens of prompt and {most} new ones, the most there are, goes on")
    return None


def texts(stage: Stage) -> Iterator[str]:
    """Prose with what the stage's own fields name in the middle and at the end."""
    yield PROSE
    for name in type(stage).model_fields:
        value = getattr(stage, name)
        for part in value if isinstance(value, tuple) else (value,):
            source = part.source if isinstance(part, Pattern) else part
            if isinstance(source, str) and source:
                yield f"A cat{source[:-1]}, {source} and on{source}"


@law(frozenset({"search"}), needs_case=False)
def ranking(stage: Stage, case: Case) -> Breach | None:
    """A search ranks each of its rows once, and the same when it is asked again."""
    assert isinstance(stage, Search)
    count = stage.expand()
    measures = len(stage.measures())
    for numbers in ([1.0] * count, [(7 * i) % 5 - 2.0 for i in range(count)], [math.nan, *range(count - 1)]):
        rows = [_ended(i, (float(number),) * measures) for i, number in enumerate(numbers)]
        order = stage.finish(rows)
        if sorted(order) != list(range(count)):
            return Breach(f"finish gives {order} of {count} rows")
        if stage.finish(rows) != order:
            return Breach(f"finish gives {order}, and {stage.finish(rows)} when it is asked again")
        parents = stage.advance(rows)
        if parents is not None and not (len(parents) == count and all(0 <= p < count for p in parents)):
            return Breach(f"advance gives the parents {parents} of {count} rows")
    return None


def _ended(number: int, measures: tuple[float, ...]) -> Any:
    """A row that has ended, as ``finish`` sees it."""
    return SimpleNamespace(
        tokens=[number, 2], text=f"{number % 2}", finish_reason="eos", measures=measures, error=None, score=-1.0
    )


@law(frozenset({"schedule"}), needs_case=False)
def ends(stage: Stage, case: Case) -> Breach | None:
    """A schedule begins at its start and ends at its end, each row by itself."""
    assert isinstance(stage, Schedule)
    fraction = torch.tensor([[0.0], [0.25], [0.5], [1.0]], dtype=torch.float64)
    for start, end in ((1.2, 0.6), (0.1, 0.7), (1.0, 1.0), (-2.0, -0.5), (-1.0, 1.0)):
        try:
            stage.check(start, end)
        except StrategyError:
            continue  # ends that it does not join
        value = stage.value(start, end, fraction)
        if [value[0].item(), value[-1].item()] != [start, end]:
            return Breach(f"from {start:g} to {end:g} it goes from {value[0].item()!r} to {value[-1].item()!r}")
        alone = torch.cat([stage.value(start, end, row[None]) for row in fraction])
        if not torch.allclose(alone, value, rtol=1e-12, atol=0):
            return Breach(
                f"from {start:g} to {end:g} it gives {value[:, 0].tolist()}, a row at a time {alone[:, 0].tolist()}"
            )
    return None


__all__ = ["bounds", "cuts", "ends", "ranking", "texts"]
