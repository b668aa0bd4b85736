"""Stop tests: which rows end, when, why, and what of their text comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import logitmill as lm
from logitmill import StoppingCriterion, Strategy, signals

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def shared(make_engine: Make) -> Any:
    return make_engine()


def spoken(engine: Any, text: str, until: str) -> Any:
    """The completion of a strategy that says ``text``, byte by byte, and then dots."""
    return engine.generate("say: ", f"{forced(engine, text)} | greedy until {until}")


def forced(engine: Any, text: str) -> str:
    """Stages that make greedy say exactly this text: one `when` a step."""
    ids = engine.vocab.encode(text)
    dot = engine.vocab.encode(".")[0]
    stages = [f"when step == {i} {{ allow({token}) }}" for i, token in enumerate(ids)]
    return " | ".join([*stages, f"when step >= {len(ids)} {{ allow({dot}) }}"])


CASES = [
    ("abc", "max_tokens(2)", "ab", "length", "max_tokens"),
    ("abc", "max_length(8)", "abc", "length", "max_length"),
    ("abXcd", 'stop("X") or max_tokens(9)', "ab", "stop", "stop"),
    ("abXYcd", 'stop("XY") or max_tokens(9)', "ab", "stop", "stop"),
    ("abXYcd", 'stop("XY", include=true) or max_tokens(9)', "abXY", "stop", "stop"),
    ("abXcd", 'stop("q", "X") or max_tokens(9)', "ab", "stop", "stop"),
    ("ab12cd", 'stop_regex(r"[0-9]+c") or max_tokens(9)', "ab", "stop", "stop_regex"),
    ("abXcd", 'max_tokens(3) or stop("X")', "ab", "stop", "stop"),  # both at once: what a stop cuts does not come out
    ("abcd", "step >= 3", "abc", "stop", "step >= 3"),
    ("abcd", 'tail ~ r"c$"', "abc", "stop", 'tail ~ r"c$"'),  # the text a condition reads has the newest token
    ("abcdef", "max_tokens(2) and step >= 4", "abcd", "stop", None),
    # the first X held and did not end the row
    ("aXbX", 'stop("X") and step >= 4 or max_tokens(9)', "aXb", "stop", None),
    ("a<b>X</b>Xc", 'stop("X") and not within("<b>", "</b>") or max_tokens(20)', "a<b>X</b>", "stop", None),
    ("abc", "not step < 2", "ab", "stop", "not step < 2"),
    ("é1", 'stop("é") or max_tokens(9)', "", "stop", "stop"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "until", "out", "reason", "criterion"), CASES)
def test_by_hand(shared: Any, text: str, until: str, out: str, reason: str, criterion: str | None) -> None:
    result = spoken(shared, text, until)
    assert result.error is None
    assert (result.text, result.finish_reason) == (out, reason)
    if criterion is not None:
        assert result.criterion == criterion


def test_eos_and_its_absence(shared: Any) -> None:
    eos = shared.vocab.eos_ids[0]
    end = f"when step == 3 {{ allow({eos}) }}"
    default = shared.generate("abc", f"{end} | greedy")
    assert (default.finish_reason, default.criterion, len(default.tokens)) == ("eos", "eos", 4)
    named = shared.generate("abc", f"{end} | greedy until eos or max_tokens(9)")
    assert (named.finish_reason, named.tokens) == ("eos", default.tokens)
    assert "<eos>" not in named.text
    unasked = shared.generate("abc", f"{end} | greedy until max_tokens(6)")
    assert (unasked.finish_reason, len(unasked.tokens)) == ("length", 6)
    ids = shared.generate("abc", f"{end} | greedy until stop_ids({eos}) or max_tokens(9)")
    assert (ids.finish_reason, ids.criterion, ids.tokens[-1]) == ("stop", "stop_ids", eos)


def test_a_timeout_is_a_bound(shared: Any) -> None:
    result = shared.generate("abc", "greedy until timeout(0.000001) or max_tokens(50)")
    assert (result.finish_reason, result.criterion, len(result.tokens)) == ("length", "timeout", 1)


def test_phases_count_and_read_from_their_own_start(shared: Any) -> None:
    text = "abXcdXefX"
    pipe = forced(shared, text)

    def run(*untils: str) -> Any:
        blocks = ", ".join(f"{{ {pipe} | greedy until {until} }}" for until in untils)
        return shared.generate("say: ", f"phases({blocks})")

    assert run("max_tokens(2)", "max_tokens(3)").text == "abXcd"
    assert run('stop("X")', 'stop("X") or max_tokens(20)').text == "abXcd"  # each phase looks at its own text
    assert run('stop("X")', "step >= 4", 'stop("X") or max_tokens(9)').text == "abXcdXef"
    last = run("step >= 3", 'stop("dX") or max_tokens(20)')
    assert (last.text, last.finish_reason, last.criterion) == ("abXc", "stop", "stop")


def test_the_strategys_own_test_holds_in_every_phase_and_remembers(shared: Any) -> None:
    text = "aXbcdX."
    pipe = forced(shared, text)
    whole = f"phases({{ {pipe} | greedy until step >= 3 }}, {{ {pipe} | greedy until max_tokens(20) }})"
    # the first X came while step < 3 and did not end the row: moving on to the next phase must not find it again
    result = shared.generate("say: ", f'{whole} until stop("X") and step >= 3')
    assert result.text == "aXbcd"
    both = shared.generate("say: ", f"{whole} until max_tokens(5)")
    assert (both.text, both.finish_reason) == ("aXbcd", "length")


def test_rows_move_on_each_in_their_own_time(make_engine: Make) -> None:
    engine = make_engine()
    strategies = [
        f"phases({{ temperature(2) | sample until max_tokens({a}) }}, {{ greedy until max_tokens({b}) }})"
        for a, b in [(1, 5), (4, 2), (4, 7), (2, 1), (4, 4), (3, 3)]
    ]
    together = engine.generate(["abc"] * 6, strategies, seed=list(range(6)))
    for i, result in enumerate(together):
        assert result.error is None
        assert result.tokens == make_engine(rows=1).generate("abc", strategies[i], seed=i).tokens


# -- streaming ---------------------------------------------------------------------------------------------------------

letters = st.text("abX é世", max_size=14)
stops = st.lists(st.text("abX é世", min_size=1, max_size=4), min_size=1, max_size=3)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def cut_of(text: str, strings: list[str]) -> int:
    """Where the text ends: at the string that is complete first, the earliest of several that are."""
    for end in range(len(text) + 1):
        found = [at for string in strings if (at := text[:end].find(string)) >= 0]
        if found:
            return min(found)
    return len(text)


@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(letters, stops)
def test_pieces_join_to_the_text_and_hold_no_part_of_a_stop(shared: Any, text: str, strings: list[str]) -> None:
    """Over every border: the tokens are bytes, so characters and stop strings all span several."""
    until = f"stop({', '.join(map(quoted, strings))}) or max_tokens({len(text.encode()) + 1})"
    events = list(shared.stream("say: ", f"{forced(shared, text)} | greedy until {until}"))
    whole = text + "."
    cut = cut_of(whole, strings)
    completion = events[-1].completion
    assert completion.text == whole[:cut]
    assert "".join(event.text for event in events) == completion.text
    assert all("\ufffd" not in event.text for event in events)
    assert [event.completion for event in events[:-1]] == [None] * (len(events) - 1)


@settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**64 - 1), stops)
def test_random_bytes_never_stream_half_a_character(shared: Any, seed: int, strings: list[str]) -> None:
    until = f"stop({', '.join(map(quoted, strings))}) or max_tokens(24)"
    stream = shared.stream("abc", f"temperature(2) | sample until {until}", seed=seed)
    pieces = [event.text for event in stream]
    completion = stream.completion
    assert "".join(pieces) == completion.text
    decoded = shared.tokenizer.decode(completion.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert completion.text == decoded[: cut_of(decoded, strings)]


class HeldRaises(StoppingCriterion, name="test.held_raises"):
    def check_text(self, text: str, ctx: Any) -> None:
        return None

    def held(self, text: str) -> int:
        raise ValueError("held")


def test_a_criterion_whose_held_raises_ends_its_row_alone(make_engine: Make) -> None:
    engine = make_engine()
    plain = Strategy.parse("greedy until max_tokens(5)")
    good, bad = engine.generate(["abc", "abd"], [plain, plain.until(HeldRaises())])
    assert (good.finish_reason, len(good.tokens)) == ("length", 5)
    assert (bad.finish_reason, bad.error.stage) == ("error", "until")


class ReadsCounts(StoppingCriterion, name="test.reads_counts"):
    """Ends when some token has come twice. The only one who ever asks for counts."""

    def check(self, ctx: Any) -> Tensor:
        return (ctx.counts >= 2).any(-1, keepdim=True)


def test_a_criterion_that_alone_reads_counts_sees_every_token(shared: Any) -> None:
    text = "abcdefa"
    strategy = Strategy.parse(f"{forced(shared, text)} | greedy").until(ReadsCounts())
    result = shared.generate("say: ", strategy)
    assert (result.text, result.criterion) == (text, "test.reads_counts")


def test_conditions_from_python_stop_too(shared: Any) -> None:
    result = shared.generate("abc", lm.greedy().until((signals.step >= 3).and_(signals.step < 9)))
    assert len(result.tokens) == 3
