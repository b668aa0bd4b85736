"""check on any strategy: it never raises, says the same of every spelling, and little of what is sensible."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitmill.core.dsl.check import CODES
from logitmill.core.errors import StrategyError
from logitmill.core.loader import registry
from logitmill.core.strategy import Strategy

#: what is to be said of the programs that the language is documented by, and nothing else
DOCUMENTED = {
    "classic": ["cut-after-temperature", "no-bound"],
    "greedy": [],
    "schedule": ["cut-after-temperature", "no-bound"],
    "entropy": ["cut-after-temperature", "no-bound"],
    "within": ["cut-after-temperature", "no-bound"],  # in one of its blocks; in the other 0.4 is no danger either way
    "rules": ["no-bound"],
    "mix": ["cut-after-temperature", "cut-after-temperature", "no-bound"],
    "speculative": ["cut-after-temperature"],
    "phases": ["no-bound"],
    "beam": [],
    "file": ["cut-after-temperature"],
}
#: programs that name what is not built yet -> its name
AWAITED = {"speculative": "speculative", "phases": "contrast", "beam": "beam", "file": "acme_samplers"}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_programs(documented: dict[str, str], name: str) -> None:
    if name in AWAITED:  # when it is there, this fails, and what check says of the program is held below
        with pytest.raises(StrategyError, match=f"'{AWAITED[name]}'"):
            Strategy.parse(documented[name])
        return
    found = {warning.code for warning in Strategy.parse(documented[name]).check()}
    assert found == set(DOCUMENTED[name])


def _examples() -> list[str]:
    """Every way in which a registered stage says it is written, as a whole strategy."""
    made = []
    for entry in registry().entries.values():
        for example in entry.load().examples:
            if entry.kind in ("logits processor", "combinator"):
                made.append(f"{example} | sample until max_tokens(4096)")
            elif entry.kind in ("sampler", "search"):
                made.append(f"{example} until max_tokens(4096)")
            elif entry.kind == "stopping criterion":
                made.append(f"sample until {example} or max_tokens(4096)")
            elif entry.kind == "signal":
                made.append(f"when {example} {{ top_k(9) }} | sample until max_tokens(4096)")
    made += [
        f"{example} | sample until max_tokens(4096)"
        for e in registry().schedules.values()
        for example in e.load().examples
    ]
    return made


@pytest.mark.parametrize("text", _examples())
def test_of_what_stages_show_of_themselves(text: str) -> None:
    """Examples are sensible, so little is to be said of them: of an order that is meant, of a dialect shown alone."""
    assert {warning.code for warning in Strategy.parse(text).check()} <= {"hidden-top-k", "cut-after-temperature"}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_never_raises_and_is_the_same_in_every_spelling(make_program: Callable[[Random], str], seed: int) -> None:
    text = make_program(Random(seed))
    try:
        strategy = Strategy.parse(text)
    except StrategyError:
        return
    found = strategy.check()
    assert {warning.code for warning in found} <= set(CODES)
    assert all(warning.where is not None and str(warning) for warning in found)
    codes = sorted(warning.code for warning in found)
    for other in (Strategy.from_dict(strategy.to_dict()), Strategy.parse(strategy.to_text())):
        assert sorted(warning.code for warning in other.check()) == codes
    assert strategy.check(ignore=sorted(set(codes))) == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_never_raises_with_a_tokenizer(make_program: Any, bench: Any, seed: int) -> None:
    text = make_program(Random(seed))
    try:
        strategy = Strategy.parse(text)
    except StrategyError:
        return
    without = {warning.code for warning in strategy.check()}
    with_one = {warning.code for warning in strategy.check(tokenizer=bench.tokenizer())}
    told = {"unreachable-stop", "region-never-opens", "constant-test", "stop-is-eos", "clamped"}
    assert without - told <= with_one
    assert with_one - told <= without
