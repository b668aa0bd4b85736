"""Sides in turn: who runs when, and what the seconds come to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from logitmill.core.errors import RequestError
from logitmill.plugins.bench.turns import Spread, in_turn

PROMPTS = [[1, 2], [3, 4]]


class Told:
    """A side that takes the seconds it was told to, and writes down each run."""

    def __init__(self, name: str, seconds: Sequence[float], rows: list[list[int]], log: list[tuple[str, int]]) -> None:
        self.name, self.seconds, self.rows, self.log = name, iter([99.0, *seconds]), rows, log

    def run(self, prompts: list[list[int]], tokens: int, seed: int) -> tuple[float, list[list[int]]]:
        self.log.append((self.name, seed))
        return next(self.seconds), self.rows


def test_every_side_warms_up_and_then_each_turn_runs_the_other_one_first():
    log: list[tuple[str, int]] = []
    rows = [[5, 6, 7], [5, 6, 7]]
    done = in_turn(
        [Told("a", [1.0, 2.0, 4.0], rows, log), Told("b", [3.0, 4.0, 4.0], rows, log)], PROMPTS, tokens=3, turns=3
    )
    assert log == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]
    assert done.seconds == [[1.0, 2.0, 4.0], [3.0, 4.0, 4.0]]  # the warm-ups' 99 seconds are not in them


def test_speeds_are_of_all_rows_together_and_a_ratio_is_of_one_turn():
    rows = [[5, 6, 7], [5, 6, 7]]
    done = in_turn([Told("a", [1.0, 2.0, 4.0], rows, []), Told("b", [3.0, 4.0, 4.0], rows, [])], PROMPTS, 3, 3)
    assert done.speed(0) == Spread(3.0, 1.5, 6.0)  # 6 tokens a turn
    assert done.ratio() == Spread(2.0, 1.0, 3.0)  # 3/1, 4/2, 4/4


def test_agreement_is_the_least_of_all_rows():
    done = in_turn(
        [Told("a", [1.0], [[1, 2, 3], [4, 5, 6]], []), Told("b", [1.0], [[1, 2, 3], [4, 9, 6]], [])], PROMPTS, 3, 1
    )
    assert done.agreement() == "1 of 3"


def test_a_row_that_ends_early_is_not_the_same_work():
    with pytest.raises(RequestError, match=r"made \[2, 3\] tokens a row, not 3"):
        in_turn([Told("a", [1.0], [[1, 2, 3], [4, 5]], [])], PROMPTS, 3, 1)


def test_a_spread_that_says_little_is_noisy():
    assert Spread(1.0, 0.9, 1.2).noisy
    assert not Spread(1.0, 0.9, 1.1).noisy
