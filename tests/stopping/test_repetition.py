"""Loops: by hand, against their definition, and while a model runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError


def loops(bench: Any, outputs: list[list[int]], *args: Any, prompt: Any = ()) -> list[bool]:
    dist = Dist(torch.zeros(len(outputs), 9))
    return bench.run(bench.stage("loop", *args), dist, bench.context(dist, prompt, outputs))[:, 0].tolist()


@pytest.mark.parametrize(
    ("output", "n", "times", "holds"),
    [
        ([], 3, 2, False),
        ([7], 3, 2, False),
        ([7, 7], 3, 2, True),  # a single token counts as a sequence of one
        ([7, 7], 3, 3, False),
        ([7, 7, 7], 1, 3, True),
        ([1, 2, 1, 2], 3, 2, True),
        ([1, 2, 1, 2], 1, 2, False),
        ([1, 2, 1, 2, 1], 3, 2, True),  # 2 1 2 1
        ([1, 2, 1, 2, 3], 3, 2, False),  # it has ended
        ([5, 1, 2, 3, 1, 2, 3], 3, 2, True),
        ([5, 1, 2, 3, 1, 2, 3], 2, 2, False),
        ([1, 2, 3, 1, 2, 3], 3, 3, False),
        ([2, 3, 1, 2, 3, 1, 2, 3], 3, 3, False),  # eight of nine
        ([1, 2, 3, 1, 2, 3, 1, 2, 3], 3, 3, True),
        ([1, 2, 3, 1, 2, 4, 1, 2, 3], 3, 2, False),
    ],
)
def test_by_hand(bench: Any, output: list[int], n: int, times: int, holds: bool) -> None:
    assert loops(bench, [output], n, times) == [holds]


def test_the_prompt_is_no_part_of_it(bench: Any) -> None:
    prompts, outputs = [[7, 7, 7], [7], [1, 2, 1, 2], [0] * 30], [[7], [7, 7], [], [7, 7]]
    assert loops(bench, outputs, 3, 2, prompt=prompts) == [False, True, False, True]


def test_defaults(bench: Any) -> None:
    assert loops(bench, [[7] * 7, [7] * 8, [1, 2, 3] * 8, [*range(9)] * 7]) == [False, True, True, False]


@pytest.mark.parametrize("bad", [(0, 2), (3, 1), (3, 0), (1025, 2)])
def test_ranges(bench: Any, bad: tuple[int, int]) -> None:
    with pytest.raises(StrategyError):
        bench.stage("loop", *bad)


@given(
    outputs=st.lists(st.lists(st.integers(0, 2), max_size=14), min_size=1, max_size=4),
    n=st.integers(1, 5),
    times=st.integers(2, 4),
)
def test_is_its_definition(bench: Any, outputs: list[list[int]], n: int, times: int) -> None:
    wanted = [any(len(o) >= p * times and o[-p * times :] == o[-p:] * times for p in range(1, n + 1)) for o in outputs]
    assert loops(bench, outputs, n, times, prompt=[1, 1]) == wanted


def test_ends_a_row_that_runs_in_circles(make_engine: Any) -> None:
    """Alone, in a batch, with and without lookahead, and in a phase, whose loop is its own."""
    for lookahead in (False, True):
        engine = make_engine(lookahead=lookahead)
        a, b = engine.vocab.encode("ab")
        text = f"when step in [0, 1, 2] {{ allow({b}) }} else {{ allow({a}) }} | greedy until loop(2, 5)"
        other = "greedy until max_tokens(11)"
        alone = engine.generate("x", text)
        assert (alone.text, alone.finish_reason, alone.criterion) == ("bbbaaaaa", "stop", "loop")
        assert [o.text for o in engine.generate(["x", "yz", "x"], [text, other, text])][::2] == ["bbbaaaaa"] * 2
        phases = f"phases({{ allow({a}) | greedy until max_tokens(4) }}, {{ allow({a}) | greedy until loop(1, 3) }})"
        assert engine.generate("x", phases).text == "a" * 7
