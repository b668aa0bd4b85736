"""The stage contract: arguments, refusals in words, and what a subclass may not do."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import logitmill as lm
from logitmill import LogitsProcessor, Sampler, Scalar, StoppingCriterion, Strategy
from logitmill.core.dist import Dist
from logitmill.core.errors import PluginError, StrategyError
from logitmill.core.stage import draw, snake_case


class Many(LogitsProcessor, name="test.many"):
    """Takes all its positionals in one field, and more by name."""

    variadic: ClassVar[str | None] = "items"
    items: tuple[int | str, ...] = Field(min_length=1)
    pairs: tuple[tuple[str, float], ...] = ()
    level: Scalar = Field(1.0, ge=0, le=2)
    mode: str = "plain"


def test_arguments_by_place_and_by_name() -> None:
    assert Many(1, "a", 2) == Many(items=(1, "a", 2)) == Many([1, "a", 2])
    assert Many(1, mode="x").mode == "x"
    assert Many(1, pairs={"a": 1.0, "b": 2.0}).pairs == (("a", 1.0), ("b", 2.0))
    assert hash(Many(1, pairs={"a": 1.0})) == hash(Many(1, pairs=[("a", 1.0)]))
    assert lm.top_p(0.5, 3) == lm.top_p(p=0.5, min_keep=3)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: lm.top_p(), "top_p needs 'p'"),
        (lambda: lm.top_p(1.5), r"top_p\.p must be at most 1, got 1.5"),
        (lambda: lm.top_p(-0.5), r"top_p\.p must be at least 0, got -0.5"),
        (lambda: lm.top_p(0.5, 2, "hf", 4), "top_p got 4 positional arguments, it takes at most 3"),
        (lambda: lm.top_p(0.5, p=0.6), "top_p got 'p' twice"),
        (lambda: lm.top_p(0.5, q=1), "top_p has no argument 'q'; it takes p, min_keep, dialect"),
        (lambda: lm.top_p("0.5"), r"top_p\.p: a number, a schedule or an expression"),
        (lambda: lm.max_tokens(2.5), r"max_tokens\.n: .*got 2.5"),
        (lambda: lm.max_tokens(True), r"max_tokens\.n"),
        (lambda: lm.max_tokens(0), "must be at least 1, got 0"),
        (lambda: lm.top_p(0.5, dialect="vllm"), r"top_p\.dialect"),
        (lambda: lm.greedy(1), "greedy got 1 positional arguments, it takes none"),
    ],
)
def test_refusals_in_words(build: Any, says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        build()


def test_a_stage_is_frozen() -> None:
    stage = lm.top_p(0.5)
    with pytest.raises(Exception, match="frozen"):
        stage.p = 0.6
    assert stage.bound({"p": stage.p}) is stage
    bound = stage.bound({"p": torch.ones(2, 1)})
    assert isinstance(bound.p, torch.Tensor)
    assert stage.p == 0.5
    assert bound.min_keep == 1


@pytest.mark.filterwarnings("ignore:Field name")  # pydantic's own word on the matter, ahead of ours
@pytest.mark.parametrize("name", ["copy", "json", "schema", "until", "apply", "lambda"])
def test_reserved_field_names_are_refused(name: str) -> None:
    with pytest.raises((PluginError, NameError), match=r"reserved|shadows"):
        type("Bad", (LogitsProcessor,), {"__annotations__": {name: int}, name: 1, "__module__": __name__})


def test_names_and_revisions() -> None:
    assert [snake_case(n) for n in ("TopNSigma", "TopK", "Xtc", "NoRepeatNgram", "LLMStop")] == [
        "top_n_sigma", "top_k", "xtc", "no_repeat_ngram", "llm_stop",
    ]  # fmt: skip

    class Newer(LogitsProcessor, name="test.newer", revision=3):
        pass

    assert (Newer.reference(), lm.temperature.reference()) == ("test.newer@3", "temperature@1")


def test_operators_build_strategies() -> None:
    s = (lm.temperature(0.8) | lm.top_k(50) | lm.sample(seed=7)).until(lm.eos().or_(lm.max_tokens(64)))
    assert s == Strategy.parse("temperature(0.8) | top_k(50) | sample(seed=7) until eos or max_tokens(64)")
    assert lm.temperature(0.8).as_("heat") | lm.greedy() == Strategy.parse("temperature(0.8) as heat | greedy")
    assert lm.greedy().until(lm.eos().and_(lm.max_tokens(3).not_())) == Strategy.parse(
        "greedy until eos and not max_tokens(3)"
    )
    assert (lm.top_k(3) | (lm.min_p(0.1) | lm.greedy())) == Strategy.parse("top_k(3) | min_p(0.1) | greedy")
    with pytest.raises(StrategyError, match="stands in until"):
        lm.greedy() | lm.eos()
    with pytest.raises(StrategyError, match="until closes a strategy"):
        lm.greedy().until(lm.eos()) | lm.top_k(3)
    with pytest.raises(StrategyError, match="cannot stop a row"):
        lm.greedy().until(lm.top_k(3))


@given(
    st.lists(st.sampled_from([-2.0, 0.0, 1.0, 3.0, float("-inf")]), min_size=2, max_size=9).filter(
        lambda r: max(r) > -9
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_an_exact_draw(row: list[float], u: float) -> None:
    """The first token in id order at which the running mass exceeds u; the same from any narrowed set that holds the
    mass.
    """
    dist = Dist(torch.tensor([row]))
    weights = [w / sum(dist.weights[0].tolist()) for w in dist.weights[0].tolist()]
    token = int(draw(dist, torch.tensor([[u]], dtype=torch.float64)))
    assert weights[token] > 0
    below = sum(weights[:token])
    assert below <= u + 1e-12
    assert u < below + weights[token] + 1e-12
    alive = int(dist.kept)
    assert int(draw(dist.narrow(alive), torch.tensor([[u]], dtype=torch.float64))) == token


def test_a_draw_never_steps_over_the_last_token() -> None:
    near = torch.nextafter(torch.tensor([[1.0]], dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    logits = torch.full((1, 1000), -3.0)
    logits[0, 990:] = float("-inf")
    assert int(draw(Dist(logits), near)) == 989
    assert int(draw(Dist(logits), torch.zeros(1, 1, dtype=torch.float64))) == 0


def test_criteria_say_what_they_read() -> None:
    class Both(StoppingCriterion, name="test.both"):
        def check(self, ctx: Any) -> Any:
            return ctx.step > 3

        def check_text(self, text: str, ctx: Any) -> bool:
            return "x" in text

    assert (Both.reads_text(), Both.reads_tokens()) == (True, True)
    assert (lm.eos.reads_text(), lm.eos.reads_tokens()) == (False, True)
    assert Sampler.kind == "sampler"
