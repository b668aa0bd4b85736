"""What someone else's stage may rely on, and what it cannot spoil."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from pydantic import Field
from torch import Tensor

import logitmill as lm
from logitmill.core.errors import RequestError, StrategyError

Make = Callable[..., Any]


class Held(NamedTuple):
    value: Tensor  # [R, 1]


class Opening(lm.LogitsProcessor, name="own.opening"):
    """Adds what its field was at the first token to token 0's logit."""

    amount: lm.Scalar = 1.0

    def init(self, ctx: Any) -> Held:
        return Held(2 * self.amount + torch.zeros(ctx.rows, 1))

    def apply(self, dist: Any, state: Held, ctx: Any) -> Any:
        first = dist.token_ids() == 0
        return dist.with_logits(dist.logits + first * state.value)


class Share(lm.Signal, name="own.share"):
    """A number of its own."""

    of: lm.Scalar = 1.0

    def read(self, dist: Any, ctx: Any) -> Tensor:
        assert ctx.prepared(self) == "made"
        return self.of + torch.zeros(dist.rows, 1)

    def prepare(self, vocab: Any) -> str:
        return "made"


class Late(lm.StoppingCriterion, name="own.late"):
    """Cuts at a place it never held back."""

    def check_text(self, text: str, ctx: Any) -> int | None:
        return 2 if len(text) >= 6 else None


class Reached(lm.StoppingCriterion, name="own.reached"):
    """At least so many tokens."""

    n: lm.Scalar = 1.0

    def check(self, ctx: Any) -> Tensor:
        return ctx.step >= self.n


class Unsure(lm.Search, name="own.unsure"):
    """Cannot say how many rows it wants."""

    block: lm.Strategy

    def children(self) -> tuple[lm.Strategy, ...]:
        return (self.block,)

    def expand(self) -> int:
        raise ValueError("who knows")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    stages = (Opening, Share, Late, Reached, Unsure)
    lm.register(*stages)
    yield
    lm.unregister(*stages)


@pytest.mark.parametrize(("written", "first"), [("3", 3.0), ("3 -> 1 over 4", 3.0), ("2 + step", 2.0)])
def test_init_sees_values_too(written: str, first: float) -> None:
    law = lm.Strategy.parse(f"own.opening({written})").distribution([[0.0, 0.0, 0.0]] * 2, output=[1, 1])
    assert torch.allclose(law, torch.softmax(torch.tensor([[2 * first, 0.0, 0.0]] * 2), -1))


@pytest.mark.parametrize(
    ("written", "values"), [("0.5", [0.5] * 3), ("0 -> 2 over 2", [0.0, 1.0, 2.0]), ("step*3", [0.0, 3.0, 6.0])]
)
def test_a_signals_fields_are_values_too(written: str, values: list[float]) -> None:
    strategy = lm.Strategy.parse(f"temperature(1 + own.share({written}))")
    logits = torch.tensor([1.0, 2.0, 4.0])
    for step, value in enumerate(values):
        law = strategy.distribution(logits, output=[0] * step)
        assert torch.allclose(law[0], torch.softmax(logits / (1 + value), -1))


@pytest.mark.parametrize(("written", "tokens"), [("3", 3), ("9 -> 3 over 6", 5), ("1 + step/2", 2)])
def test_a_criterions_fields_are_values_too(make_engine: Make, written: str, tokens: int) -> None:
    engine = make_engine()
    many = engine.generate(["ab", "c"], f"sample until own.reached({written}) or max_tokens(20)", seed=1)
    assert [len(one.tokens) for one in many] == [tokens] * 2
    assert [one.criterion for one in many] == ["own.reached"] * 2


def test_each_token_is_told_once(make_engine: Make) -> None:
    with make_engine().stream("ab", "sample until max_tokens(20)", seed=1) as stream:
        told = [next(stream).token for _ in range(3)]
        stream.cancel()
        told += [event.token for event in stream]
    assert [token for token in told if token is not None] == list(stream.completion.tokens)


def test_a_loader_that_raises_keeps_nobody_from_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitmill.core.loader import Plugins, PluginWarning

    class Faulty:
        @lm.hookimpl
        def load_model(self, spec: Any) -> Any:
            raise OSError("no such disk")

    class Sound:
        @lm.hookimpl
        def load_model(self, spec: Any) -> Any:
            return ("loaded", spec)

    plugins = Plugins()
    plugins.add(Faulty(), "faulty")
    plugins.add(Sound(), "sound")
    with pytest.warns(PluginWarning, match=r"load_model of plugin 'faulty' raised OSError: no such disk"):
        assert plugins.load_model("x") == ("loaded", "x")


def test_the_pieces_join_to_the_text_whatever_a_criterion_cuts(make_engine: Make) -> None:
    with make_engine().stream("ab", 'allow(r"[a-z]") | sample until own.late or max_tokens(20)', seed=1) as stream:
        pieces = [event.text for event in stream]
    assert stream.completion.criterion == "own.late"
    assert "".join(pieces) == stream.completion.text


def test_a_search_that_raises_is_refused_before_it_meets_the_loop(make_engine: Make) -> None:
    engine = make_engine()
    with pytest.raises(StrategyError, match="who knows"):
        engine.generate("ab", "own.unsure { sample }")
    assert engine.generate("ab", "greedy until max_tokens(2)").error is None


async def _score_while_served(engine: Any) -> None:
    async with engine.serve():
        with pytest.raises(RequestError, match="being served"):
            engine.score("a", "b")


def test_the_model_is_not_asked_from_two_threads(make_engine: Make) -> None:
    import asyncio

    engine = make_engine()
    asyncio.run(_score_while_served(engine))
    assert len(engine.score("a", "b")) == 1


