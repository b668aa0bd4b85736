"""Laws of what a stage says of itself, and of how it is written."""

from __future__ import annotations

import json
from typing import Any

from ....core.errors import StrategyError
from ....core.expression import Comparison, Constant, Expression, Pattern, Read
from ....core.loader import registry
from ....core.scalar import Ramp
from ....core.stage import Schedule, Signal, Stage, StoppingCriterion
from ....core.strategy import Strategy
from ..cases import Case
from ..law import ANY, Breach, law
from ..subjects import everything, known

NEEDS = frozenset({"history", "text", "scores", "entropies", "hidden", "companions", "tokenizer"})


@law(ANY, needs_case=False)
def declared(stage: Stage, case: Case) -> Breach | None:
    """Its traits are known words, and its examples are in the language and name it."""
    cls = type(stage)
    if not cls.needs <= NEEDS:
        return Breach(f"needs are among {', '.join(sorted(NEEDS))}; got {', '.join(sorted(cls.needs - NEEDS))}")
    if not set(cls.identity_when) <= set(cls.model_fields):
        return Breach("identity_when names a field that it does not have")
    if cls.variadic is not None and cls.variadic not in cls.model_fields:
        return Breach("variadic names a field that it does not have")
    if cls.ranks_only and not cls.masks_only:
        return Breach("what is ranks_only is masks_only too: it says what is kept")
    return _examples(cls)


def _examples(cls: type[Stage]) -> Breach | None:
    with known(cls):
        for text in cls.examples:
            try:
                found = list(everything(text))
            except StrategyError as error:
                return Breach(f"its example {text!r} is not in the language: {error.message}")
            if not any(isinstance(stage, cls) for stage in found):
                return Breach(f"its example {text!r} does not name it")
    return None


@law(ANY, needs_case=False)
def spelling(stage: Stage, case: Case) -> Breach | None:
    """Text to object to JSON to text is the same again."""
    with known(type(stage)):
        strategy = strategy_around(stage)
        text = strategy.to_text()
        again = Strategy.parse(text)
        if again != strategy:
            return Breach(f"{text!r} is read as {again.to_text()!r}, which is another stage")
        document = json.loads(json.dumps(strategy.to_dict()))
        other = Strategy.from_dict(document)
        if other != strategy or other.to_text() != text:
            return Breach(f"{text!r} comes back from its JSON as {other.to_text()!r}")
        if again.hash != strategy.hash:
            return Breach(f"{text!r} has another hash when it is read again")
    return None


def strategy_around(stage: Stage) -> Strategy:
    """A strategy in which a stage of any kind stands."""
    if isinstance(stage, StoppingCriterion):
        return Strategy.of(registry().stage("greedy")).until(stage)
    if isinstance(stage, Signal):
        return Strategy.of(registry().stage("greedy")).until(condition_on(stage))
    if isinstance(stage, Schedule):
        return Strategy.of(registry().stage("temperature", Ramp(1.5, 0.5, 8, stage)))
    return Strategy.of(stage)


def condition_on(signal: Any) -> Expression:
    """A truth that reads a signal."""
    read = Read(signal)
    if signal.value_kind == "truth":
        return read
    if signal.value_kind == "text":
        return Comparison("~", read, Constant(Pattern("a")))
    return Comparison(">", read, Constant(0.5))


__all__ = ["condition_on", "declared", "spelling", "strategy_around"]
