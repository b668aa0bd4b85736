"""Schedules: both ends exactly, and between them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.errors import StrategyError
from logitmill.core.loader import registry
from logitmill.core.scalar import Ramp

NAMES = sorted(registry().schedules)
numbers = st.floats(-1e6, 1e6)


def at(bench: Any, name: str, start: float, end: float, over: float, steps: list[int]) -> list[float]:
    return Ramp(start, end, over, bench.stage_of_schedule(name)).at(torch.tensor(steps)[:, None])[:, 0].tolist()


def test_values_by_hand(bench: Any) -> None:
    assert at(bench, "linear", 1.0, 3.0, 4, [0, 1, 2, 4, 9]) == [1.0, 1.5, 2.0, 3.0, 3.0]
    assert at(bench, "step", 1.0, 3.0, 4, [0, 3, 4, 9]) == [1.0, 1.0, 3.0, 3.0]
    assert at(bench, "cosine", 1.0, 3.0, 4, [0, 1, 2, 3, 4]) == pytest.approx(
        [1.0, 2 - math.sqrt(0.5), 2.0, 2 + math.sqrt(0.5), 3.0], abs=1e-6
    )
    assert at(bench, "exp", 1.0, 16.0, 4, [0, 1, 2, 3, 4, 5]) == pytest.approx([1, 2, 4, 8, 16, 16])
    assert at(bench, "exp", -8.0, -2.0, 2, [0, 1, 2]) == pytest.approx([-8, -4, -2])


@pytest.mark.parametrize("name", NAMES)
@given(start=numbers, end=numbers, over=st.integers(1, 1000))
def test_both_ends_are_exact_and_nothing_leaves_them(
    bench: Any, name: str, start: float, end: float, over: int
) -> None:
    try:
        values = at(bench, name, start, end, over, [0, over // 2, over, over + 7])
    except StrategyError:
        assert name == "exp"
        assert start * end <= 0
        return
    first, last = torch.tensor([start, end]).tolist()  # as float32
    assert values[0] == first
    assert values[2] == values[3] == last
    slack = 1e-5 * max(abs(start), abs(end))
    assert min(first, last) - slack <= values[1] <= max(first, last) + slack


def test_exp_joins_numbers_on_one_side_of_zero(bench: Any) -> None:
    for start, end in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)]:
        with pytest.raises(StrategyError, match="one side of 0"):
            Ramp(start, end, 5, bench.stage_of_schedule("exp"))