class Loud(lm.Signal, name="own.loud"):
    """A row too many."""

    def read(self, dist: Any, ctx: Any) -> Tensor:
        return torch.zeros(dist.rows + 1, 1)


class Elsewhere(lm.Sampler, name="own.elsewhere"):
    """Picks what its law does not hold."""

    token: int = 10**6

    def pick(self, law: Any, ctx: Any) -> Tensor:
        return torch.full((law.rows, 1), self.token)


class Shapeless(lm.LogitsProcessor, name="own.shapeless"):
    """A state of one row, however many there are."""

    def init(self, ctx: Any) -> Held:
        return Held(torch.zeros(5, 1))

    def apply(self, dist: Any, state: Held, ctx: Any) -> Any:
        return dist


class Vague(lm.StoppingCriterion, name="own.vague"):
    """Says nothing."""

    def check(self, ctx: Any) -> Any:
        return None


class Counted(lm.LogitsProcessor, name="own.counted"):
    k: lm.Scalar[int] = Field(3, ge=1, le=5)

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("when own.loud < 1 { greedy } else { sample }", r"the signal 'own.loud' reads float32 \[\d, 1\].*'when'"),
        ("best_of(2, by=own.loud) { sample } until max_tokens(2)", "the signal 'own.loud' reads"),
        ("own.elsewhere", "pick chose token 1000000, which the law does not hold.*'own.elsewhere'"),
        ("own.elsewhere(-5)", "pick chose token -5"),
        ("top_k(1) | own.elsewhere(7)", "pick chose token 7"),
        ("own.shapeless | sample", "rows first.*'own.shapeless'"),
        ("sample until own.vague", r"check returns bool \[\d, 1\], this one returned None.*'own.vague'"),
    ],
)
def test_what_breaks_its_contract_ends_its_own_row_with_its_name(make_engine: Make, bad: str, says: str) -> None:
    stages = (Loud, Elsewhere, Shapeless, Vague)
    lm.register(*stages)
    try:
        engine = make_engine()
        good = engine.generate("ab", "sample until max_tokens(5)", seed=3)
        together = engine.generate(["ab", "cd", "cd"], ["sample until max_tokens(5)", bad, bad], seed=[3, 4, 5])
        assert together[0].tokens == good.tokens
        for one in together[1:]:
            assert one.finish_reason == "error"
            assert re.search(says, str(one.error)), one.error
    finally:
        lm.unregister(*stages)


@pytest.mark.parametrize(
    "written", ["top_k(-1)", "top_p(0.5, min_keep=0)", "min_tokens(-1)", "top_k(5 -> -3 over 3)", "own.counted(99)"]
)
def test_whole_numbers_keep_their_range_too(written: str) -> None:
    lm.register(Counted)
    try:
        with pytest.raises(StrategyError, match="out of range"):
            lm.Strategy.parse(written)
    finally:
        lm.unregister(Counted)


def test_a_forgotten_stream_leaves_the_engine_free(make_engine: Make) -> None:
    engine = make_engine()
    for _ in engine.stream("ab", "sample until max_tokens(50)"):
        break
    assert len(engine.generate("ab", "greedy until max_tokens(3)").tokens) == 3


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda e: e.generate("a\ud800b", "greedy"), "half a character at place 1"),
        (lambda e: e.generate("ab", "greedy", overrides="x"), "overrides are paths and values"),
        (lambda e: lm.Strategy.parse(3), "written as text, got int"),  # type: ignore[arg-type]
        (lambda e: lm.Strategy.parse("greedy").distribution([0.0, 1.0], prompt=3), "token ids, one list"),
        (lambda e: lm.top_k(3).as_("a b"), "a label is a name"),
        (lambda e: lm.signals.entropy < float("nan"), "is finite"),
        (lambda e: lm.register(3), "registers nothing"),
        (lambda e: lm.register(), "at least one"),
    ],
)
def test_odd_asks_have_one_clear_answer(make_engine: Make, ask: Any, says: str) -> None:
    with pytest.raises(lm.LogitmillError, match=says):
        ask(make_engine())


def test_huge_numbers() -> None:
    halves = lm.Strategy.parse("mix(1e308: { top_k(1) }, 1e308: { top_k(2) })").distribution([0.0, 0.0, 1.0])
    assert halves[0, 2] > 0.5
    assert float(halves.sum()) == pytest.approx(1.0)


def test_more_alternatives_than_tokens(make_engine: Make) -> None:
    found = make_engine().generate("ab", "sample until max_tokens(2)", logprobs=10**12)
    assert len(found.logprobs.raw[0].top) == 257


def test_a_third_partys_schedule_is_written_with_its_vendors_name() -> None:
    class Lateness(lm.Schedule, name="own.lateness"):
        """Nothing, and then all of it."""

        def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
            return torch.where(fraction < 1.0, start, end)

    lm.register(Lateness)
    try:
        strategy = lm.Strategy.parse("temperature(1.5 -> 0.5 over 2 by own.lateness) | sample")
        assert lm.Strategy.parse(strategy.to_text()) == strategy
        assert lm.Strategy.from_dict(strategy.to_dict()) == strategy
        laws = [strategy.distribution([1.0, 0.0], output=[0] * n) for n in (1, 2)]
        torch.testing.assert_close(laws[0], torch.tensor([[1 / 1.5, 0.0]]).softmax(-1))
        torch.testing.assert_close(laws[1], torch.tensor([[2.0, 0.0]]).softmax(-1))
        with pytest.raises(StrategyError, match=r"unknown schedule 'own\.latenes'"):
            lm.Strategy.parse("temperature(1.5 -> 0.5 over 2 by own.latenes) | sample")
    finally:
        lm.unregister(Lateness)
