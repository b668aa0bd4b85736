"""A strategy on given logits, without a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitmill as lm
from logitmill import Strategy
from logitmill.core.errors import NumericalError, RequestError, Span, StageError, StrategyError
from logitmill.core.rng import fold

P = Strategy.parse


def test_shapes_and_forms_of_logits() -> None:
    table = torch.randn(3, 11)
    s = P("temperature(0.7) | top_k(4)")
    whole = s.distribution(table)
    assert whole.shape == (3, 11)
    assert torch.allclose(whole.sum(-1), torch.ones(3))
    assert torch.equal(s.distribution(table[0]), whole[:1])
    assert torch.allclose(s.distribution(table.tolist()), whole)
    assert torch.allclose(s.distribution(table.double()), whole, atol=1e-6)
    assert s.distribution(table.half()).dtype == torch.float32
    assert torch.equal(s.distribution(table.requires_grad_()), whole)


def test_a_draw_is_the_law_and_the_seed() -> None:
    table = torch.randn(40, 9)
    s = P("temperature(0.7) | top_k(4) | sample")
    drawn = s.draw(table, seed=3)
    assert drawn.shape == (40,)
    assert torch.equal(drawn, s.draw(table, seed=3))
    assert not torch.equal(drawn, s.draw(table, seed=4))
    for row in range(40):
        assert int(drawn[row]) == int(s.draw(table[row], seed=fold(3, row)))
    assert torch.equal(s.draw(table[:2], seed=[5, 6]), torch.cat([s.draw(table[0], seed=5), s.draw(table[1], seed=6)]))
    assert bool((s.distribution(table).gather(1, drawn[:, None]) > 0).all())
    assert torch.equal(P("greedy").draw(table), table.argmax(-1))


def test_draws_follow_the_law() -> None:
    """Chi-square over 20,000 draws; a sound sampler fails with probability 1e-6 (8 degrees of freedom, bound 42.7)."""
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, 1.5, -1.0, 0.2, -2.0])
    s = P("temperature(1.3) | sample")
    counts = torch.bincount(s.draw(logits.expand(20_000, -1), seed=11), minlength=9).double()
    expected = s.distribution(logits)[0].double() * 20_000
    assert float(((counts - expected) ** 2 / expected).sum()) < 42.7


def test_history_is_what_stages_see() -> None:
    logits = torch.zeros(2, 5)
    s = P("presence(100) | sample")
    assert s.distribution(logits, prompt=[0, 1], output=[[2], [3, 4]]).gt(0.01).tolist() == [
        [True, True, False, True, True], [True, True, True, False, False],
    ]  # fmt: skip
    both = P('presence(100, over="all")').distribution(logits, prompt=[0, 1], output=[2])
    assert both.gt(0.01).tolist() == [[False, False, False, True, True]] * 2


@given(st.integers(0, 7))
def test_phases_are_replayed_over_the_output(length: int) -> None:
    s = P(
        "phases({ allow(1) | sample until max_tokens(2) }, { allow(2) | sample until last == 4 }, "
        "{ allow(3) | greedy })"
    )
    output = [1, 1, 0, 4, 0, 0, 0][:length]
    expected = 1 if length < 2 else 2 if length < 4 else 3
    got = s.distribution(torch.zeros(1, 6), prompt=[5], output=output)
    assert int(got.argmax()) == expected
    assert int(s.draw(torch.zeros(1, 6), prompt=[5], output=output)) == expected


def test_each_row_is_replayed_over_its_own_output() -> None:
    s = P("phases({ allow(1) | sample until max_tokens(2) }, { allow(2) | sample })")
    got = s.distribution(torch.zeros(3, 4), prompt=[0], output=[[1], [1, 1], []])
    assert got.argmax(-1).tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: P("greedy").draw(torch.zeros(2, 3, 4)), "logits are"),
        (lambda: P("greedy").draw(torch.zeros(0, 4)), "at least one of each"),
        (lambda: P("greedy").draw("text"), "logits are"),
        (lambda: P("greedy").draw(torch.zeros(4, dtype=torch.bool)), "real numbers"),
        (lambda: P("greedy").draw(torch.zeros(4), prompt=[4]), "no token id"),
        (lambda: P("greedy").draw(torch.zeros(4), output=[-1]), "no token id"),
        (lambda: P("greedy").draw(torch.zeros(2, 4), prompt=[[1], [2], [3]]), "3 rows, logits have 2"),
        (lambda: P("greedy").draw(torch.zeros(4), prompt="abc"), "not text"),
        (lambda: P("greedy").draw(torch.zeros(2, 4), seed=[1]), "1 seeds for 2 rows: give one seed, or a list"),
        (lambda: P("greedy").draw(torch.zeros(1, 4), seed=[1, 2]), "2 seeds for 1 row: give one seed, or a list"),
        (lambda: P("greedy").draw(torch.zeros(4), tokenizer="gpt2"), "such as engine.tokenizer, got 'gpt2'"),
        (lambda: P("greedy").draw(torch.zeros(4), tokenizer=5), "such as engine.tokenizer, got int"),
        (lambda: P("greedy").check(tokenizer="gpt2"), "such as engine.tokenizer, got 'gpt2'"),
        (lambda: P("greedy").draw(torch.zeros(4, device="meta")), "a dense tensor with values in it, got a meta one"),
        (lambda: P("greedy").draw(torch.zeros(2, 4).to_sparse()), "got a sparse one: call to_dense"),
        (lambda: P("greedy").draw(None), "got NoneType"),
        (lambda: P("greedy").draw([0.0, None]), "got None among them"),
        (lambda: P("greedy").draw([[0.0], ["a"]]), "got 'a' among them"),
        (lambda: P("greedy").draw([[0.0], 1.0]), "got 1.0 among the rows"),
        (lambda: P("greedy").draw([[0.0], [0.0, 1.0]]), "got rows of different lengths"),
        (lambda: P("greedy").draw([0.0, 1e300]), "1e[+]300 is beyond its range"),
        (lambda: P("greedy").draw(torch.tensor([0.0, 1e39], dtype=torch.float64)), "1e[+]39 is beyond its range"),
        (lambda: P("greedy").draw([10**400]), "beyond the range of float32"),
        (lambda: P("greedy").draw(torch.zeros(4), seed=-1), "a seed is an integer"),
    ],
)
def test_wrong_arguments(call: Any, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        call()


@pytest.mark.parametrize(("bad", "says"), [(math.nan, "NaN"), (math.inf, "[+]inf"), (-math.inf, "no finite logit")])
def test_logits_that_are_no_numbers(bad: float, says: str) -> None:
    table = torch.zeros(2, 3)
    table[1] = bad
    with pytest.raises(NumericalError, match=f"{says} among the logits .stage .logits., step 0, row 1.: give finite"):
        P("greedy").draw(table)


def test_a_stage_that_leaves_no_numbers_is_named_with_what_to_do() -> None:
    class Poison(lm.LogitsProcessor, name="test.poison"):
        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            return dist.with_logits(dist.logits * math.nan)

    with pytest.raises(NumericalError, match=r"NaN among the logits .stage .test\.poison.*: 'logitmill explain' shows"):
        (Poison() | lm.greedy()).draw(torch.zeros(4))


@pytest.mark.parametrize("wide", [[-1e300, 0.0], torch.tensor([-1e300, 0.0], dtype=torch.float64)])
def test_what_is_far_below_float32_is_removed(wide: Any) -> None:
    assert P("temperature(1)").distribution(wide).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("temperature(0.8) | ban(99) | sample", "ban(99)"),
        ('top_k(3)\n| bias(["a": 1]) as x | sample', 'bias(["a": 1])'),
        ("mix(1: { ban(99) }) | sample", "ban(99)"),
        ("ban(1) | sample with ban.tokens=[99]", "ban(1)"),
        ("phases({ top_k(2) until stop_ids(99) }, { top_k(1) })", "stop_ids(99)"),
        ("dsl 1\nlet rules = force(99)\nlet main = rules | sample", "force(99)"),
    ],
)
def test_what_the_vocabulary_refuses_is_shown_in_the_text(text: str, part: str) -> None:
    with pytest.raises(StrategyError) as caught:
        P(text).distribution(torch.zeros(4), output=[1])
    where = caught.value.where
    assert isinstance(where, Span)
    assert text[where.start : where.end] == part


def test_fragments_have_a_law_and_no_draw() -> None:
    with pytest.raises(StrategyError, match="no sampler"):
        P("top_k(3)").draw(torch.zeros(4))
    with pytest.raises(StrategyError, match="needs a tokenizer"):
        P('ban("x")').distribution(torch.zeros(4))
    with pytest.raises(StrategyError, match="known only while a model runs"):
        P("when mean_logprob < 0 { top_k(1) }").distribution(torch.zeros(4))


def test_a_stage_that_raises_is_named() -> None:
    class Breaks(lm.LogitsProcessor, name="test.breaks"):
        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            raise ZeroDivisionError("oh")

    with pytest.raises(StageError, match=r"ZeroDivisionError: oh .*test\.breaks"):
        (Breaks() | lm.greedy()).draw(torch.zeros(4))


def test_patches_apply() -> None:
    s = P("temperature(2) as heat | sample with heat.value=0")
    assert s.distribution(torch.tensor([0.0, 1.0, 0.5])).tolist() == [[0.0, 1.0, 0.0]]


def test_a_single_number_is_no_row_of_tokens() -> None:
    with pytest.raises(RequestError, match=r"prompt is token ids, .* got the single number 5"):
        lm.Strategy.parse("sample").draw([0.0, 1.0], prompt=torch.tensor(5))


@pytest.mark.parametrize("kind", ["meta", "sparse", "nested"])
def test_tokens_are_dense_tensors_with_values(kind: str) -> None:
    dense = torch.tensor([1, 2])
    odd = {"meta": dense.to("meta"), "sparse": dense.to_sparse(), "nested": torch.nested.as_nested_tensor([dense])}
    for prompt in (odd[kind], [[1], odd[kind]], [[odd[kind]], [1]]):
        with pytest.raises(RequestError, match=f"token ids are a dense tensor with values in it, got a {kind} one"):
            P("sample").draw(torch.zeros(2, 4), prompt=prompt)


def test_rows_of_tokens_may_be_of_several_kinds() -> None:
    rows = [[np.int64(1), torch.tensor(2)], torch.tensor([3, 4, 5]), np.array([6])]
    lists, logits, strategy = [[1, 2], [3, 4, 5], [6]], torch.randn(3, 9), P("repetition(1.4) | sample")
    for name in ("prompt", "output"):
        assert torch.equal(
            strategy.distribution(logits, **{name: rows}), strategy.distribution(logits, **{name: lists})
        )


def test_numbers_beside_rows_are_no_tokens() -> None:
    with pytest.raises(RequestError, match=r"prompt is token ids, .* got numbers beside lists"):
        Strategy.parse("sample").draw([[0.0, 1.0]] * 2, prompt=[[1], 0])
