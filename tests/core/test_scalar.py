"""Scalar fields: what may be written, and what a stage sees of it for many rows at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from torch import Tensor

import logitmill as lm
from logitmill import LogitsProcessor, NumericalError, Scalar, Strategy, ramp, signals
from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.scalar import Ramp

SHAPES = ["linear", "cosine", "exp", "step"]


class Field2(LogitsProcessor, name="test.field2"):
    """Two scalars, a bounded one and a whole one."""

    value: Scalar = Field(1.0, ge=0, le=4)
    count: Scalar[int] = Field(1, ge=0)
    maybe: Scalar | None = None

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist.with_logits(dist.logits * self.value + self.count)


class Ctx:
    def __init__(self, steps: list[int]) -> None:
        self.step = torch.tensor(steps)[:, None]
        self.raw = None


def at(stage: Field2, field: str, steps: list[int], logits: Tensor | None = None) -> Any:
    dist = Dist(torch.zeros(len(steps), 4) if logits is None else logits)
    return stage.scalars[field].stacked([getattr(stage, field)] * len(steps), dist, Ctx(steps))  # type: ignore[arg-type]


@given(st.sampled_from(SHAPES), st.floats(0.1, 4), st.floats(0.1, 4), st.integers(1, 50))
def test_a_ramp_starts_at_one_end_and_stays_at_the_other(shape: str, a: float, b: float, over: int) -> None:
    values = at(Field2(ramp(a, b, over=over, by=shape)), "value", [0, over // 2, over, over + 1, 10_000])[:, 0].tolist()
    assert values[0] == pytest.approx(a, rel=1e-6)
    assert values[2:] == pytest.approx([b] * 3, rel=1e-6)
    assert min(a, b) * (1 - 1e-6) <= values[1] <= max(a, b) * (1 + 1e-6)


def test_ramps_by_hand() -> None:
    half = {"linear": 2.0, "cosine": 2.0, "exp": math.sqrt(3.0), "step": 1.0}
    for shape, value in half.items():
        assert float(at(Field2(ramp(1, 3, over=10, by=shape)), "value", [5])) == pytest.approx(value)
    quarter = at(Field2(ramp(1, 3, over=8, by="cosine")), "value", [2])
    assert float(quarter) == pytest.approx(1 + 2 * (1 - math.cos(math.pi / 4)) / 2)


@given(
    st.lists(
        st.one_of(st.floats(0, 4), st.tuples(st.floats(0, 4), st.floats(0, 4), st.integers(1, 9))),
        min_size=1,
        max_size=5,
    ),
    st.randoms(),
)
def test_rows_with_values_of_their_own_see_what_they_see_alone(written: list[Any], random: Any) -> None:
    stages = [Field2(w if isinstance(w, float) else ramp(w[0], w[1], over=w[2])) for w in written]
    steps = [random.randrange(12) for _ in stages]
    field = Field2.scalars["value"]
    dist = Dist(torch.zeros(len(stages), 4))
    together = field.stacked([stage.value for stage in stages], dist, Ctx(steps))  # type: ignore[arg-type]
    for i, stage in enumerate(stages):
        alone = field.stacked([stage.value], dist.select([i]), Ctx(steps[i : i + 1]))  # type: ignore[arg-type]
        mine = together[i, 0] if isinstance(together, Tensor) else torch.tensor(together)
        assert float(mine) == pytest.approx(float(alone), rel=1e-6)


def test_numbers_stay_numbers_where_rows_agree() -> None:
    assert at(Field2(0.5, 3), "value", [1, 2]) == 0.5
    assert at(Field2(0.5, 3), "count", [1, 2]) == 3
    assert isinstance(at(Field2(0.5, 3), "count", [1]), int)


def test_expressions_are_read_row_by_row_and_kept_in_range() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]])
    stage = Field2(signals.entropy * 10, signals.entropy * 1.6)
    value = at(stage, "value", [0, 0], logits)
    entropy = Dist(logits).entropy
    assert torch.allclose(value, (entropy * 10).clamp(0, 4))
    count = at(stage, "count", [0, 0], logits)
    assert count.dtype == torch.int64
    assert count.tolist() == [[2], [0]]  # 1.6 * ln 4 = 2.2


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Field2(-0.1), "at least 0"),
        (lambda: Field2(4.5), "at most 4"),
        (lambda: Field2(ramp(1, 5, over=3)), "at most 4"),
        (lambda: Field2(ramp(-1, 2, over=3)), "at least 0"),
        (lambda: Field2(True), "a number, a schedule or an expression"),
        (lambda: Field2("1"), "a number, a schedule or an expression"),
        (lambda: Field2(math.nan), "a finite number"),
        (lambda: Field2(math.inf), "a finite number"),
        (lambda: Field2(1, 1.5), "a whole number"),
        (lambda: Field2(signals.entropy < 1), "a number is wanted, this expression is a truth"),
        (lambda: Field2(signals.tail), "a number is wanted, this expression is a text"),
        (lambda: Field2(torch.ones(2)), "a number, a schedule or an expression"),
        (lambda: ramp(1, 2, over=0), "at least one token"),
        (lambda: ramp(1, math.inf, over=2), "finite number"),
        (lambda: ramp(1, 2, over=2, by="spline"), "unknown schedule 'spline'"),
        (lambda: ramp(-1, 2, over=2, by="exp"), "one side of 0"),
        (lambda: ramp(True, 2, over=2), "finite number"),
    ],
)
def test_what_is_refused(build: Any, says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        build()


def test_whole_numbers_and_none() -> None:
    assert Field2(1, 2.0).count == 2
    assert isinstance(Field2(1, 2.0).count, int)
    assert isinstance(Field2(1).value, float)
    assert Field2(1, maybe=0.5).maybe == 0.5
    assert set(Field2.scalars) == {"value", "count", "maybe"}
    assert (Field2.scalars["value"].low, Field2.scalars["value"].high) == (0, 4)


def test_ramps_compare_and_hash_by_what_they_say() -> None:
    assert ramp(1, 2, over=3) == ramp(1.0, 2.0, over=3.0)
    assert hash(ramp(1, 2, over=3)) == hash(ramp(1.0, 2.0, over=3.0))
    assert ramp(1, 2, over=3) != ramp(1, 2, over=3, by="cosine")
    assert isinstance(lm.temperature(ramp(1, 0.5, over=9)).value, Ramp)


@pytest.mark.parametrize(
    "text",
    [
        f"{name}(step / step)"
        for name in "temperature top_p top_k xtc dry quadratic top_a mirostat typical repetition".split()
    ]
    + ["min_p(0 * log(step))"],
)
def test_an_argument_that_is_no_number_is_never_silent(text: str) -> None:
    """0/0 at the first step: one row's error, with the stage's name; the other rows go on."""
    strategy = Strategy.parse(text)
    with pytest.raises(NumericalError, match=rf"NaN among the logits.*'{text.partition('(')[0]}'"):
        strategy.distribution([1.0, 2.0, 3.0])
    assert strategy.distribution([1.0, 2.0, 3.0], output=[1]).isfinite().all()


def test_numbers_are_held_against_what_the_device_holds() -> None:
    for call in (
        lambda: Strategy.parse("frequency(1e39)"),
        lambda: Strategy.parse("frequency(1 -> 1e39 over 5)"),
        lambda: Strategy.parse("frequency(step * 1e39)"),
        lambda: Strategy.parse("top_k(9300000000000000000)"),
        lambda: lm.top_k(10**400),
        lambda: lm.temperature(10**400),
    ):
        with pytest.raises(StrategyError, match=r"at most (3\.4e38|2\^63 - 1)"):
            call()
