"""Stopping criteria by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError


def fires(bench: Any, criterion: Any, prompts: Any, outputs: Any, vocab: int = 9, **more: Any) -> list[bool]:
    dist = Dist(torch.zeros(max(len(prompts), 1), vocab))
    return bench.run(criterion, dist, bench.context(dist, prompts, outputs, **more))[:, 0].tolist()


def test_eos(bench: Any) -> None:
    prompts, outputs = [[1], [1], [2], [2], []], [[2], [3, 1], [1], [], [3]]
    assert fires(bench, bench.stage("eos"), prompts, outputs, eos=(2, 3)) == [True, False, False, False, True]
    assert fires(bench, bench.stage("eos", 1), prompts, outputs, eos=(2, 3)) == [False, True, True, False, False]
    assert fires(bench, bench.stage("eos"), prompts, outputs) == [False] * 5  # a model that has none
    assert bench.stage("eos").finish_reason == "eos"


def test_stop_ids(bench: Any) -> None:
    assert fires(bench, bench.stage("stop_ids", 4, 5), [[4], [0], [0]], [[5], [4, 0], []]) == [True, False, False]
    for ids in ([99], [-1], []):
        with pytest.raises(StrategyError):
            fires(bench, bench.stage("stop_ids", ids), [[0]], [[0]])
    with pytest.raises(StrategyError, match="outside the vocabulary"):
        fires(bench, bench.stage("eos", 99), [[0]], [[0]])


def test_bounds(bench: Any) -> None:
    prompts, outputs = [[0] * 5, [0], []], [[1], [1, 1], [1, 1, 1]]
    assert fires(bench, bench.stage("max_tokens", 2), prompts, outputs) == [False, True, True]
    assert fires(bench, bench.stage("max_length", 6), prompts, outputs) == [True, False, False]
    assert fires(bench, bench.stage("max_length", 3), prompts, outputs) == [True, True, True]
    for name in ("max_tokens", "max_length", "timeout"):
        assert bench.stage(name, 1).finish_reason == "length"
        with pytest.raises(StrategyError):
            bench.stage(name, 0)


def test_timeout(bench: Any) -> None:
    elapsed = [0.5, 1.0, 9.0]
    assert fires(bench, bench.stage("timeout", 1), [[0]] * 3, [[0]] * 3, elapsed=elapsed) == [False, True, True]


def cut(bench: Any, criterion: Any, text: str) -> str | None:
    """The text as the criterion leaves it, or None where it does not hold."""
    dist = Dist(torch.zeros(1, 9))
    at = criterion.check_text(text, bench.context(dist))
    return None if at is None else text[:at]


def test_stop_cuts_where_the_earliest_match_begins(bench: Any) -> None:
    stop = bench.stage("stop", "\n\n", "User:")
    assert cut(bench, stop, "hello\nworld") is None
    assert cut(bench, stop, "hello\n\nworld") == "hello"
    assert cut(bench, stop, "hi User: x\n\n") == "hi "
    assert cut(bench, stop, "User:") == ""
    assert cut(bench, bench.stage("stop", "bc", "abcd"), "xabcd") == "x"


def test_stop_with_include(bench: Any) -> None:
    stop = bench.stage("stop", "ab", "abc", include=True)
    assert cut(bench, stop, "xxabcd") == "xxab"  # what it would have been, had the text come letter by letter
    assert stop.held("xxa") == 0


@pytest.mark.parametrize(
    ("text", "held"),
    [("hello", 0), ("hello\n", 1), ("U", 1), ("User", 4), ("xUs", 2), ("UUser", 4), ("", 0), ("\nU", 1)],
)
def test_stop_holds_what_may_yet_be_cut(bench: Any, text: str, held: int) -> None:
    assert bench.stage("stop", "\n\n", "User:").held(text) == held


@given(
    text=st.text("abc", max_size=12),
    strings=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    data=st.data(),
)
def test_no_part_of_a_stop_string_is_ever_released(bench: Any, text: str, strings: list[str], data: Any) -> None:
    """Streamed in any pieces, what has been let go is a beginning of the final text."""
    stop, seen, released = bench.stage("stop", strings), "", ""
    while seen != text:
        seen = text[: len(seen) + data.draw(st.integers(1, 3))]
        left = cut(bench, stop, seen)
        if left is not None:
            assert left.startswith(released)
            assert not any(string in left for string in strings)
            return
        free = len(seen) - stop.held(seen)
        assert free >= len(released)
        released = seen[:free]
    assert not any(string in text for string in strings)


def test_a_stop_string_that_is_a_special_token(bench: Any) -> None:
    """The text does not show <|end|>; as a token it is seen, in the output alone."""
    dist, tokenizer = Dist(torch.zeros(3, 292)), bench.tokenizer()
    ctx = bench.context(dist, [[5], [0], [5]], [[0], [], [7]], tokenizer=tokenizer)
    assert bench.run(bench.stage("stop", "<|end|>", "x"), dist, ctx)[:, 0].tolist() == [True, False, False]
    assert bench.run(bench.stage("stop", "cat"), dist, ctx)[:, 0].tolist() == [False, False, False]


@pytest.mark.parametrize("bad", [[], [""], ["a", ""], [3]])
def test_stop_wants_texts(bench: Any, bad: list[Any]) -> None:
    with pytest.raises(StrategyError):
        bench.stage("stop", bad)


def test_stop_regex(bench: Any) -> None:
    stop = bench.stage("stop_regex", r"\n(User|System):")
    assert cut(bench, stop, "hi\nUser") is None
    assert cut(bench, stop, "hi\nSystem: x\nUser:") == "hi"
    assert cut(bench, bench.stage("stop_regex", r"\d{3}", include=True), "a1 b123456") == "a1 b123"
    with pytest.raises(StrategyError, match="not a regular expression"):
        bench.stage("stop_regex", "(")


def test_stop_regex_holds_what_could_yet_match(bench: Any) -> None:
    stop = bench.stage("stop_regex", r"\n(User|System):")
    for text, held in [("hi", 0), ("hi\n", 1), ("hi\nUs", 3), ("hi\nUx", 0), ("\n\nSystem", 7)]:
        assert stop.held(text) == held, text
    assert bench.stage("stop_regex", "ab+c", window=4).held("a" + "b" * 9) == 0  # too far back for the window
    assert bench.stage("stop_regex", "ab+c").held("xa" + "b" * 9) == 10
    assert bench.stage("stop_regex", "abc", include=True).held("ab") == 0


def test_stop_regex_sees_its_window(bench: Any) -> None:
    stop = bench.stage("stop_regex", r"a\d", window=3)
    assert cut(bench, stop, "xxa1") == "xx"
    assert cut(bench, stop, "a1xx") is None


def test_stop_regex_knows_the_start_of_the_text(bench: Any) -> None:
    """``^`` is the beginning of the text, not of the window."""
    stop = bench.stage("stop_regex", "^b", window=2)
    assert cut(bench, stop, "b") == ""
    assert cut(bench, stop, "aab") is None


@given(
    text=st.text("ab1", max_size=14),
    data=st.data(),
    pattern=st.sampled_from([r"a+b", r"\d\d", r"(a|b1)a", r"b[^a]b", r"a.?1"]),
)
def test_no_part_of_a_match_is_ever_released(bench: Any, text: str, data: Any, pattern: str) -> None:
    """Streamed letter by letter or in pieces, what has been let go is a beginning of the final text."""
    stop, seen, released = bench.stage("stop_regex", pattern), "", ""
    while seen != text:
        seen = text[: len(seen) + data.draw(st.integers(1, 3))]
        left = cut(bench, stop, seen)
        if left is not None:
            assert left.startswith(released)
            return
        released = seen[: len(seen) - stop.held(seen)]
