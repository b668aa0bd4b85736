"""Truncations on distributions small enough to work by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.scalar import Ramp

FOUR = [0.5, 0.25, 0.15, 0.1]
TIED = [0.2, 0.3, 0.3, 0.2]


@pytest.mark.parametrize(
    ("probs", "k", "left"),
    [
        (FOUR, 1, [0]),
        (FOUR, 3, [0, 1, 2]),
        (TIED, 1, [1]),  # ties to the lower id
        (TIED, 3, [0, 1, 2]),
        (FOUR, 0, [0, 1, 2, 3]),  # off
        (FOUR, 99, [0, 1, 2, 3]),  # more than there are
        ([1.0], 5, [0]),  # a vocabulary of one
    ],
)
def test_top_k(bench: Any, probs: list[float], k: int, left: list[int]) -> None:
    assert bench.kept(bench.stage("top_k", k), bench.logits_of(probs)) == [left]


def test_top_k_hf_keeps_ties_with_the_kth(bench: Any) -> None:
    assert bench.kept(bench.stage("top_k", 3, dialect="hf"), bench.logits_of(TIED)) == [[0, 1, 2, 3]]
    assert bench.kept(bench.stage("top_k", 9, dialect="hf"), bench.logits_of(FOUR)) == [[0, 1, 2, 3]]
    with pytest.raises(StrategyError, match="hf dialect"):
        bench.stage("top_k", 0, dialect="hf")


def test_top_k_vllm_keeps_ties_with_the_kth_and_zero_is_off(bench: Any) -> None:
    stages = [bench.stage("top_k", k, dialect="vllm") for k in (1, 0, 3, 9)]
    assert bench.kept(stages, bench.logits_of([TIED] * 4)) == [[1, 2], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    for stage, left in zip(stages, ([1, 2], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]), strict=True):
        assert bench.kept(stage, bench.logits_of(TIED)) == [left]
    assert bench.kept(bench.stage("top_k", 2, dialect="vllm"), bench.logits_of([0.0, 0.6, 0.0, 0.4])) == [[1, 3]]


def test_top_k_of_each_row(bench: Any) -> None:
    """Rows with values of their own, off among them, stack and get what they get alone."""
    ks = [1, 0, 3, 2]
    logits = bench.logits_of([FOUR] * 4)
    assert bench.kept([bench.stage("top_k", k) for k in ks], logits) == [[0], [0, 1, 2, 3], [0, 1, 2], [0, 1]]
    hf = [bench.stage("top_k", k, dialect="hf") for k in (1, 2, 3, 4)]
    assert bench.kept(hf, bench.logits_of([TIED] * 4)) == [[1, 2], [1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_top_k_narrows(bench: Any) -> None:
    dist = Dist(torch.randn(2, 100))
    for stages in (bench.stage("top_k", 5), [bench.stage("top_k", 5), bench.stage("top_k", 3)]):
        assert bench.run(stages, dist, bench.context(dist)).columns == 5


def test_top_k_follows_a_schedule_down_to_off(bench: Any) -> None:
    """``3 -> 0``: rounded at each step, and 0 keeps everything."""
    ramp = bench.stage("top_k", Ramp(3, 0, 3, bench.stage_of_schedule("linear")))
    logits = bench.logits_of([FOUR] * 4)
    outputs = [[], [0], [0] * 2, [0] * 3]
    assert bench.kept(ramp, logits, [1], outputs) == [[0, 1, 2], [0, 1], [0], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("probs", "p", "left"),
    [
        (FOUR, 0.6, [0, 1]),
        (FOUR, 0.5, [0]),  # reached exactly
        (FOUR, 0.75, [0, 1]),
        (FOUR, 0.7501, [0, 1, 2]),
        (FOUR, 0.0, [0]),
        (FOUR, 1.0, [0, 1, 2, 3]),
        (TIED, 0.1, [1]),
        (TIED, 0.7, [0, 1, 2]),
        ([0.0, 0.5, 0.5, 0.0], 0.9, [1, 2]),  # removed stays removed
        ([1.0], 0.3, [0]),
    ],
)
def test_top_p(bench: Any, probs: list[float], p: float, left: list[int]) -> None:
    logits = bench.logits_of(probs)
    assert bench.kept(bench.stage("top_p", p), logits) == [left]
    assert bench.kept([bench.stage("top_p", p), bench.stage("top_p", 0.3)], logits.expand(2, -1))[0] == left


def test_top_p_min_keep(bench: Any) -> None:
    assert bench.kept(bench.stage("top_p", 0.1, min_keep=3), bench.logits_of(FOUR)) == [[0, 1, 2]]
    stages = [bench.stage("top_p", 0.1, min_keep=n) for n in (1, 2, 9)]
    assert bench.kept(stages, bench.logits_of([FOUR] * 3)) == [[0], [0, 1], [0, 1, 2, 3]]


def test_top_p_keeps_a_tail_that_has_underflowed_only_when_off(bench: Any) -> None:
    logits = torch.tensor([[0.0, -1000.0, -2000.0]])
    assert bench.kept(bench.stage("top_p", 1.0), logits) == [[0, 1, 2]]
    assert bench.kept(bench.stage("top_p", 0.999), logits) == [[0]]


def test_top_p_hf_differs_at_the_boundary(bench: Any) -> None:
    """Of four equal tokens and p = 0.5 the two best have a rest of exactly 1 - p: they stay, as by default."""
    logits = torch.zeros(1, 4)
    assert bench.kept(bench.stage("top_p", 0.5), logits) == [[0, 1]]
    assert bench.kept(bench.stage("top_p", 0.5, dialect="hf"), logits) == [[0, 1]]
    assert bench.kept(bench.stage("top_p", 0.0, dialect="hf"), logits) == [[0]]


@pytest.mark.parametrize(
    ("probs", "p", "left"),
    [
        (FOUR, 0.0, [0, 1, 2, 3]),
        (FOUR, 0.25, [0, 1, 2]),
        (FOUR, 0.51, [0]),
        (FOUR, 1.0, [0]),
        (TIED, 1.0, [1, 2]),  # what ties with the best is not below it
        ([0.0, 0.9, 0.1, 0.0], 0.05, [1, 2]),
        ([1.0], 1.0, [0]),
    ],
)
@pytest.mark.parametrize("dialect", ["logitmill", "hf"])
def test_min_p(bench: Any, probs: list[float], p: float, left: list[int], dialect: str) -> None:
    logits = bench.logits_of(probs)
    assert bench.kept(bench.stage("min_p", p, dialect=dialect), logits) == [left]
    stacked = [bench.stage("min_p", p, dialect=dialect), bench.stage("min_p", 0.3, dialect=dialect)]
    assert bench.kept(stacked, logits.expand(2, -1))[0] == left


def test_min_p_keeps_by_logit_what_has_no_probability_in_float32(bench: Any) -> None:
    logits = torch.tensor([[0.0, -110.0]])
    assert bench.kept(bench.stage("min_p", 1e-50), logits) == [[0, 1]]


@pytest.mark.parametrize("dialect", ["logitmill", "hf"])
def test_min_p_min_keep(bench: Any, dialect: str) -> None:
    """Half of the best, .25, is reached by two; of the tied ones the lower id stays."""
    stages = [bench.stage("min_p", 0.5, n, dialect=dialect) for n in (1, 3, 9)]
    assert bench.kept(stages, bench.logits_of([FOUR] * 3)) == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert bench.kept(bench.stage("min_p", 1.0, 2, dialect=dialect), bench.logits_of([0.4, 0.3, 0.3])) == [[0, 1]]


def test_typical_min_keep(bench: Any) -> None:
    """By |-ln p - H| the order of .5 .25 .15 .1 is 1, 0, 2, 3."""
    logits = bench.logits_of([FOUR] * 3)
    for dialect in ("logitmill", "hf", "llamacpp"):
        stages = [bench.stage("typical", 0.1, n, dialect=dialect) for n in (1, 2, 9)]
        assert bench.kept(stages, logits) == [[1], [0, 1], [0, 1, 2, 3]]


def test_xtc_min_keep(bench: Any) -> None:
    """Of .5 .25 .15 .1 three reach .15: two may go, and two stay."""
    logits = bench.logits_of([FOUR] * 3)
    stages = [bench.stage("xtc", 1.0, 0.15, min_keep=n) for n in (1, 2, 3)]
    assert bench.kept(stages, logits) == [[2, 3], [2, 3], [0, 1, 2, 3]]


def test_typical(bench: Any) -> None:
    """H of .5 .25 .15 .1 is 1.208; -ln p is .69 1.39 1.90 2.30, so the order is 1, 0, 2, 3."""
    logits = bench.logits_of(FOUR)
    for mass, left in [
        (0.2, [1]),
        (0.25, [1]),
        (0.3, [0, 1]),
        (0.75, [0, 1]),
        (0.8, [0, 1, 2]),
        (0.0, [1]),
        (1.0, [0, 1, 2, 3]),
    ]:
        assert bench.kept(bench.stage("typical", mass), logits) == [left], mass
    stacked = [bench.stage("typical", mass) for mass in (0.2, 0.8, 1.0)]
    assert bench.kept(stacked, logits.expand(3, -1)) == [[1], [0, 1, 2], [0, 1, 2, 3]]


def test_typical_dialects_at_the_boundary(bench: Any) -> None:
    """Four equal tokens and mass 0.5: two reach it, llama.cpp wants more than that, transformers keeps all that tie."""
    logits = torch.zeros(1, 4)
    assert bench.kept(bench.stage("typical", 0.5), logits) == [[0, 1]]
    assert bench.kept(bench.stage("typical", 0.5, dialect="llamacpp"), logits) == [[0, 1, 2]]
    assert bench.kept(bench.stage("typical", 0.5, dialect="hf"), logits) == [[0, 1, 2, 3]]


def test_top_n_sigma(bench: Any) -> None:
    """Logits 0 2 4 have a population sigma of 1.633; 0.5 of it below 4 is 3.18, 2 is 0.73, 3 is below 0."""
    logits = torch.tensor([[0.0, 2.0, 4.0, float("-inf")]])
    for n, left in [(0.5, [2]), (2.0, [1, 2]), (3.0, [0, 1, 2]), (0.0, [0, 1, 2]), (-1.0, [0, 1, 2])]:
        assert bench.kept(bench.stage("top_n_sigma", n), logits) == [left], n
    stacked = [bench.stage("top_n_sigma", n) for n in (0.5, -1.0, 2.0)]
    assert bench.kept(stacked, logits.expand(3, -1)) == [[2], [0, 1, 2], [1, 2]]


def test_top_n_sigma_textgen_counts_removed_logits_as_zero(bench: Any) -> None:
    """0 2 4 and a removed one: of 0 2 4 0 the mean is 1.5 and the sample variance 11 / 3, so sigma is 1.9149.

    Half of it below 4 is 3.04, one 2.09, 1.1 of it 1.89; alone, 0 2 4 would have a sample sigma of 2.
    """
    logits = torch.tensor([[0.0, 2.0, 4.0, float("-inf")]])
    for n, left in [(0.5, [2]), (1.0, [2]), (1.1, [1, 2]), (2.1, [0, 1, 2]), (0.0, [0, 1, 2]), (-1.0, [0, 1, 2])]:
        assert bench.kept(bench.stage("top_n_sigma", n, dialect="textgen"), logits) == [left], n
    stacked = [bench.stage("top_n_sigma", n, dialect="textgen") for n in (1.0, -1.0, 1.1)]
    assert bench.kept(stacked, logits.expand(3, -1)) == [[2], [0, 1, 2], [1, 2]]
    whole = torch.tensor([[0.0, 2.0, 4.0]])  # sample sigma 2, population sigma 1.633
    assert bench.kept(bench.stage("top_n_sigma", 1.1), whole) == [[2]]
    assert bench.kept(bench.stage("top_n_sigma", 1.1, dialect="textgen"), whole) == [[1, 2]]
    assert bench.kept(bench.stage("top_n_sigma", 1.1, dialect="textgen"), torch.tensor([[-7.0]])) == [[0]]


def test_top_n_sigma_does_not_change_with_temperature(bench: Any) -> None:
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(0))
    for temperature in (0.25, 0.5, 2.0, 4.0):  # powers of two scale exactly
        assert bench.kept(bench.stage("top_n_sigma", 1.5), logits) == bench.kept(
            bench.stage("top_n_sigma", 1.5), logits / temperature
        )


def test_truncations_keep_the_best_of_one(bench: Any) -> None:
    one = torch.tensor([[3.0]])
    for stage in ("top_k", 1), ("top_p", 0.1), ("min_p", 0.9), ("typical", 0.1), ("top_n_sigma", 0.1), ("xtc", 1.0):
        assert bench.kept(bench.stage(*stage), one) == [[0]]


def xtc_of(bench: Any, probs: list[float], probability: float, threshold: float, **fields: Any) -> list[int]:
    return bench.kept(bench.stage("xtc", probability, threshold, **fields), bench.logits_of(probs))[0]


def test_xtc(bench: Any) -> None:
    """Of .5 .25 .15 .1, three reach 0.12: the two best go, 0.15 stays as the least of them."""
    assert xtc_of(bench, FOUR, 1.0, 0.12) == [2, 3]
    assert xtc_of(bench, FOUR, 1.0, 0.2) == [1, 2, 3]
    assert xtc_of(bench, FOUR, 1.0, 0.3) == [0, 1, 2, 3]  # one alone is not a choice
    assert xtc_of(bench, FOUR, 1.0, 0.6) == [0, 1, 2, 3]  # a threshold above a half is off
    assert xtc_of(bench, FOUR, 0.0, 0.12) == [0, 1, 2, 3]
    assert xtc_of(bench, FOUR, 1.0, 0.0) == [3]
    assert xtc_of(bench, [0.0, 0.5, 0.5, 0.0], 1.0, 0.5) == [2]  # of a tie the last stays
    assert xtc_of(bench, FOUR, 1.0, 0.12, protect=[0]) == [0, 2, 3]


def test_xtc_protects_single_tokens_and_refuses_what_is_several(bench: Any) -> None:
    for key in ([1, 2], "the cat"):
        stage = bench.stage("xtc", 1.0, 0.12, protect=[0, key])
        with pytest.raises(StrategyError, match="xtc: names single tokens"):
            bench.kept(stage, torch.zeros(1, len(bench.tokenizer())), tokenizer=bench.tokenizer())


def test_xtc_textgen_does_nothing_where_a_protected_token_would_go(bench: Any) -> None:
    def after(**fields: Any) -> list[int]:
        return xtc_of(bench, FOUR, 1.0, 0.12, dialect="textgen", **fields)

    assert after() == [2, 3]
    assert after(protect=[0]) == [0, 1, 2, 3]
    assert after(protect=[1, 3]) == [0, 1, 2, 3]
    assert after(protect=[2]) == [2, 3]  # the least of the top choices stays anyway
    assert after(protect=[3]) == [2, 3]


def test_xtc_textgen_protects_the_newline_and_the_end_by_itself(bench: Any) -> None:
    tokenizer = bench.tokenizer()
    newline, end = tokenizer("\n")["input_ids"][-1], tokenizer.eos_token_id
    for token, left in [(newline, 3), (end, 3), (7, 2)]:
        probs = torch.zeros(1, len(tokenizer))
        probs[0, [token, 20, 21]] = torch.tensor([0.5, 0.3, 0.2])
        stage = bench.stage("xtc", 1.0, 0.25, dialect="textgen")
        assert len(bench.kept(stage, probs.log(), tokenizer=tokenizer)[0]) == left
        assert len(bench.kept(bench.stage("xtc", 1.0, 0.25), probs.log(), tokenizer=tokenizer)[0]) == 2
    assert bench.kept(bench.stage("xtc", 1.0, 0.12, dialect="textgen"), bench.logits_of(FOUR), eos=(1, 99)) == [
        [0, 1, 2, 3]
    ]


def test_xtc_textgen_decides_row_by_row(bench: Any) -> None:
    stage = bench.stage("xtc", 1.0, 0.12, protect=[0], dialect="textgen")
    assert bench.kept(stage, bench.logits_of([FOUR, FOUR[::-1]])) == [[0, 1, 2, 3], [0, 1]]


def test_xtc_acts_as_often_as_it_says(bench: Any) -> None:
    """4,000 rows at probability 0.3. Six standard deviations either side: false alarm 2e-9."""
    rows, probability = 4000, 0.3
    left = bench.kept(bench.stage("xtc", probability, 0.12), bench.logits_of([FOUR] * rows), seeds=range(rows))
    acted = sum(row == [2, 3] for row in left)
    assert abs(acted - rows * probability) < 6 * (rows * probability * (1 - probability)) ** 0.5
    assert all(row in ([2, 3], [0, 1, 2, 3]) for row in left)


def test_xtc_stacks_with_values_of_each_row(bench: Any) -> None:
    stages = [bench.stage("xtc", 1.0, t) for t in (0.12, 0.2, 0.6)]
    assert bench.kept(stages, bench.logits_of([FOUR] * 3)) == [[2, 3], [1, 2, 3], [0, 1, 2, 3]]
