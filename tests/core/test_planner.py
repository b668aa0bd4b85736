"""The planner changes how a strategy runs, never what it means."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import logitmill as lm
from logitmill import LogitsProcessor, Scalar, Strategy
from logitmill.core import offline
from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.planner import describe, plan
from logitmill.core.rng import stage_key

VOCAB = 48


def names(text: str, **how: Any) -> list[str]:
    return [node.name for node in plan(Strategy.parse(text), fragment=True, **how).root.nodes]


def test_identities_are_dropped_unless_as_written() -> None:
    text = "temperature(1) | top_k(0) | top_p(1) | min_p(0.1) | repetition(1) | xtc(0) | sample"
    assert names(text) == ["min_p", "sample"]
    assert names(text, as_written=True) == ["temperature", "top_k", "top_p", "min_p", "repetition", "xtc", "sample"]


def test_a_stage_that_looks_at_ranks_goes_ahead_of_what_keeps_them() -> None:
    assert names("temperature(0.5) | top_k(5) | sample") == ["top_k", "temperature", "sample"]
    assert names("temperature(2 -> 1 over 9) | temperature(3) | top_k(5)") == ["top_k", "temperature", "temperature#2"]
    assert names("temperature(0.5) | top_k(5) | sample", as_written=True) == ["temperature", "top_k", "sample"]


@pytest.mark.parametrize(
    "text",
    [
        "repetition(1.1) | top_k(5)",  # changes the order
        "temperature(0.5*entropy) | top_k(5)",  # reads the whole distribution
        "temperature(0.5) | top_k(clamp(8*entropy, 1, 40))",  # k is read at that point
        "dynamic_temperature(0.5, 1.5) | top_k(5)",  # looks at other tokens
        "temperature(0.5) | top_p(0.9)",  # looks at more than ranks
        "min_p(0.1) | top_k(5)",
    ],
)
def test_what_would_change_the_meaning_stays(text: str) -> None:
    assert names(text) == names(text, as_written=True)


def test_noise_keys_do_not_move_with_what_others_do() -> None:
    text = "xtc(0.5) | temperature(0.5) | top_k(0) | top_k(5) | xtc(0.5) | xtc(0.2) as odd | sample"
    keys = {node.name: node.key for node in plan(Strategy.parse(text)).root.nodes}
    assert keys == {
        node.name: node.key for node in plan(Strategy.parse(text), as_written=True).root.nodes if node.name in keys
    }
    assert keys["xtc"] == stage_key("xtc")
    assert keys["xtc#2"] == stage_key("xtc#2")
    assert keys["odd"] == stage_key("odd")
    assert len(set(keys.values())) == len(keys)
    # dropping an identity leaves the occurrence of those behind it alone
    dropped = {node.name: node.key for node in plan(Strategy.parse("xtc(0) | xtc(0.5) | sample")).root.nodes}
    assert dropped == {"xtc#2": stage_key("xtc#2"), "sample": stage_key("sample")}


def test_no_two_stages_on_one_path_share_a_key() -> None:
    text = "xtc(0.5) | when step < 3 { xtc(0.5) } else { xtc(0.4) | xtc(0.3) } | xtc(0.2) | sample"
    whole = plan(Strategy.parse(text))
    when = whole.root.nodes[1]
    for child in when.children:
        path = [whole.root.nodes[0], *child.nodes, *whole.root.nodes[2:]]
        assert len({node.key for node in path}) == len(path)
    assert [node.name for node in when.children[1].nodes] == ["xtc#2", "xtc#3"]
    assert whole.root.nodes[2].name == "xtc#4"


def test_indices_number_every_stage_once() -> None:
    whole = plan(
        Strategy.parse("when step < 3 { greedy } else { mix(0.5: { top_k(3) }, 0.5: { min_p(0.1) }) | sample }")
    )
    assert [node.index for node in whole.nodes] == list(range(len(whole.nodes)))
    assert [entry["depth"] for entry in describe(whole)] == [0, 1, 1, 2, 2, 1]


def test_a_fragment_is_refused_where_a_whole_strategy_is_wanted() -> None:
    with pytest.raises(StrategyError, match="no sampler"):
        plan(Strategy.parse("top_k(5)"))
    assert not plan(Strategy.parse("top_k(5)"), fragment=True).root.complete


def test_what_a_plan_tells() -> None:
    whole = plan(Strategy.parse("when entropy < 1 { ban(2) } | best_of(3) { sample(seed=9) } until last == 3"))
    assert whole.seed == 9
    assert whole.rows == 3
    assert {"scores", "history"} <= whole.needs
    assert plan(Strategy.parse('when tail ~ r"x" { greedy } else { sample }')).host_coupled
    assert not plan(Strategy.parse('greedy until stop("x")')).host_coupled  # looked at when the host has it anyway
    assert plan(Strategy.parse('when within("<a>", 6) { top_k(9) } | greedy')).host_coupled
    assert not plan(Strategy.parse("when within(5, 6) { top_k(9) } | greedy")).host_coupled  # ids: on the device


# -- shapes ------------------------------------------------------------------------------------------------------------

SAME = [
    ("temperature(0.5) | sample", "temperature(0.7) | sample(seed=3)"),
    ("temperature(0.5) | top_k(3) | sample", "temperature(2 -> 1 over 8) | top_k(9) | sample"),
    ("temperature(0.5) | sample until max_tokens(3)", 'temperature(0.7) | sample until eos or stop("x")'),
    ("when step < 3 { temperature(0.5) } | sample", "when step < 3 { temperature(0.6) } | sample"),
    (
        "mix(0.7: { temperature(0.5) }, 0.3: { top_p(0.5) }) | sample",
        "mix(0.7: { temperature(0.4) }, 0.3: { top_p(0.9) }) | sample",
    ),
    (
        "phases({ temperature(0.5) | sample until max_tokens(2) }, { greedy })",
        "phases({ temperature(0.7) | sample until step > 5 }, { greedy until eos })",
    ),
]
OTHER = [
    ("temperature(0.5) | sample", "temperature(0.5) | greedy"),
    ("temperature(entropy) | sample", "temperature(2*entropy) | sample"),
    ("temperature(entropy) | sample", "temperature(2) | sample"),
    ("ban(1) | sample", "ban(2) | sample"),
    ("when step < 3 { temperature(0.5) } | sample", "when step < 4 { temperature(0.5) } | sample"),
    (
        "mix(0.7: { top_p(0.5) }, 0.3: { top_p(0.4) }) | sample",
        "mix(0.6: { top_p(0.5) }, 0.4: { top_p(0.4) }) | sample",
    ),
    ("xtc(0.5) as a | sample", "xtc(0.5) | sample"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_rows_whose_numbers_alone_differ_stack(one: str, other: str) -> None:
    assert plan(Strategy.parse(one)).shape == plan(Strategy.parse(other)).shape
    assert hash(plan(Strategy.parse(one)).shape) == hash(plan(Strategy.parse(other)).shape)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_rows_that_differ_in_more_do_not(one: str, other: str) -> None:
    assert plan(Strategy.parse(one)).shape != plan(Strategy.parse(other)).shape


# -- planned equals reference ------------------------------------------------------------------------------------------


def scalar(low: float, high: float, digits: int = 2) -> st.SearchStrategy[str]:
    """A number, a schedule or an expression within a range, as text."""
    number = st.floats(low, high).map(lambda x: round(x, digits))
    return st.one_of(
        number.map(repr),
        number.map(repr),
        st.tuples(number, number, st.integers(1, 8)).map(lambda t: f"{t[0]!r} -> {t[1]!r} over {t[2]}"),
        st.sampled_from(["0.3*entropy", "max_p", "0.1 + 0.05*step"]).map(lambda e: f"clamp({e}, {low}, {high})"),
    )


def whole(low: int, high: int) -> st.SearchStrategy[str]:
    return st.one_of(
        st.integers(low, high).map(str),
        st.integers(low, high).map(str),
        st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda t: f"{t[0]} -> {t[1]} over 5"),
        st.just(f"clamp(6*entropy, {low}, {high})"),
    )


ids = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30).map(lambda x: ", ".join(map(str, x)))
STAGES = {
    "temperature": scalar(0, 3),
    "dynamic_temperature": st.tuples(scalar(0, 1), scalar(1, 3), scalar(0, 2)).map(", ".join),
    "top_k": whole(0, 60),
    "top_p": st.tuples(scalar(0, 1), whole(1, 5)).map(", ".join),
    "min_p": scalar(0, 1),
    "typical": scalar(0, 1),
    "top_n_sigma": scalar(0, 3),
    "xtc": st.tuples(scalar(0, 1), scalar(0, 0.6)).map(", ".join),
    "repetition": scalar(0.5, 2),
    "presence": scalar(-2, 2),
    "frequency": scalar(-1, 1),
    "bias": st.lists(st.tuples(st.integers(0, VOCAB - 1), st.integers(-5, 5)), min_size=1, max_size=4).map(
        lambda pairs: "[" + ", ".join(f"{a}: {b}" for a, b in pairs) + "]"
    ),
    "ban": ids,
    "allow": ids,
    "min_tokens": st.tuples(whole(0, 9), ids.map(lambda x: f"[{x}]")).map(", ".join),
    "no_repeat_ngram": st.integers(0, 3).map(str),
}
one_stage = st.sampled_from(sorted(STAGES)).flatmap(lambda name: STAGES[name].map(lambda args: f"{name}({args})"))
fragment = st.lists(one_stage, max_size=2).map(lambda s: " | ".join(s) if s else "temperature(1)")
element = st.one_of(
    one_stage, one_stage, one_stage, one_stage, one_stage, one_stage,
    st.tuples(fragment, fragment).map(lambda t: f"when entropy > 1.5 {{ {t[0]} }} else {{ {t[1]} }}"),
    st.tuples(fragment, fragment).map(lambda t: f"mix(0.75: {{ {t[0]} }}, 0.25: {{ {t[1]} }})"),
)  # fmt: skip
pipelines = st.lists(element, max_size=4).map(lambda stages: " | ".join([*stages, "sample"]))


def outcome(text: str, logits: Tensor, as_written: bool) -> tuple[Tensor, Tensor]:
    """(logits of the law [R, V], tokens [R, 1])."""
    built = plan(Strategy.parse(text), as_written=as_written)
    output = [[1, 2, 1], [3, 3, 40], []][: len(logits)]
    dist, ctx, session, _ = offline._prepare(built, logits, [5, 6, 5], output, 7, None)
    proposal = session.propose(dist, ctx)
    return proposal.law().dense().logits, proposal.tokens


grids = st.integers(0, 2**32).map(
    lambda seed: torch.randint(-256, 257, (3, VOCAB), generator=torch.Generator().manual_seed(seed)).float() / 64
)


@settings(max_examples=200, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking one takes minutes
@given(pipelines, grids)
def test_planned_equals_as_written_exactly_on_a_grid(text: str, logits: Tensor) -> None:
    written, drawn = outcome(text, logits, as_written=True)
    planned, same = outcome(text, logits, as_written=False)
    assert torch.equal(planned, written)
    assert torch.equal(same, drawn)


@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(pipelines, grids)
def test_rows_together_equal_each_row_alone(text: str, logits: Tensor) -> None:
    built = plan(Strategy.parse(text))
    outputs = [[1, 2, 1], [3, 3, 40], []]
    dist, ctx, session, _ = offline._prepare(built, logits, [5, 6, 5], outputs, [3, 4, 5], None)
    together = session.propose(dist, ctx)
    for i in range(3):
        dist, ctx, session, _ = offline._prepare(built, logits[i : i + 1], [5, 6, 5], [outputs[i]], [3 + i], None)
        alone = session.propose(dist, ctx)
        a, b = together.law().dense().logits[i], alone.law().dense().logits[0]
        assert torch.equal(a > -torch.inf, b > -torch.inf)
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
        assert torch.equal(together.tokens[i], alone.tokens[0])


class Halve(LogitsProcessor, name="test.halve"):
    """What a third party may declare: order kept, token by token."""

    monotone: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    by: Scalar = 2.0

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist.with_logits(dist.logits / self.by)


class Remembers(Halve, name="test.remembers"):
    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Any) -> Any:
        return state


def test_third_parties_are_planned_by_what_they_declare() -> None:
    def order(*stages: Any) -> list[str]:
        return [node.name for node in plan(stages[0] | stages[1] | lm.sample()).root.nodes]

    assert order(Halve(), lm.top_k(3)) == ["top_k", "test.halve", "sample"]
    assert order(Remembers(), lm.top_k(3)) == [
        "test.remembers",
        "top_k",
        "sample",
    ]  # its accept is given what apply returned


@pytest.mark.parametrize(
    ("until", "most"),
    [
        ("max_tokens(9)", 9),
        ("max_length(20)", 15),
        ("max_length(3)", 1),
        ("eos", None),
        ("eos or max_tokens(9)", 9),
        ('max_tokens(9) or max_tokens(4) or stop("x")', 4),
        ("max_tokens(9) and max_tokens(4)", 9),
        ("max_tokens(9) and eos", None),
        ("not max_tokens(9)", None),
        ("entropy < 0.5 or max_tokens(9)", 9),
    ],
)
def test_how_many_tokens_a_stop_test_allows(until: str, most: int | None) -> None:
    assert plan(Strategy.parse(f"greedy until {until}")).most_tokens(5) == most
    assert plan(Strategy.parse("greedy")).most_tokens(5) is None
