"""Tail-free sampling by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

SIX = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
"""Its curve bends by .05, .05, .01 and .02: running shares .385, .769, .846 and 1."""


@pytest.mark.parametrize(
    ("z", "default", "textgen"),
    [
        (0.0, 1, 1),
        (0.3, 1, 1),  # over at once: the best one alone
        (0.5, 1, 2),
        (0.8, 2, 3),
        (0.9, 3, 4),
        (0.999, 3, 4),
        (1.0, 6, 6),
    ],
)
def test_by_hand(bench: Any, z: float, default: int, textgen: int) -> None:
    logits = bench.logits_of(SIX)
    for dialect, left in (("logitmill", default), ("textgen", textgen)):
        stage = bench.stage("tail_free", z, dialect=dialect)
        assert bench.kept(stage, logits) == [list(range(left))]
        stacked = [stage, bench.stage("tail_free", 0.5, dialect=dialect)]
        assert bench.kept(stacked, logits.expand(2, -1))[0] == list(range(left))


def test_ids_are_put_in_order_first_and_ties_go_to_the_lower(bench: Any) -> None:
    """Sorted: .3 (id 1), .3 (id 2), then .1: bends .2, .2, 0, 0."""
    logits = bench.logits_of([0.1, 0.3, 0.3, 0.1, 0.1, 0.1])
    assert bench.kept(bench.stage("tail_free", 0.4), logits) == [[1]]
    assert bench.kept(bench.stage("tail_free", 0.6), logits) == [[1]]
    assert bench.kept(bench.stage("tail_free", 0.6, dialect="textgen"), logits) == [[1, 2]]


def test_a_curve_that_does_not_bend_has_no_tail(bench: Any) -> None:
    for probs in ([0.25] * 4, [0.4, 0.3, 0.2, 0.1], [0.7, 0.3], [1.0], [0.0, 0.6, 0.4, 0.0]):
        left = [i for i, p in enumerate(probs) if p > 0]
        assert bench.kept(bench.stage("tail_free", 0.5), bench.logits_of(probs)) == [left], probs


def test_textgen_drops_the_last_of_the_vocabulary(bench: Any) -> None:
    stage = bench.stage("tail_free", 0.5, dialect="textgen")
    assert bench.kept(stage, torch.zeros(1, 4)) == [[0, 1, 2]]
    assert bench.kept(stage, bench.logits_of([0.3, 0.7])) == [[1]]
    assert bench.kept(stage, torch.zeros(1, 1)) == [[0]]


def test_textgen_bends_at_removed_tokens(bench: Any) -> None:
    """.5 .3 .2 0 0 bends by .1, .1 and .2: shares .25, .5 and 1. Alone, the three bend once."""
    logits = bench.logits_of([0.5, 0.3, 0.2, 0.0, 0.0])
    for z, left in [(0.2, [0]), (0.4, [0, 1]), (0.6, [0, 1, 2])]:
        assert bench.kept(bench.stage("tail_free", z, dialect="textgen"), logits) == [left], z
        assert bench.kept(bench.stage("tail_free", z), logits) == [[0]]


@pytest.mark.parametrize("dialect", ["logitmill", "textgen"])
def test_extremes(bench: Any, dialect: str) -> None:
    logits = torch.tensor([[3.4e38, -3.4e38, 0.0, 1.0], [-3.4e38, -3.3e38, float("-inf"), float("-inf")]])
    left = [[0], [0, 1] if dialect == "logitmill" else [1]]
    assert bench.kept(bench.stage("tail_free", 0.5, dialect=dialect), logits) == left
