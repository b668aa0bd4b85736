"""mix, when and phases, run by the core."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.strategy import Strategy

FOUR = [0.5, 0.25, 0.15, 0.1]


def probs(bench: Any, strategy: Any, table: Any, *args: Any, **more: Any) -> Any:
    return bench.law(strategy, bench.logits_of(table), *args, **more).dense().probs


def test_mix_averages_probabilities(bench: Any) -> None:
    """Three parts greedy-like, one part as it comes: .75 * (1 0 0 0) + .25 * p."""
    mix = bench.stage("mix", (3, bench.stage("top_k", 1)), (1.0, Strategy()))
    assert torch.allclose(
        probs(bench, mix, [FOUR, FOUR[::-1]]),
        torch.tensor([[0.875, 0.0625, 0.0375, 0.025], [0.025, 0.0375, 0.0625, 0.875]]),
    )


def test_mix_keeps_what_any_part_keeps(bench: Any) -> None:
    mix = bench.stage("mix", (0.5, bench.stage("ban", 0, 1)), (0.5, bench.stage("ban", 1, 2)))
    held = probs(bench, mix, FOUR)[0]
    assert held[1] == 0
    assert (held[[0, 2, 3]] > 0).all()
    assert held.sum() == pytest.approx(1.0)
    assert torch.allclose(held, 0.5 * torch.tensor([0, 0, 0.6, 0.4]) + 0.5 * torch.tensor([5 / 6, 0, 0, 1 / 6]))


def test_mix_of_one_and_mix_in_mix(bench: Any) -> None:
    part = bench.stage("top_p", 0.7)
    assert torch.allclose(probs(bench, bench.stage("mix", (0.2, part)), FOUR), probs(bench, part, FOUR))
    inner = bench.stage("mix", (1, bench.stage("top_k", 1)), (1, Strategy()))
    outer = bench.stage("mix", (0.5, inner), (0.5, Strategy()))
    assert torch.allclose(probs(bench, outer, FOUR), torch.tensor([[0.625, 0.1875, 0.1125, 0.075]]))


@pytest.mark.parametrize("weight", [0, -1.0, float("inf"), "x"])
def test_mix_weights_are_positive(bench: Any, weight: Any) -> None:
    with pytest.raises(StrategyError):
        bench.stage("mix", (weight, Strategy()))


def test_mix_blocks_are_fragments(bench: Any) -> None:
    with pytest.raises(StrategyError, match="a block of mix is a fragment"):
        bench.stage("mix", (1.0, bench.stage("top_k", 1) | bench.stage("sample")))
    with pytest.raises(StrategyError, match="'until' cannot stand in a block of mix"):
        bench.stage("mix", (1.0, bench.stage("top_k", 1).until(bench.stage("eos"))))
    with pytest.raises(StrategyError):
        bench.stage("mix")


def test_when_is_row_by_row(bench: Any) -> None:
    """Certain rows become greedy, the others lose their best token."""
    sure = bench.read(bench.stage("max_p"))
    strategy = bench.stage("when", bench.compare(sure, ">=", 0.5), bench.stage("top_k", 1), bench.stage("ban", 0))
    table = [FOUR, [0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]]
    held = [row.nonzero()[:, 0].tolist() for row in probs(bench, strategy, table)]
    assert held == [[0], [1, 2, 3], [3]]


def test_when_without_else_leaves_the_others_alone(bench: Any) -> None:
    strategy = bench.stage("when", bench.compare(bench.read(bench.stage("step")), "<", 1), bench.stage("top_k", 1))
    held = [row.nonzero()[:, 0].tolist() for row in probs(bench, strategy, [FOUR, FOUR], [1], [[], [2]])]
    assert held == [[0], [0, 1, 2, 3]]


def test_when_takes_a_truth_and_no_until(bench: Any) -> None:
    with pytest.raises(StrategyError, match="is a truth"):
        bench.stage("when", bench.read(bench.stage("entropy")), Strategy())
    test = bench.compare(bench.read(bench.stage("step")), "<", 1)
    with pytest.raises(StrategyError, match="'until' cannot stand in a block of when"):
        bench.stage("when", test, bench.stage("greedy").until(bench.stage("eos")))


def test_phases_move_on(bench: Any) -> None:
    """Greedy for two tokens, then all but the best; the replayed output says in which phase a row is."""
    first = bench.stage("top_k", 1).until(bench.stage("max_tokens", 2))
    strategy = bench.stage("phases", first, bench.stage("ban", 0)) | bench.stage("sample")
    logits = bench.logits_of([FOUR] * 4)
    held = strategy.distribution(logits, prompt=[3], output=[[], [1], [1, 1], [1, 1, 1]])
    assert [row.nonzero()[:, 0].tolist() for row in held] == [[0], [0], [1, 2, 3], [1, 2, 3]]


def test_phases_need_a_way_on(bench: Any) -> None:
    with pytest.raises(StrategyError, match="block 1 of 2 has no 'until'"):
        bench.stage("phases", bench.stage("greedy"), bench.stage("sample"))
    with pytest.raises(StrategyError):
        bench.stage("phases")


def test_blocks_inside_blocks(bench: Any) -> None:
    """A when in a mix in a when, on rows that part ways."""
    step = bench.compare(bench.read(bench.stage("step")), "<", 1)
    inner = bench.stage("when", step, bench.stage("top_k", 1), bench.stage("top_k", 2))
    mix = bench.stage("mix", (1.0, inner), (1.0, bench.stage("ban", 3)))
    outer = bench.stage("when", bench.compare(bench.read(bench.stage("max_p")), ">", 0.45), mix)
    table, outputs = [FOUR, FOUR, [0.25] * 4], [[], [0], []]
    held = probs(bench, outer, table, [1], outputs)
    banned = torch.tensor([*FOUR[:3], 0.0]) / 0.9
    assert torch.allclose(held[0], 0.5 * torch.tensor([1.0, 0, 0, 0]) + 0.5 * banned)
    assert torch.allclose(held[1], 0.5 * torch.tensor([2 / 3, 1 / 3, 0, 0]) + 0.5 * banned)
    assert torch.allclose(held[2], torch.tensor([0.25] * 4))
    for i in range(3):  # the same alone
        alone = probs(bench, outer, [table[i]], [1], [outputs[i]])
        assert torch.equal(alone[0], held[i])


def test_merge_on_the_largest_vocabulary_there_is(bench: Any) -> None:
    random = torch.randn(2, 60000)
    mix = bench.stage("mix", (0.7, bench.stage("top_p", 0.9)), (0.3, bench.stage("min_p", 0.1)))
    held = bench.law(mix, random).probs
    expected = (
        0.7 * bench.law(bench.stage("top_p", 0.9), random).probs
        + 0.3 * bench.law(bench.stage("min_p", 0.1), random).probs
    )
    assert torch.allclose(held, expected, atol=1e-7)
    assert isinstance(bench.law(mix, random), Dist)
