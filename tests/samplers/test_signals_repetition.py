"""repetition_rate, by hand and against its definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError


def rates(bench: Any, outputs: list[list[int]], *args: Any, prompt: Any = ()) -> list[float]:
    dist = Dist(torch.zeros(len(outputs), 9))
    value = bench.run(bench.stage("repetition_rate", *args), dist, bench.context(dist, prompt, outputs))
    return [float(v) for v in value[:, 0]]


@pytest.mark.parametrize(
    ("output", "n", "window", "rate"),
    [
        ([], 1, 64, 0.0),
        ([3], 1, 64, 0.0),
        ([3, 3], 1, 64, 1 / 2),
        ([1, 2, 3, 1], 1, 64, 1 / 4),
        ([1, 1, 1, 1, 1], 1, 64, 4 / 5),
        ([1, 2, 1, 2], 2, 64, 1 / 3),  # 12 21 12
        ([1, 2, 1, 2], 3, 64, 0.0),  # 121 212
        ([1, 1, 1, 1], 3, 64, 1 / 2),
        ([1, 2], 3, 64, 0.0),  # no 3-gram yet
        ([5, 5, 5, 1, 2, 3], 1, 3, 0.0),  # what lies before the window does not count
        ([5, 5, 5, 1, 2, 2], 1, 3, 1 / 3),
        ([5, 1, 5], 1, 2, 0.0),
        ([5, 5], 1, 1, 0.0),
    ],
)
def test_by_hand(bench: Any, output: list[int], n: int, window: int, rate: float) -> None:
    assert rates(bench, [output], n, window) == [pytest.approx(rate)]


def test_defaults_and_ranges(bench: Any) -> None:
    signal = bench.stage("repetition_rate")
    assert (signal.n, signal.window) == (1, 64)
    assert rates(bench, [[7] * 200]) == [pytest.approx(63 / 64)]
    for bad in ((0, 4), (1, 0), (65, 100), (1, 1025)):
        with pytest.raises(StrategyError):
            bench.stage("repetition_rate", *bad)
    with pytest.raises(StrategyError, match="5-grams do not fit a window of 4 tokens"):
        bench.stage("repetition_rate", 5, 4)


def test_the_prompt_does_not_count(bench: Any) -> None:
    prompts, outputs = [[1, 1, 1], [], [2, 3], [4] * 50], [[1], [1, 1], [2, 3, 2, 3], []]
    assert rates(bench, outputs, prompt=prompts) == [0.0, 0.5, 0.5, 0.0]


@given(
    outputs=st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=4),
    n=st.integers(1, 3),
    more=st.integers(0, 6),
)
def test_is_its_definition(bench: Any, outputs: list[list[int]], n: int, more: int) -> None:
    wanted = []
    for output in outputs:
        recent = output[-(n + more) :]
        grams = [tuple(recent[i : i + n]) for i in range(len(recent) - n + 1)]
        wanted.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    assert rates(bench, outputs, n, n + more, prompt=[1, 2]) == pytest.approx(wanted, abs=1e-6)


def test_steers_a_row_out_of_a_loop(make_engine: Any) -> None:
    engine = make_engine()
    a, b = engine.vocab.encode("ab")
    steer = f"when repetition_rate(1, window=4) >= 0.75 {{ allow({b}) }} else {{ allow({a}) }}"
    assert engine.generate("xx", f"{steer} | greedy until max_tokens(10)").text == "aaaabaaaab"
    own = f"allow({a}) | greedy until"
    phases = f"phases({{ {own} max_tokens(3) }}, {{ {own} repetition_rate > 0.6 }})"
    assert engine.generate("xx", phases).text == "aaaaaa"  # the second phase looks at its own three
