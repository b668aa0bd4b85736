"""Temperature and dynamic temperature by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError

INF = float("inf")


def test_divides(bench: Any) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.0, -INF]])
    assert torch.equal(bench.apply(bench.stage("temperature", 0.5), logits), torch.tensor([[4.0, -2.0, 0.0, -INF]]))
    assert torch.equal(bench.apply(bench.stage("temperature", 2.0), logits), torch.tensor([[1.0, -0.5, 0.0, -INF]]))
    assert torch.equal(bench.apply(bench.stage("temperature", 1.0), logits), logits)


def test_zero_is_the_argmax_alone(bench: Any) -> None:
    assert bench.kept(bench.stage("temperature", 0), [1.0, 3.0, 3.0, 2.0]) == [[1]]
    assert bench.kept(bench.stage("temperature", 1e-300), [1.0, 3.0, 2.0]) == [[1]]  # no float32 between it and 0


@pytest.mark.parametrize("value", [1e-30, 1e-37, 1e-20])
@pytest.mark.parametrize("logits", [[1.0, 3.0, 2.0], [1e30, 3e38, -3e38], [-3e38, -1e38, -2e38], [0.0, 5.0, -INF]])
def test_the_limit_is_greedy_and_never_nan(bench: Any, value: float, logits: list[float]) -> None:
    after = bench.apply(bench.stage("temperature", value), logits)
    assert torch.equal(after.softmax(-1), torch.tensor([[0.0, 1.0, 0.0]]))
    stacked = bench.apply(
        [bench.stage("temperature", value), bench.stage("temperature", 0.5)], torch.tensor([logits] * 2)
    )
    assert torch.equal(stacked[:1].softmax(-1), after.softmax(-1))
    assert not stacked.isnan().any()


def test_a_tie_survives_any_temperature_but_zero(bench: Any) -> None:
    assert torch.equal(
        bench.apply(bench.stage("temperature", 1e-30), [2.0, 2.0, 1.0]).softmax(-1), torch.tensor([[0.5, 0.5, 0.0]])
    )


@pytest.mark.parametrize("best", [-3e38, -1e38, 1e38, 3e38])
def test_a_tie_survives_where_logits_overflow(bench: Any, best: float) -> None:
    for columns in (3, 6000):
        logits = torch.full((1, columns), max(best - abs(best), -3.4e38))
        logits[0, :2] = best
        after = bench.apply(bench.stage("temperature", 0.1), logits)
        assert after[0, :2].tolist() == [0.0, 0.0]
        assert bool((after[0, 2:] == -INF).all())


def test_each_row_has_its_own(bench: Any) -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]]).expand(3, -1)
    after = bench.apply([bench.stage("temperature", t) for t in (0.5, 0.0, 2.0)], logits)
    assert torch.equal(after, torch.tensor([[2.0, 4.0, 8.0], [-INF, -INF, 4.0], [0.5, 1.0, 2.0]]))


def test_hf_refuses_zero(bench: Any) -> None:
    with pytest.raises(StrategyError, match="above 0"):
        bench.stage("temperature", 0, dialect="hf")
    with pytest.raises(StrategyError, match="at least 0"):
        bench.stage("temperature", -0.5)


def test_vllm_is_greedy_below_a_hundred_thousandth(bench: Any) -> None:
    tied = torch.tensor([[1.0, 2.0, 2.0]])
    for value, probs in [(0.0, [0, 1, 0]), (1e-6, [0, 1, 0]), (9.9e-6, [0, 1, 0]), (1e-5, [0, 0.5, 0.5])]:
        after = bench.apply(bench.stage("temperature", value, dialect="vllm"), tied).softmax(-1)
        assert torch.equal(after, torch.tensor([probs]).float()), value
    stages = [bench.stage("temperature", value, dialect="vllm") for value in (1e-6, 2e-5, 2.0)]
    assert bench.kept(stages, tied.expand(3, -1)) == [[1], [0, 1, 2], [0, 1, 2]]
    halved = bench.apply(bench.stage("temperature", 2.0, dialect="vllm"), tied)
    assert torch.equal(halved, tied / 2)


def test_dynamic_temperature(bench: Any) -> None:
    """A uniform distribution has the high end, a certain one the low end; .5 .25 .25 has H / ln 3 = 0.9464, between."""
    uniform = torch.full((1, 4), 8.0)
    assert torch.allclose(bench.apply(bench.stage("dynamic_temperature", 0.5, 2.0), uniform), uniform / 2.0)
    certain = torch.tensor([[100.0, 0.0, 0.0]])
    assert torch.allclose(bench.apply(bench.stage("dynamic_temperature", 0.5, 2.0), certain), certain / 0.5)
    logits = bench.logits_of([0.5, 0.25, 0.25, 0.0])
    share = 1.5 * math.log(2) / math.log(3)
    for exponent in (1.0, 2.0, 0.5):
        temperature = 0.5 + 1.5 * share**exponent
        after = bench.apply(bench.stage("dynamic_temperature", 0.5, 2.0, exponent), logits)
        assert torch.allclose(after[:, :3], logits[:, :3] / temperature, atol=1e-6)
        assert after[0, 3] == -INF


def test_dynamic_temperature_leaves_one_candidate_alone(bench: Any) -> None:
    one = torch.tensor([[3.0, -INF, -INF]])
    assert torch.equal(bench.apply(bench.stage("dynamic_temperature", 0.0, 2.0), one), one)


def test_dynamic_temperature_down_to_zero(bench: Any) -> None:
    assert bench.kept(bench.stage("dynamic_temperature", 0.0, 0.0), [1.0, 2.0, 2.0]) == [[1]]


def test_dynamic_temperature_as_llamacpp_writes_it(bench: Any) -> None:
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    for value, spread, low, high in [(1.0, 0.5, 0.5, 1.5), (0.5, 0.75, 0.0, 1.25), (0.7, 0.0, 0.7, 0.7)]:
        written = bench.stage("dynamic_temperature", value=value, range=spread, dialect="llamacpp")
        assert torch.equal(
            bench.apply(written, logits), bench.apply(bench.stage("dynamic_temperature", low, high), logits)
        )
    with pytest.raises(StrategyError, match="takes value and range"):
        bench.stage("dynamic_temperature", 0.5, 1.0, dialect="llamacpp")
    with pytest.raises(StrategyError, match="takes low and high"):
        bench.stage("dynamic_temperature", value=0.5, range=1.0)


def test_dynamic_temperature_of_each_row(bench: Any) -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]] * 2)
    stages = [bench.stage("dynamic_temperature", value=1.0, range=r, dialect="llamacpp") for r in (0.5, 0.25)]
    both = bench.apply(stages, logits)
    for i, stage in enumerate(stages):
        assert torch.allclose(both[i : i + 1], bench.apply(stage, logits[:1]), rtol=1e-6)


def test_half_precision_logits_are_worked_on_in_float32(bench: Any) -> None:
    logits = torch.tensor([[10.0, 9.99, -65504.0]], dtype=torch.float16)
    dist = Dist(logits)
    after = bench.run(bench.stage("temperature", 1e-4), dist, bench.context(dist))
    assert after.logits.dtype == torch.float32
    assert torch.isfinite(after.logits).all()
