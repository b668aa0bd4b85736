"""Top-H by hand.

.5 .25 .15 .1 has H = 1.20797. Its prefixes, normalised, have 0, .63651, .98099 of it: shares 0, .5269 and .8121. Not
normalised, the sums of -p ln p are .34657, .69315, .97772 and 1.20797: shares .2869, .5738, .8094 and 1.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.errors import StrategyError

FOUR = [0.5, 0.25, 0.15, 0.1]


@pytest.mark.parametrize(
    ("alpha", "default", "hf"),
    [(0.2, 1, 1), (0.5, 1, 1), (0.55, 2, 1), (0.6, 2, 2), (0.8, 2, 2), (0.81, 2, 3), (0.82, 3, 3), (0.99, 3, 3)],
)
def test_by_hand(bench: Any, alpha: float, default: int, hf: int) -> None:
    logits = bench.logits_of(FOUR)
    for dialect, left in (("logitmill", default), ("hf", hf)):
        stage = bench.stage("top_h", alpha, dialect=dialect)
        assert bench.kept(stage, logits) == [list(range(left))]
        assert bench.kept(stage, logits.flip(-1)) == [list(range(4 - left, 4))]
        stacked = [stage, bench.stage("top_h", 0.7, dialect=dialect)]
        assert bench.kept(stacked, logits.expand(2, -1))[0] == list(range(left))


def test_equal_tokens(bench: Any) -> None:
    """ln 2 is exactly half of ln 4, ln 3 is .7925 of it. Ties go to the lower id."""
    for alpha, left in [(0.0, 1), (0.49, 1), (0.5, 2), (0.79, 2), (0.8, 3), (1.0, 4)]:
        assert bench.kept(bench.stage("top_h", alpha), torch.zeros(1, 4)) == [list(range(left))], alpha


def test_ends(bench: Any) -> None:
    assert bench.kept(bench.stage("top_h", 1.0), [0.0, -500.0, -1000.0]) == [[0, 1, 2]]
    assert bench.kept(bench.stage("top_h", 0.5), [7.0]) == [[0]]
    assert bench.kept(bench.stage("top_h", 0.5), bench.logits_of([0.0, 0.0, 1.0])) == [[2]]
    stacked = [bench.stage("top_h", alpha) for alpha in (1.0, 0.0)]
    assert bench.kept(stacked, torch.tensor([[0.0, -500.0, -1000.0]] * 2)) == [[0, 1, 2], [0]]
    with pytest.raises(StrategyError, match="above 0"):
        bench.stage("top_h", 0.0, dialect="hf")


def test_a_peaked_distribution_is_cut_as_exactly_as_a_flat_one(bench: Any) -> None:
    """Two tails at -40 and -42: their weights 1 and .1353 and entropies 41 and 43 times that share H as .8757 to 1."""
    logits = torch.tensor([[0.0, -40.0, -42.0]])
    for alpha, left in [(0.5, [0]), (0.87, [0]), (0.88, [0, 1]), (0.99, [0, 1])]:
        assert bench.kept(bench.stage("top_h", alpha), logits) == [left], alpha
    assert bench.kept(bench.stage("top_h", 0.99), [0.0, -1000.0]) == [[0]]  # no float64 is as small as its weight


def test_hf_looks_at_a_hundred_tokens(bench: Any) -> None:
    logits = torch.zeros(1, 150)
    assert bench.kept(bench.stage("top_h", 1.0), logits) == [list(range(150))]
    left = bench.kept(bench.stage("top_h", 1.0, dialect="hf"), logits)[0]
    assert left == list(range(len(left)))
    assert 98 <= len(left) <= 100  # where the float32 sum passes the float32 entropy
    assert not bench.stage("top_h", 1.0, dialect="hf").is_identity()


@pytest.mark.parametrize("dialect", ["logitmill", "hf"])
def test_extremes(bench: Any, dialect: str) -> None:
    logits = torch.tensor([[3.4e38, -3.4e38, 0.0], [-3.4e38, -3.3e38, float("-inf")], [0.0, -800.0, -900.0]])
    assert bench.kept(bench.stage("top_h", 0.9, dialect=dialect), logits) == [[0], [1], [0]]
