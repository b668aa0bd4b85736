"""Patches and overrides: what they name, what they change, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from logitmill.core.dsl.read import parse_value
from logitmill.core.errors import StrategyError
from logitmill.core.patch import patched
from logitmill.core.strategy import Strategy


def run(text: str, overrides: dict[str, Any] | None = None) -> str:
    return patched(Strategy.parse(text), overrides).to_text()


def test_by_label_by_name_and_in_until() -> None:
    text = "temperature(0.8) as heat | temperature(0.9) | top_p(0.9) | sample until eos or max_tokens(3)"
    assert run(text, {"heat.value": 0.5, "top_p.p": 0.7, "max_tokens.n": 9, "sample.seed": 4}) == (
        "temperature(0.5) as heat | temperature(0.9) | top_p(0.7) | sample(seed=4) until eos or max_tokens(9)"
    )


def test_inside_blocks() -> None:
    text = "when entropy < 1 { temperature(0.5) as a | greedy } else { top_p(0.9) | sample }"
    assert run(text, {"a.value": 2, "top_p.p": 0.5}) == (
        "when entropy < 1 { temperature(2.0) as a | greedy } else { top_p(0.5) | sample }"
    )
    assert run("mix(0.5: { top_k(3) }, 0.5: {}) | sample", {"top_k.k": 7}).startswith("mix(0.5: { top_k(7) }, 0.5: {})")
    assert run("best_of(3) { top_k(3) | sample }", {"top_k.k": 7, "best_of.n": 2}) == "best_of(2) { top_k(7) | sample }"


def test_order_inner_patches_then_own_then_overrides() -> None:
    text = "when entropy < 1 { top_k(1) | greedy with top_k.k=2 } else { sample } with top_k.k=3"
    assert "top_k(3)" in run(text)
    assert "top_k(4)" in run(text, {"top_k.k": 4})
    assert "top_k(5)" in run("top_k(1) | sample with top_k.k=4, top_k.k=5")


def test_written_values_are_read_as_the_field_takes_them() -> None:
    assert run("temperature(1) | sample", {"temperature.value": parse_value("1.2 -> 0.6 over 64 by cosine")}) == (
        "temperature(1.2 -> 0.6 over 64 by cosine) | sample"
    )
    assert run(r"ban(1) | sample", {"ban.tokens": parse_value(r'["a", r"\d"]')}) == r'ban("a", r"\d") | sample'


def test_the_strategy_itself_is_left_as_it_was() -> None:
    strategy = Strategy.parse("temperature(0.8) | sample with temperature.value=0.5")
    text = strategy.to_text()
    assert patched(strategy).patches == ()
    assert strategy.to_text() == text
    same = Strategy.parse("temperature(0.8) | sample")
    assert patched(same) == same


@pytest.mark.parametrize("value", [math.nan, -math.inf, 2**64, [1, math.nan], {5: math.inf}, (("a", -(2**64)),)])
def test_a_value_that_no_text_could_hold_is_refused_when_it_is_given(value: Any) -> None:
    strategy = Strategy.parse("temperature(0.8) | bias([1: 2]) | sample")
    for path in ("temperature.value", "bias.amounts"):
        for use in (strategy.with_, lambda overrides: patched(strategy, overrides)):
            with pytest.raises(StrategyError, match=f"'{path}' cannot be set to ") as caught:
                use({path: value})
            assert caught.value.code == "number"


@pytest.mark.parametrize("value", [0, 1e300, 2**64 - 1, True, [1, 2.5], {5: -2}, "text"])
def test_other_values_are_kept_until_the_stage_sees_them(value: Any) -> None:
    assert Strategy.parse("temperature(0.8) | sample").with_({"temperature.value": value}).patches[0].value == value


@pytest.mark.parametrize("overrides", [None, 3, [("a.b", 1)], {1: 1}, "a.b=1"])
def test_what_are_no_paths_and_values(overrides: Any) -> None:
    with pytest.raises(StrategyError, match="overrides are paths and values") as caught:
        Strategy.parse("temperature(0.8) | sample").with_(overrides)
    assert caught.value.code == "patch"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"heat.value": 1}, "no stage 'heat'"),
        ({"temperature.value": 1}, "2 stages"),
        ({"top_p.q": 1}, "no argument 'q'"),
        ({"top_p.p": 1.5}, "at most 1"),
        ({"top_p.p": "x"}, "number"),
        ({"top_p.p": parse_value('"x"')}, "takes a number"),
        ({"p": 1}, "no path"),
    ],
)
def test_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError, match=message) as caught:
        run("temperature(0.8) | temperature(0.9) | top_p(0.9) | sample", overrides)
    assert next(iter(overrides)) in str(caught.value)
