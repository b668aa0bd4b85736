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


def test_product_multiplies_powers_of_probabilities(bench: Any) -> None:
    """.5 .25 .15 .1 squared is .25 .0625 .0225 .01; by its reverse it is .05 .0375 .0375 .05, and halves are roots."""
    twice = bench.stage("product", (1.0, Strategy()), (1, bench.stage("temperature", 1.0)))
    assert torch.allclose(probs(bench, twice, FOUR), torch.tensor([[0.25, 0.0625, 0.0225, 0.01]]) / 0.345)
    flip = bench.stage("bias", {0: -1.6094379, 1: -0.5108256, 2: 0.5108256, 3: 1.6094379})  # ln of 1/5, 3/5, 5/3, 5
    mean = bench.stage("product", (0.5, Strategy()), (0.5, flip))
    rooted = torch.tensor([[0.05, 0.0375, 0.0375, 0.05]]).sqrt()
    assert torch.allclose(probs(bench, mean, FOUR), rooted / rooted.sum())


def test_product_takes_its_weights_as_they_are_written(bench: Any) -> None:
    """Exponents 2 and 1 make a cube; normalised they would leave the distribution as it is."""
    cubed = bench.stage("product", (2.0, Strategy()), (1.0, Strategy()))
    expected = torch.tensor([[p**3 for p in FOUR]])
    assert torch.allclose(probs(bench, cubed, FOUR), expected / expected.sum())


def test_product_keeps_what_every_part_keeps(bench: Any) -> None:
    both = bench.stage("product", (0.7, bench.stage("ban", 0)), (0.3, bench.stage("ban", 3)))
    held = probs(bench, both, [FOUR, [0.0, 0.5, 0.3, 0.2]])
    assert [row.nonzero()[:, 0].tolist() for row in held] == [[1, 2], [1, 2]]
    assert torch.allclose(held[0], torch.tensor([0.0, 0.25, 0.15, 0.0]) / 0.4)


@pytest.mark.parametrize(("weights", "best"), [((0.3, 0.7), 0), ((0.9, 0.1), 2)])
def test_product_of_parts_that_agree_on_nothing(bench: Any, weights: tuple[float, float], best: int) -> None:
    """2 has .6 in the first part and 0 has .667 in the second: .18 to .467 by the one pair of weights, .54 to .067."""
    first, second = bench.stage("ban", 0, 1), bench.stage("ban", 2, 3)
    law = bench.law(bench.stage("product", (weights[0], first), (weights[1], second)), bench.logits_of([FOUR]))
    assert law.probs[0].nonzero()[:, 0].tolist() == [best]
    assert law.rescued.tolist() == [[True]]
    together = bench.law(bench.stage("product", (1.0, first), (1.0, bench.stage("ban", 3))), bench.logits_of([FOUR]))
    assert together.rescued.tolist() == [[False]]


def test_product_on_narrowed_parts_and_far_logits(bench: Any) -> None:
    part = bench.stage("top_k", 2)
    held = probs(bench, bench.stage("product", (1.0, part), (1.0, bench.stage("top_k", 3))), FOUR)
    assert torch.allclose(held, torch.tensor([[0.8, 0.2, 0.0, 0.0]]))
    far = torch.tensor([[3.4e38, -3.4e38, 0.0], [-3.4e38, -3.3e38, float("-inf")]])
    law = bench.law(bench.stage("product", (1e6, Strategy()), (1e-6, bench.stage("temperature", 3.0))), far)
    assert law.probs.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert law.kept.tolist() == [[3], [2]]  # rounding removes nothing


def test_product_takes_two_fragments_at_least(bench: Any) -> None:
    part = bench.stage("top_k", 1)
    with pytest.raises(StrategyError, match="a block of product is a fragment"):
        bench.stage("product", (1.0, part | bench.stage("sample")), (1.0, part))
    with pytest.raises(StrategyError, match="'until' cannot stand in a block of product"):
        bench.stage("product", (1.0, part.until(bench.stage("eos"))), (1.0, part))
    with pytest.raises(StrategyError, match="two blocks at least"):
        bench.stage("product", (2.0, part))
    for weight in (0, -1.0, float("inf"), float("nan"), 2e6, "x"):
        with pytest.raises(StrategyError):
            bench.stage("product", (weight, part), (1.0, part))


def test_product_rescues_row_by_row(bench: Any) -> None:
    """Rows of one batch, one of them rescued, and a product inside a when: what each gets alone."""
    apart = bench.stage("product", (1.0, bench.stage("top_k", 1)), (1.0, bench.stage("ban", 0)))
    table = [FOUR, FOUR[::-1]]
    law = bench.law(apart, bench.logits_of(table))
    assert law.rescued.tolist() == [[True], [False]]
    assert [row.nonzero()[:, 0].tolist() for row in law.probs] == [[0], [3]]
    inside = bench.stage("when", bench.compare(bench.read(bench.stage("max_p")), ">", 0.45), apart)
    assert torch.equal(probs(bench, inside, [*table, [0.25] * 4])[:2], law.probs)


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
