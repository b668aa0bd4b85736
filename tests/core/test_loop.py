"""The loop: a request is an island. Whatever happens to one, the others give what they give alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

import logitmill as lm
from logitmill import LogitsProcessor, Sampler, StoppingCriterion, Strategy
from logitmill.core.dist import Dist
from logitmill.core.errors import ModelError, NumericalError, RequestError, StageError
from logitmill.core.state import HostState

Make = Callable[..., Any]
PLAIN = Strategy.parse("temperature(0.8) | top_k(40) | sample until max_tokens(20)")


class AtStep(LogitsProcessor, name="test.at_step"):
    """Does something at one step, in rows whose prompt begins with ``mark``."""

    step: int = 7
    mark: int = 65
    does: str = "raise"

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        due = (ctx.step == self.step) & (ctx.tokens[:, :1] == self.mark)
        if self.does == "raise":
            if bool(due.any()):
                raise ValueError("boom")
            return dist
        bad = {"nan": float("nan"), "inf": float("inf"), "none": float("-inf")}[self.does]
        return Dist(torch.where(due, bad, dist.logits), dist.ids, vocab_size=dist.vocab_size)


class AcceptRaises(LogitsProcessor, name="test.accept_raises"):
    mark: int = 65

    def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
        return dist

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Any) -> Any:
        if bool(((ctx.step == 8) & (ctx.tokens[:, :1] == self.mark)).any()):
            raise KeyError("accept")
        return state


class CriterionRaises(StoppingCriterion, name="test.criterion_raises"):
    mark: int = 65
    text: bool = False

    def check(self, ctx: Any) -> Tensor:
        if not self.text and bool(((ctx.step == 8) & (ctx.tokens[:, :1] == self.mark)).any()):
            raise RuntimeError("criterion")
        return torch.zeros_like(ctx.lengths, dtype=torch.bool)

    def check_text(self, text: str, ctx: Any) -> bool:
        if self.text and bool(((ctx.step == 8) & (ctx.tokens[:, :1] == self.mark)).any()):
            raise RuntimeError("criterion")
        return False


@functools.cache
def _alone(make_engine: Make, prompt: str, strategy: Strategy, seed: int) -> Any:
    return make_engine(rows=1).generate(prompt, strategy, seed=seed)


def alone(make_engine: Make, prompts: list[str], strategies: list[Any], seeds: list[int]) -> list[Any]:
    """What each request gives in an engine of its own."""
    return [_alone(make_engine, p, s, i) for p, s, i in zip(prompts, strategies, seeds, strict=True)]


STEP_FAULTS = {
    "apply": (AtStep() | PLAIN, StageError, "ValueError: boom", "test.at_step", 7),
    "accept": (AcceptRaises() | PLAIN, StageError, "accept", "test.accept_raises", 7),
    "check": (PLAIN.until(CriterionRaises()), StageError, "RuntimeError: criterion", "test.criterion_raises", 7),
    "check_text": (
        PLAIN.until(CriterionRaises(text=True)),
        StageError,
        "RuntimeError: criterion",
        "test.criterion_raises",
        7,
    ),
    "nan": (AtStep(does="nan") | PLAIN, NumericalError, "NaN", "test.at_step", 7),
    "inf": (AtStep(does="inf") | PLAIN, NumericalError, "inf", "test.at_step", 7),
    "none": (
        AtStep(does="none") | lm.sample().until(lm.max_tokens(20)),
        NumericalError,
        "no finite logit",
        "test.at_step",
        7,
    ),
}


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("what", list(STEP_FAULTS))
def test_one_row_of_four_fails_at_step_7(make_engine: Make, what: str, lookahead: bool) -> None:
    strategy, kind, says, stage, step = STEP_FAULTS[what]
    prompts = ["bcd", "Abc", "hello", "z"]  # the mark is byte 65 in the tokenizer's alphabet: see below
    engine = make_engine(lookahead=lookahead)
    mark = engine.tokenizer("A")["input_ids"][0]
    strategy = Strategy.of(strategy).with_({}) if mark == 65 else _marked(strategy, mark)
    together = engine.generate(prompts, strategy, seed=[1, 2, 3, 4])
    plain = alone(
        make_engine,
        prompts,
        [PLAIN if what != "none" else Strategy.parse("sample until max_tokens(20)")] * 4,
        [1, 2, 3, 4],
    )
    for i in (0, 2, 3):
        assert together[i].error is None
        assert together[i].tokens == plain[i].tokens
        assert together[i].finish_reason == "length"
    failed = together[1]
    assert failed.finish_reason == "error"
    assert type(failed.error) is kind
    assert says in str(failed.error)
    assert (failed.error.stage, failed.error.row) == (stage, 1)
    assert failed.error.step == step
    assert failed.tokens[:7] == plain[1].tokens[:7]
    assert plain[1].text.startswith(failed.text[: len(failed.text) - 1])
    with pytest.raises(kind):
        failed.raise_for_error()
    again = engine.generate("Abc", PLAIN, seed=2)  # and the engine goes on
    assert again.tokens == alone(make_engine, ["Abc"], [PLAIN], [2])[0].tokens


def _marked(strategy: Any, mark: int) -> Strategy:
    strategy = Strategy.of(strategy)
    steps = []
    for step in strategy.pipeline:
        stage = step.stage
        if "mark" in type(stage).model_fields:
            stage = type(stage)(**{**{f: getattr(stage, f) for f in type(stage).model_fields}, "mark": mark})
        steps.append(type(step)(stage, step.label))
    stop: Any = strategy.stop
    if hasattr(stop, "tests"):
        tests = [CriterionRaises(mark=mark, text=t.text) if isinstance(t, CriterionRaises) else t for t in stop.tests]
        stop = type(stop)(tuple(tests))
    return Strategy(tuple(steps), stop)


def test_a_criterion_that_raises_ends_no_row_that_has_another(make_engine: Make) -> None:
    """Stop tests are no part of a shape: rows with different ones share a call."""
    engine = make_engine()
    mark = engine.tokenizer("A")["input_ids"][0]
    strategies = [PLAIN, PLAIN.until(CriterionRaises(mark=mark)), PLAIN]
    results = engine.generate(["Abc", "Abc", "Abd"], strategies, seed=[1, 1, 2])
    assert [c.finish_reason for c in results] == ["length", "error", "length"]
    assert len(results[0].tokens) == len(results[2].tokens) == 20


# -- the model's own faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("lookahead", [False, True])
def test_logits_that_are_no_numbers_end_their_row_alone(
    make_engine: Make, small: Any, bad: float, lookahead: bool
) -> None:
    holder: list[Any] = []
    engine = make_engine(wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0], lookahead=lookahead)

    def spoil(call: int, logits: Tensor) -> Tensor:
        if call == 5:
            logits = logits.clone()
            logits[1, 17] = bad
        return logits

    holder[0].on_decode = spoil
    prompts, seeds = ["abc", "Abc", "hello", "z"], [1, 2, 3, 4]
    results = engine.generate(prompts, PLAIN, seed=seeds)
    plain = alone(make_engine, prompts, [PLAIN] * 4, seeds)
    assert [c.finish_reason for c in results] == ["length", "error", "length", "length"]
    error = results[1].error
    assert isinstance(error, NumericalError)
    assert (error.stage, error.step, error.row) == ("model", 5, 1)
    assert "the model itself gave it: load it with" in str(error)
    for i in (0, 2, 3):
        assert results[i].tokens == plain[i].tokens
    assert results[1].tokens == plain[1].tokens[:5]


def test_no_finite_logit_at_prefill(make_engine: Make, small: Any) -> None:
    holder: list[Any] = []
    engine = make_engine(wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0])
    holder[0].on_prefill = lambda tokens, logits: torch.full_like(logits, -torch.inf) if len(tokens) == 3 else logits
    good, bad = engine.generate(["abcd", "abc"], PLAIN, seed=[1, 2])
    assert good.finish_reason == "length"
    assert isinstance(bad.error, NumericalError)
    assert (bad.tokens, bad.text) == ((), "")


def test_a_processor_that_would_remove_everything_keeps_the_best(engine: Any) -> None:
    everything = lm.ban(*range(257))
    result = engine.generate("abc", everything | lm.sample().until(lm.max_tokens(8)), seed=1, trace=True)
    greedy = engine.generate("abc", "greedy until max_tokens(8)")
    assert result.tokens == greedy.tokens
    assert all(step.stages[0].rescued and step.stages[0].kept == 1 for step in result.trace)


@pytest.mark.parametrize("error", [RuntimeError("kaputt"), torch.OutOfMemoryError("too big"), MemoryError("no room")])
@pytest.mark.parametrize("lookahead", [False, True])
def test_a_decode_that_raises_ends_what_is_in_flight_and_no_more(
    make_engine: Make, small: Any, error: Exception, lookahead: bool
) -> None:
    holder: list[Any] = []
    engine = make_engine(
        rows=2, wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0], lookahead=lookahead
    )

    def fail(call: int, logits: Tensor) -> Tensor:
        if call == 6:
            raise error
        return logits

    holder[0].on_decode = fail
    prompts, seeds = ["abc", "Abc", "hello", "z"], [1, 2, 3, 4]
    results = engine.generate(prompts, PLAIN, seed=seeds)
    plain = alone(make_engine, prompts, [PLAIN] * 4, seeds)
    for i in (0, 1):
        assert results[i].finish_reason == "error"
        assert isinstance(results[i].error, ModelError)
        assert str(error) in str(results[i].error)
        assert 5 <= len(results[i].tokens) <= 6
        assert results[i].tokens == plain[i].tokens[: len(results[i].tokens)]
    for i in (2, 3):
        assert results[i].error is None
        assert results[i].tokens == plain[i].tokens
    assert engine.loop.batch.history.tokens.shape[0] == 0


@pytest.mark.parametrize("error", [RuntimeError("kaputt"), torch.OutOfMemoryError("too big")])
def test_a_prefill_that_raises_ends_its_request_alone(make_engine: Make, small: Any, error: Exception) -> None:
    holder: list[Any] = []
    engine = make_engine(wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0])

    def fail(tokens: Any, logits: Tensor) -> Tensor:
        if len(tokens) == 5:
            raise error
        return logits

    holder[0].on_prefill = fail
    prompts, seeds = ["abc", "hello", "z"], [1, 2, 3]
    results = engine.generate(prompts, PLAIN, seed=seeds)
    plain = alone(make_engine, prompts, [PLAIN] * 3, seeds)
    assert [c.finish_reason for c in results] == ["length", "error", "length"]
    assert isinstance(results[1].error, ModelError)
    assert [results[0].tokens, results[2].tokens] == [plain[0].tokens, plain[2].tokens]


def test_a_copy_that_raises_when_a_search_begins(make_engine: Make, small: Any) -> None:
    holder: list[Any] = []
    engine = make_engine(wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0])

    def fail() -> None:
        raise torch.OutOfMemoryError("too big")

    holder[0].on_copy = fail
    finished = []
    engine.loop.notify = lambda hook, event: finished.append(event) if hook == "on_finish" else None
    result = engine.generate("abc", "best_of(3) { sample } until max_tokens(5)", seed=1)
    assert isinstance(result.error, ModelError)
    assert len(finished) == 1
    assert not engine.loop.busy
    holder[0].on_copy = lambda: None
    assert engine.generate("abc", PLAIN, seed=1).error is None


@pytest.mark.parametrize("lookahead", [False, True])
def test_an_interrupt_leaves_the_engine_ready(make_engine: Make, small: Any, lookahead: bool) -> None:
    holder: list[Any] = []
    engine = make_engine(wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0], lookahead=lookahead)

    def interrupt(call: int, logits: Tensor) -> Tensor:
        if call == 4:
            raise KeyboardInterrupt
        return logits

    holder[0].on_decode = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.generate(["abc", "defg"], PLAIN, seed=1)
    assert not engine.loop.busy
    results = engine.generate(["abc", "defg"], PLAIN, seed=[1, 2])
    assert [c.tokens for c in results] == [c.tokens for c in alone(make_engine, ["abc", "defg"], [PLAIN] * 2, [1, 2])]


def test_interrupted_inside_a_stage(make_engine: Make) -> None:
    class Interrupts(LogitsProcessor, name="test.interrupts"):
        def apply(self, dist: Dist, state: Any, ctx: Any) -> Dist:
            if int(ctx.step[0]) == 3:
                raise KeyboardInterrupt
            return dist

    engine = make_engine()
    with pytest.raises(KeyboardInterrupt):
        engine.generate("abc", Interrupts() | PLAIN, seed=1)
    assert engine.generate("abc", PLAIN, seed=1).tokens == alone(make_engine, ["abc"], [PLAIN], [1])[0].tokens


# -- too much to ask ---------------------------------------------------------------------------------------------------


def test_a_prompt_too_long_is_that_requests_error_alone(make_engine: Make) -> None:
    engine = make_engine(max_length=40)
    long, edge, good = engine.generate(["x" * 40, "x" * 39, "abc"], "greedy until max_tokens(5)")
    assert isinstance(long.error, RequestError)
    assert "the prompt has 40 tokens, and a row holds 40" in str(long.error)
    assert (long.finish_reason, long.tokens) == ("error", ())
    assert (edge.finish_reason, edge.criterion, len(edge.tokens)) == ("length", "cache", 1)
    assert good.finish_reason == "length"
    assert good.error is None


@pytest.mark.parametrize("lookahead", [False, True])
def test_a_full_cache_ends_a_row_with_length(make_engine: Make, lookahead: bool) -> None:
    engine = make_engine(max_length=30, lookahead=lookahead)
    results = engine.generate(["x" * n for n in (5, 20, 28)], "greedy until last == 300")
    assert [(c.finish_reason, c.criterion, len(c.tokens)) for c in results] == [
        ("length", "cache", 30 - n) for n in (5, 20, 28)
    ]


def test_more_rows_than_there_are(make_engine: Make) -> None:
    engine = make_engine(rows=2)
    wide, good = engine.generate(["abc", "abc"], ["best_of(3) { sample } until max_tokens(3)", PLAIN], seed=1)
    assert isinstance(wide.error, RequestError)
    assert "max_rows=3" in str(wide.error)
    assert good.error is None


# -- company does not matter -------------------------------------------------------------------------------------------

MENU = [
    "temperature(0.8) | top_k(40) | sample until eos or max_tokens({n})",
    "temperature(1.4 -> 0.5 over 9 by cosine) | top_p(0.9) | sample until max_tokens({n})",
    "greedy until max_tokens({n})",
    'repetition(1.3) | min_p(0.05) | sample until max_tokens({n}) or stop("e")',
    "when entropy > 2 {{ temperature(0.7) | top_k(9) }} else {{ temperature(1.5) }} | sample until step >= {n}",
    "mix(0.6: {{ temperature(0.6) }}, 0.4: {{ top_p(0.5) }}) | sample until max_tokens({n})",
    "phases({{ temperature(2) | sample until max_tokens(4) }}, {{ greedy until max_tokens({n}) }})",
    "xtc(0.5, 0.1) | frequency(0.4) | typical(0.8) | sample until max_tokens({n})",
    "best_of(2) {{ temperature(0.9) | sample }} until max_tokens({n})",
    "temperature(0.3 + 0.2*entropy) | top_n_sigma(2) | sample until max_tokens({n})",
]


def request(rng: random.Random) -> tuple[str, str, int]:
    prompt = "".join(rng.choice("abc xyz\n") for _ in range(rng.randint(1, 30)))
    return prompt, rng.choice(MENU).format(n=rng.randint(1, 14)), rng.randrange(2**64)


def run_mixes(make_engine: Make, count: int, **options: Any) -> int:
    """Random batches of 8, one in four with a request that fails; how many gave every request what it gives alone."""
    rng = random.Random(20240)
    single, engine = make_engine(**options), make_engine(**options)
    pool = [request(rng) for _ in range(60)]
    expected = {r: single.generate(r[0], r[1], seed=r[2]) for r in pool}
    mark = engine.tokenizer("A")["input_ids"][0]
    right = 0
    for number in range(count):
        batch = [rng.choice(pool) for _ in range(8)]
        prompts, strategies, seeds = ([r[i] for r in batch] for i in range(3))
        failing = number % 4 == 0
        if failing:
            at = rng.randrange(8)
            prompts[at], strategies[at] = (
                "A" + prompts[at],
                AtStep(step=rng.randint(0, 6), mark=mark)
                | Strategy.parse("temperature(0.8) | sample until max_tokens(9)"),
            )
        results = engine.generate(prompts, strategies, seed=seeds)
        right += all(
            (failing and i == at and c.finish_reason == "error")
            or (c.tokens, c.text, c.finish_reason, c.criterion)
            == tuple(getattr(expected[r], f) for f in ("tokens", "text", "finish_reason", "criterion"))
            for i, (r, c) in enumerate(zip(batch, results, strict=True))
        )
    return right


@pytest.mark.parametrize("lookahead", [False, True])
def test_a_request_gives_the_same_in_any_company(make_engine: Make, full: bool, lookahead: bool) -> None:
    """200 of 200 with ``--full``."""
    mixes = 200 if full else 20
    assert run_mixes(make_engine, mixes, lookahead=lookahead) == mixes


def test_batch_invariance_is_to_the_bit(make_engine: Make) -> None:
    engine = make_engine(batch_invariant=True)
    requests = [request(random.Random(i)) for i in range(8)]
    asked = {"raw": 3, "final": 2}
    alone = [engine.generate(p, s, seed=i, logprobs=asked) for p, s, i in requests]
    together = engine.generate(*([r[i] for r in requests] for i in range(3)), logprobs=asked)
    for one, other in zip(alone, together, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == other.logprobs  # floats, compared exactly
        assert one.score == other.score


def test_a_queue_keeps_order_and_results(make_engine: Make) -> None:
    rng = random.Random(3)
    requests = [request(rng) for _ in range(20)]
    plain = make_engine()
    expected = [plain.generate(p, s, seed=i).tokens for p, s, i in requests]
    narrow = make_engine(rows=4)
    results = narrow.generate([r[0] for r in requests], [r[1] for r in requests], seed=[r[2] for r in requests])
    assert [c.tokens for c in results] == expected


# -- host objects ------------------------------------------------------------------------------------------------------


class Counter:
    """A host object that counts, in place, the tokens it was given."""

    def __init__(self, seen: tuple[int, ...] = ()) -> None:
        self.seen = list(seen)

    def clone(self) -> Counter:
        return Counter(tuple(self.seen))

    def rollback(self, tokens: int) -> None:
        del self.seen[len(self.seen) - tokens :]


class Matching(LogitsProcessor, name="test.matching"):
    """Bans the token it saw last, and fails where its object has not seen exactly the output."""

    needs: ClassVar[frozenset[str]] = frozenset({"history"})

    def init(self, ctx: Any) -> HostState:
        return HostState(Counter() for _ in range(ctx.rows))

    def apply(self, dist: Dist, state: HostState, ctx: Any) -> Dist:
        mask = torch.ones(dist.rows, dist.columns, dtype=torch.bool)
        for i, counter in enumerate(state):
            output = ctx.tokens[i, int(ctx.prompt_lengths[i]) : int(ctx.lengths[i])].tolist()
            assert counter.seen == output, (counter.seen, output)
            if counter.seen:
                mask[i] = dist.token_ids()[i] != counter.seen[-1]
        return dist.keep(mask)

    def accept(self, state: HostState, tokens: Tensor, dist: Dist, ctx: Any) -> HostState:
        for counter, token in zip(state, tokens[:, 0].tolist(), strict=True):
            counter.seen.append(token)
        return state


def test_host_objects_follow_their_rows_through_joins_ends_faults_and_forks(make_engine: Make) -> None:
    engine = make_engine(rows=4)
    mark = engine.tokenizer("A")["input_ids"][0]
    inner = Matching() | lm.temperature(0.9) | lm.sample()
    strategies: list[Any] = [inner.until(lm.max_tokens(n)) for n in (9, 3, 12, 5, 7)]
    strategies.append(
        (Matching() | AcceptRaises(mark=mark) | lm.temperature(0.9) | lm.sample()).until(lm.max_tokens(12))
    )
    strategies.append(
        (Matching() | AcceptRaises(mark=mark) | lm.temperature(0.9) | lm.sample()).until(lm.max_tokens(12))
    )
    strategies.append(Strategy.of(lm.best_of(3, block=inner)).until(lm.max_tokens(6)))
    prompts = ["abc", "b", "cd", "d", "efg", "Axx", "bxx", "bes"]
    results = engine.generate(prompts, strategies, seed=list(range(8)))
    assert [c.finish_reason for c in results] == ["length"] * 5 + ["error"] + ["length"] * 2
    for result in results:
        assert not isinstance(result.error, StageError) or result.error.stage == "test.accept_raises"
    single = make_engine()
    for i in (0, 1, 2, 3, 4, 6, 7):
        assert results[i].tokens == single.generate(prompts[i], strategies[i], seed=i).tokens


class Walk(NamedTuple):
    mu: Tensor


class Drifting(Sampler, name="test.drifting"):
    """A sampler whose state moves with each token: its law depends on all of them."""

    def init(self, ctx: Any) -> Walk:
        return Walk(torch.zeros(ctx.rows, 1))

    def law(self, dist: Dist, state: Walk, ctx: Any) -> Dist:
        return dist.with_logits(dist.logits / (0.5 + state.mu))

    def accept(self, state: Walk, tokens: Tensor, law: Dist, ctx: Any) -> Walk:
        return Walk((state.mu * 0.5 + (tokens % 7) * 0.1).float())


def test_states_follow_their_rows(make_engine: Make) -> None:
    engine, single = make_engine(rows=3), make_engine()
    strategies = [Strategy.of(Drifting()).until(lm.max_tokens(n)) for n in (4, 11, 6, 9, 3, 8, 5)]
    prompts = [letter * 3 for letter in "abcdefg"]
    results = engine.generate(prompts, strategies, seed=5)
    for i, result in enumerate(results):
        assert result.tokens == single.generate(prompts[i], strategies[i], seed=result.seed).tokens


# -- observers ---------------------------------------------------------------------------------------------------------


def test_observers_see_everything_once_and_their_faults_change_nothing(make_engine: Make) -> None:
    from logitmill import hookimpl
    from logitmill.core.loader import PluginWarning, plugins

    seen: dict[str, list[Any]] = {"on_request": [], "on_step": [], "on_finish": []}

    class Watcher:
        @hookimpl
        def on_request(self, request: Any) -> None:
            seen["on_request"].append(request)

        @hookimpl
        def on_step(self, step: Any) -> None:
            seen["on_step"].append(step)

        @hookimpl
        def on_finish(self, result: Any) -> None:
            seen["on_finish"].append(result)

    class Broken:
        @hookimpl
        def on_step(self, step: Any) -> None:
            raise ZeroDivisionError("observer")

    plugins().add(Watcher(), "test-watcher")
    plugins().add(Broken(), "test-broken")
    try:
        engine = make_engine(rows=4)
        strategies = [PLAIN, "best_of(3) { sample } until max_tokens(6)", "greedy until max_tokens(2)"]
        with pytest.warns(PluginWarning, match="observer of plugin 'test-broken' raised ZeroDivisionError"):
            results = engine.generate(["abc", "def", "x" * 300], strategies, seed=1)
    finally:
        plugins().remove("test-watcher")
        plugins().remove("test-broken")
    assert [c.finish_reason for c in results] == ["length", "length", "error"]
    assert len(seen["on_request"]) == 3
    assert len(seen["on_finish"]) == 3
    assert {id(c) for c in seen["on_finish"]} == {id(c) for c in results}
    first = [token for step in seen["on_step"] for request, row, token in step.tokens if request.index == 0]
    assert tuple(first) == results[0].tokens
    assert sum(len(step.tokens) for step in seen["on_step"]) == 20 + 3 * 6


def test_of_many_prompts_those_that_may_take_longest_go_first(make_engine: Make) -> None:
    engine = make_engine(rows=2)
    begun: list[int] = []
    join = engine.loop.batch.start
    engine.loop.batch.start = lambda request: (begun.append(request.index), join(request))[1]
    lengths = [2, 9, 4, 9, 1]
    strategies = [f"greedy until max_tokens({length})" for length in lengths]
    results = engine.generate([[i + 1, 2] for i in range(5)], strategies)
    assert begun == [1, 3, 2, 0, 4]
    assert [len(result.tokens) for result in results] == lengths
    del begun[:]
    engine.generate([[1], [2, 3], [3]], ["greedy until max_tokens(3) or max_tokens(50)", "greedy until eos", "greedy"])
    assert begun == [2, 1, 0], "as much as their room"
