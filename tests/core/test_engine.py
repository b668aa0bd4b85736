"""The engine: what may be asked, in what form, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import logitmill as lm
from logitmill import Scalar, Signal, Strategy
from logitmill.core.errors import RequestError, Span, StrategyError
from logitmill.core.rng import fold

Make = Callable[..., Any]
SAMPLE = "temperature(0.9) | sample until max_tokens({n})"


@pytest.fixture(scope="module")
def shared(make_engine: Make) -> Any:
    return make_engine()


def test_one_prompt_many_prompts_and_their_forms(shared: Any) -> None:
    ids = shared.vocab.encode("abc")
    one = shared.generate("abc", SAMPLE.format(n=5), seed=1)
    for prompt in (ids, tuple(ids), torch.tensor(ids)):
        assert shared.generate(prompt, SAMPLE.format(n=5), seed=1).tokens == one.tokens
    many = shared.generate(["abc", ids, torch.tensor(ids)], SAMPLE.format(n=5), seed=[1, 1, 1])
    assert [c.tokens for c in many] == [one.tokens] * 3
    assert shared.generate([], SAMPLE.format(n=5)) == []
    assert shared.generate(["abc"], SAMPLE.format(n=5), seed=1)[0].tokens == one.tokens
    assert one.prompt_tokens == tuple(ids)
    for strategy in (Strategy.parse(SAMPLE.format(n=5)), Strategy.parse(SAMPLE.format(n=5)).to_dict()):
        again = shared.generate("abc", strategy, seed=1)
        assert (again.tokens, again.strategy_hash) == (one.tokens, one.strategy_hash)


def test_seeds(shared: Any) -> None:
    s = SAMPLE.format(n=6)
    folded = shared.generate(["abc"] * 4, s, seed=9)
    assert [c.seed for c in folded] == [fold(9, i) for i in range(4)]
    assert folded[0].tokens == shared.generate("abc", s, seed=9).tokens
    listed = shared.generate(["abc"] * 3, s, seed=[7, 7, 8])
    assert [c.seed for c in listed] == [7, 7, 8]
    assert listed[0].tokens == listed[1].tokens
    free = shared.generate(["abc", "abc"], s)
    assert [shared.generate("abc", s, seed=c.seed).tokens for c in free] == [c.tokens for c in free]  # any output again
    assert shared.generate("abc", s).seed != shared.generate("abc", s).seed
    named = "temperature(0.9) | sample(seed=42) until max_tokens(6)"
    assert shared.generate("abc", named).seed == 42
    assert [c.seed for c in shared.generate(["a", "b"], named)] == [42, fold(42, 1)]
    assert shared.generate("abc", named, seed=3).seed == 3  # a request's own seed wins


def test_n_completions_of_each_prompt(shared: Any) -> None:
    s = SAMPLE.format(n=6)
    three = shared.generate("abc", s, seed=9, n=3)
    assert [c.seed for c in three] == [fold(9, i) for i in range(3)]
    assert three[0].tokens == shared.generate("abc", s, seed=9).tokens
    grid = shared.generate(["abc", "xy"], s, seed=[1, 2], n=2)
    assert [[c.seed for c in row] for row in grid] == [[1, fold(1, 1)], [2, fold(2, 1)]]
    assert all(
        c.prompt_tokens == tuple(shared.vocab.encode(p))
        for p, row in zip(["abc", "xy"], grid, strict=True)
        for c in row
    )


def test_strategies_and_overrides_for_each_prompt(shared: Any) -> None:
    strategies = [
        "greedy until max_tokens(2)",
        SAMPLE.format(n=3),
        {"dsl": 1, "main": {"pipeline": [{"stage": "greedy@1"}]}},
    ]
    results = shared.generate(["abc"] * 3, [*strategies[:2], "greedy until max_tokens(4)"], seed=1)
    assert [len(c.tokens) for c in results] == [2, 3, 4]
    heat = Strategy.parse("temperature(2) as heat | sample until max_tokens(8)")
    cold = shared.generate("abc", heat, seed=1, overrides={"heat.value": 0.0})
    greedy = shared.generate("abc", "greedy until max_tokens(8)")
    assert cold.tokens == greedy.tokens
    each = shared.generate(["abc"] * 2, heat, seed=[1, 1], overrides=[{"heat.value": 0}, {"max_tokens.n": 3}])
    assert each[0].tokens == greedy.tokens
    assert len(each[1].tokens) == 3
    assert each[0].strategy_hash != each[1].strategy_hash
    with pytest.raises(StrategyError, match="no stage 'cold' to patch"):
        shared.generate("abc", heat, overrides={"cold.value": 1})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda e: e.generate(3, "greedy"), "a prompt is text or token ids"),
        (lambda e: e.generate(None, "greedy"), "a prompt is text or token ids"),
        (lambda e: e.generate(["a", 3.5], "greedy"), "a prompt is text or token ids"),
        (lambda e: e.generate([1, 257], "greedy"), "no token id of a vocabulary of 257"),
        (lambda e: e.generate([-1], "greedy"), "no token id"),
        (lambda e: e.generate("", "greedy"), "the prompt is empty"),
        (lambda e: e.generate("a", "greedy", seed=-1), "a seed is an integer"),
        (lambda e: e.generate("a", "greedy", seed=True), "a seed is an integer"),
        (lambda e: e.generate(["a", "b"], "greedy", seed=[1]), "1 seeds for 2 prompts: give one seed, or a list"),
        (lambda e: e.generate(["a", "b"], ["greedy"]), "1 strategies for 2 prompts: give one for all, or"),
        (lambda e: e.generate(["a", "b"], "greedy", overrides=[None]), "1 overrides for 2 prompts"),
        (lambda e: e.generate("a", "greedy", n=0), "at least 1, got 0"),
        (lambda e: e.generate("a", "greedy", n=True), "at least 1, got True"),
        (lambda e: e.generate("a", "greedy", logprobs=-1), "logprobs is a number"),
        (lambda e: e.generate("a", "greedy", logprobs=True), "logprobs is a number"),
        (lambda e: e.generate("a", "greedy", logprobs={"cooked": 1}), "logprobs is a number"),
        (lambda e: e.chat("hello"), "messages are a list"),
        (lambda e: e.chat([]), "messages are a list"),
        (lambda e: e.score("abc", "x" * 300), "the cache holds 256"),
    ],
)
def test_wrong_arguments_raise_at_once(shared: Any, call: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        call(shared)
    assert not shared.loop.busy


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("topp(0.9) | sample", "unknown stage 'topp'"),
        ("top_k(5)", "fragment|sampler"),
        (3, "a strategy, a stage or a block is wanted"),
        ("greedy until stop_ids(9999)", "outside the vocabulary"),
        ("ban(9999) | greedy", "outside the vocabulary"),
        ("greedy until max_tokens(3) and not eos(9999)", "outside the vocabulary"),
    ],
)
def test_wrong_strategies_raise_at_once(shared: Any, strategy: Any, says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        shared.generate(["a", "b"], strategy)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("top_k(3) | ban(9999) | greedy", "ban(9999)"),
        ("when within(9999, 2) { greedy } else { sample }", "within(9999, 2)"),
        ("greedy until max_tokens(3) and not eos(9999)", "eos(9999)"),
    ],
)
def test_what_the_vocabulary_refuses_is_shown_in_the_text(shared: Any, text: str, part: str) -> None:
    with pytest.raises(StrategyError) as caught:
        shared.generate("a", text)
    where = caught.value.where
    assert isinstance(where, Span)
    assert text[where.start : where.end] == part


def test_a_stranger_whose_prepare_raises_is_named(shared: Any) -> None:
    class Unready(lm.LogitsProcessor, name="test.unready"):
        def prepare(self, vocab: Any) -> Any:
            raise KeyError("table")

    with pytest.raises(StrategyError, match=r"test\.unready.*KeyError.*table"):
        shared.generate("a", Unready() | lm.greedy())


def test_echo(shared: Any) -> None:
    plain = shared.generate("abc", "greedy until max_tokens(4)")
    assert shared.generate("abc", "greedy until max_tokens(4)", echo=True).text == "abc" + plain.text
    assert (
        shared.generate(shared.vocab.encode("abc"), "greedy until max_tokens(4)", echo=True).text == "abc" + plain.text
    )
    events = list(shared.stream("abc", "greedy until max_tokens(4)", echo=True))
    assert "".join(event.text for event in events) == events[-1].completion.text == "abc" + plain.text


def raw_logprobs(engine: Any, completion: Any) -> Any:
    tokens = torch.tensor([[*completion.prompt_tokens, *completion.tokens]])
    with torch.inference_mode():
        logits = engine.model(tokens).logits[0].float()
    return torch.log_softmax(logits[len(completion.prompt_tokens) - 1 : -1], -1)


def test_logprobs_are_those_of_a_plain_forward(shared: Any) -> None:
    s = "temperature(0.7) | top_k(5) | sample until max_tokens(12)"
    prompts = ["abc", "a much longer prompt", "x"]
    for completion in shared.generate(prompts, s, seed=4, logprobs={"raw": 3, "final": 8}):
        plain = raw_logprobs(shared, completion)
        assert len(completion.logprobs.raw) == len(completion.logprobs.final) == 12
        for place, (raw, final) in enumerate(zip(completion.logprobs.raw, completion.logprobs.final, strict=True)):
            token = completion.tokens[place]
            assert raw.token == final.token == token
            assert raw.logprob == pytest.approx(float(plain[place, token]), abs=1e-4)
            assert [i for i, _, _ in raw.top] == plain[place].topk(3).indices.tolist()
            assert [v for _, _, v in raw.top] == pytest.approx(plain[place].topk(3).values.tolist(), abs=1e-4)
            values, ids = plain[place].topk(5)
            law = torch.log_softmax(values / 0.7, -1)
            assert len(final.top) == 5  # what is removed is not listed
            assert final.logprob == pytest.approx(float(law[ids.tolist().index(token)]), abs=1e-4)
    assert shared.generate("abc", s, seed=4).logprobs is None
    chosen = shared.generate("abc", s, seed=4, logprobs=0).logprobs
    assert chosen.final is None
    assert all(item.top == () for item in chosen.raw)


def test_logprobs_with_a_search(shared: Any) -> None:
    result = shared.generate("abc", "best_of(3) { temperature(0.9) | sample } until max_tokens(6)", seed=2, logprobs=1)
    for candidate in result.candidates:
        plain = raw_logprobs(shared, candidate)
        got = [item.logprob for item in candidate.logprobs.raw]
        assert got == pytest.approx([float(plain[i, t]) for i, t in enumerate(candidate.tokens)], abs=1e-4)
        assert candidate.score == pytest.approx(sum(got) / len(got), abs=1e-4)


def test_score_is_a_plain_forward(shared: Any) -> None:
    before, after = shared.vocab.encode("abc and"), shared.vocab.encode(" then some")
    with torch.inference_mode():
        plain = torch.log_softmax(shared.model(torch.tensor([before + after])).logits[0].float(), -1)
    expected = [float(plain[len(before) - 1 + i, t]) for i, t in enumerate(after)]
    assert shared.score("abc and", " then some") == pytest.approx(expected, abs=1e-4)
    assert shared.score(before, after) == pytest.approx(expected, abs=1e-4)
    assert shared.score("abc", "") == []
    assert shared.score("abc", []) == []
    completion = shared.generate("abc", SAMPLE.format(n=5), seed=1, logprobs=0)
    assert shared.score("abc", list(completion.tokens)) == pytest.approx(
        [item.logprob for item in completion.logprobs.raw], abs=1e-4
    )


# -- searches ----------------------------------------------------------------------------------------------------------


class Vowels(Signal, name="test.vowels"):
    """Something to rank by: how many tokens of the output are even, against those of each row."""

    scale: Scalar = 1.0

    def read(self, dist: Any, ctx: Any) -> Any:
        counts = ctx.counts[:, ::2].sum(-1, keepdim=True)
        return counts.float() * self.scale


BY = ["mean_logprob", "sum_logprob", "-sum_logprob", "step"]


@pytest.mark.parametrize("by", BY)
def test_best_of_is_n_seeds_by_hand(shared: Any, by: str) -> None:
    inner, stop = "temperature(1.2) | top_k(30) | sample", "eos or max_tokens(9) or last in [1, 3, 5, 7, 9, 11, 13]"
    result = shared.generate("abc", f"best_of(4, by={by}) {{ {inner} }} until {stop}", seed=77)
    seeds = [77, *(fold(77, i, level=1) for i in range(1, 4))]
    hand = [shared.generate("abc", f"{inner} until {stop}", seed=seed, logprobs=0) for seed in seeds]

    def worth(c: Any) -> float:
        total = sum(item.logprob for item in c.logprobs.raw)
        return {
            "mean_logprob": total / len(c.tokens),
            "sum_logprob": total,
            "-sum_logprob": -total,
            "step": len(c.tokens),
        }[by]

    ranked = sorted(hand, key=worth, reverse=True)
    assert [c.tokens for c in result.candidates] == [c.tokens for c in ranked]
    assert [c.score for c in result.candidates] == pytest.approx([worth(c) for c in ranked], abs=1e-4)
    assert (result.tokens, result.text) == (ranked[0].tokens, ranked[0].text)
    assert (result.finish_reason, result.criterion) == (ranked[0].finish_reason, ranked[0].criterion)


def test_best_of_in_the_last_phase(shared: Any) -> None:
    first = "temperature(1.5) | sample until max_tokens(4)"
    text = f"phases({{ {first} }}, {{ best_of(3) {{ temperature(0.9) | sample }} until max_tokens(5) }})"
    result = shared.generate("abc", text, seed=5)
    assert result.error is None
    assert len(result.candidates) == 3
    start = shared.generate("abc", first, seed=5).tokens
    assert all(c.tokens[:4] == start and len(c.tokens) == 9 for c in result.candidates)
    assert len({c.tokens for c in result.candidates}) == 3
    scores = [c.score for c in result.candidates]
    assert scores == sorted(scores, reverse=True)


def test_searches_share_rows_with_others(make_engine: Make) -> None:
    engine, single = make_engine(rows=5), make_engine()
    strategies = ["best_of(3) { temperature(0.9) | sample } until max_tokens(7)", SAMPLE.format(n=9)] * 4
    results = engine.generate(["abc"] * 8, strategies, seed=list(range(8)))
    for i, result in enumerate(results):
        alone = single.generate("abc", strategies[i], seed=i)
        assert (result.tokens, len(result.candidates)) == (alone.tokens, len(alone.candidates))


def test_a_row_of_a_search_that_fails_comes_last(shared: Any) -> None:
    class Fails(lm.LogitsProcessor, name="test.fails"):
        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            if bool(((ctx.step == 3) & (ctx.last % 2 == 0)).any()):
                raise ValueError("even")
            return dist

    inner = Fails() | lm.temperature(2.0) | lm.sample()
    result = shared.generate("abc", Strategy.of(lm.best_of(6, block=inner)).until(lm.max_tokens(6)), seed=3)
    reasons = [c.finish_reason for c in result.candidates]
    assert reasons == sorted(reasons, key=lambda r: r == "error")
    assert {"error", "length"} == set(reasons)
    assert result.error is None


# -- streams and conversations -----------------------------------------------------------------------------------------


def test_a_stream_is_generate_bit_by_bit(shared: Any) -> None:
    whole = shared.generate("abc", SAMPLE.format(n=20), seed=6)
    stream = shared.stream("abc", SAMPLE.format(n=20), seed=6)
    events = list(stream)
    assert "".join(e.text for e in events) == whole.text
    assert stream.completion.tokens == whole.tokens
    assert [e.completion is None for e in events] == [True] * (len(events) - 1) + [False]
    assert events[-1].finish_reason == "length"


def test_a_search_streams_its_result_once(shared: Any) -> None:
    events = list(shared.stream("abc", "best_of(3) { sample } until max_tokens(5)", seed=1))
    assert [e.completion is not None for e in events].count(True) == 1
    assert "".join(e.text for e in events) == events[-1].completion.text


def test_a_stream_closed_early_gives_what_there_is(shared: Any) -> None:
    whole = shared.generate("abc", SAMPLE.format(n=20), seed=6)
    with shared.stream("abc", SAMPLE.format(n=20), seed=6) as stream:
        for _, event in zip(range(5), stream, strict=False):
            assert event.completion is None
    assert stream.completion.finish_reason == "cancelled"
    assert stream.completion.tokens == whole.tokens[:5]
    assert stream.close() is stream.completion
    assert not shared.loop.busy
    assert shared.generate("abc", SAMPLE.format(n=20), seed=6).tokens == whole.tokens


def test_one_call_at_a_time(shared: Any) -> None:
    stream = shared.stream("abc", SAMPLE.format(n=20), seed=6)
    next(stream)
    with pytest.raises(RequestError, match="in the middle of another call"):
        shared.generate("abc", "greedy until max_tokens(2)")
    assert stream.close().tokens
    assert shared.generate("abc", "greedy until max_tokens(2)").error is None


def test_a_conversation_reuses_what_the_cache_holds(make_engine: Make) -> None:
    engine, fresh = make_engine(), make_engine()
    messages = [{"role": "user", "content": "Hello there"}]
    reused = []
    for turn in range(3):
        answer = engine.chat(messages, SAMPLE.format(n=8), seed=turn)
        again = fresh.generate(fresh.templated(messages), SAMPLE.format(n=8), seed=turn)
        assert answer.tokens == again.tokens
        assert again.usage.reused_tokens == 0
        reused.append(answer.usage.reused_tokens)
        messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": f"And {turn}?"}]
    assert reused[0] == 0
    assert 0 < reused[1] < reused[2]
    events = list(engine.stream(messages, SAMPLE.format(n=8), seed=9))
    assert events[-1].completion.tokens == fresh.generate(fresh.templated(messages), SAMPLE.format(n=8), seed=9).tokens


def test_a_conversation_after_other_work_is_still_right(make_engine: Make) -> None:
    engine, fresh = make_engine(), make_engine()
    first = [{"role": "user", "content": "Hello there"}]
    engine.chat(first, SAMPLE.format(n=8), seed=0)
    engine.generate(["something else entirely"] * 8, SAMPLE.format(n=5), seed=1)
    more = [*first, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    assert (
        engine.chat(more, SAMPLE.format(n=8), seed=2).tokens
        == fresh.generate(fresh.templated(more), SAMPLE.format(n=8), seed=2).tokens
    )
    invariant = make_engine(batch_invariant=True)
    invariant.chat(first, SAMPLE.format(n=3), seed=0)
    assert invariant.chat(more, SAMPLE.format(n=3), seed=0).usage.reused_tokens == 0


def test_what_an_engine_says_of_itself(shared: Any) -> None:
    facts = shared.describe()
    assert (facts["max_rows"], facts["max_length"], facts["slotted"], facts["dtype"]) == (8, 256, True, "float32")
    assert "max_rows=8" in repr(shared)
    assert shared.default_strategy.complete


def test_a_reference_engine_gives_the_same(make_engine: Make, shared: Any) -> None:
    reference = make_engine(reference=True)
    for text in (
        SAMPLE.format(n=9),
        "temperature(1) | temperature(0.7) | top_k(9) | min_p(0.02) | sample until max_tokens(9)",
    ):
        assert reference.generate("abc", text, seed=3).tokens == shared.generate("abc", text, seed=3).tokens
