"""What only a tokenizer can tell: strings that no tokens make, tokens that are removed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.dsl.check import warnings
from logitmill.core.dsl.checks.spelling import Spelling
from logitmill.core.strategy import Strategy
from logitmill.core.vocab import Vocab


@pytest.fixture(scope="module")
def words() -> Any:
    """A tokenizer of whole words, and <unk> for all others."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<unk>": 0, "the": 1, "cat": 2, "sat": 3, "12": 4, "<end>": 5, "<think>": 6, "</think>": 7}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<end>")


def codes(text: str, tokenizer: Any) -> list[str]:
    return [warning.code for warning in Strategy.parse(text).check(tokenizer=tokenizer)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('sample until stop("User:") or max_tokens(9)', []),  # bytes make anything
        ('sample until stop("é😀") or max_tokens(9)', []),
        ('sample until stop("<|end|>") or max_tokens(9)', []),
        ('sample until stop("x<|end|>") or max_tokens(9)', ["unreachable-stop"]),
        ('sample until stop("</s>x") or max_tokens(9)', []),  # no special token of this one
        ('sample until stop("<think>x") or max_tokens(9)', []),  # added, but the text shows it
        ('sample until eos or stop("<|end|>") or max_tokens(9)', ["stop-is-eos"]),
        ('sample until eos or stop("</s>") or max_tokens(9)', []),
        (r'allow(r"[0-9]") | sample until stop("12") or max_tokens(9)', []),
        (r'allow(r"[0-9]") | sample until text("the") or max_tokens(9)', ["unreachable-stop"]),
        (r'ban(r"x") | sample until stop("x") or max_tokens(9)', ["unreachable-stop"]),
        (r'when entropy < 1 { ban(r"x") } | sample until stop("x") or max_tokens(9)', []),
        (r'ban(r"x") | sample until stop("y") or max_tokens(9)', []),
        ('ban("<|end|>") | sample until eos or max_tokens(9)', ["unreachable-stop"]),
        ('ban("<|end|>") | sample until stop("<|end|>") or max_tokens(9)', []),
        (r'allow(r"[0-9]") | sample until eos or max_tokens(9)', ["unreachable-stop"]),
        (r'allow(r"[0-9]", "<|end|>") | sample until eos or max_tokens(9)', []),
        ("allow(40, 41) | sample until eos or max_tokens(9)", ["unreachable-stop"]),
        ("allow(0, 40) | sample until eos or max_tokens(9)", []),
        ("min_tokens(3) | sample until eos or max_tokens(9)", []),
        ('sample until stop("abcdefghijklmnop") or max_tokens(9)', ["unreachable-stop"]),
        ('sample until stop("abcdefghi") or max_tokens(9)', []),
        ('sample until text("the cat sat however") or max_tokens(9)', []),  # a few tokens, whatever its length
        ('phases({ sample until text("abcdefghij") or max_tokens(9) }, { sample until max_tokens(99) })',
         ["unreachable-stop"]),
        ('when within("<think>", "</think>") { top_k(5) } | sample until max_tokens(9)', []),
        ('allow(40, 0) | when within("<think>", "</think>") { top_k(5) } | sample until max_tokens(9)',
         ["region-never-opens"]),
        (r'ban(r"\[") | sample until budget(3, "[", "]") or max_tokens(9)', ["region-never-opens"]),
        ("sample until budget(3, open=9999, close=1) or max_tokens(9)", ["region-never-opens"]),
        ("when entropy > 6 { top_k(5) } | sample until max_tokens(9)", ["constant-test"]),  # ln 320 is 5.8
        ("when kept > 320 { top_k(5) } | sample until max_tokens(9)", ["constant-test"]),
    ],
)  # fmt: skip
def test_a_tokenizer_of_bytes(bench: Any, text: str, found: list[str]) -> None:
    assert codes(text, bench.tokenizer()) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('sample until stop("the cat") or max_tokens(9)', []),  # it puts a space between two
        ('sample until stop("thecat") or max_tokens(9)', ["unreachable-stop"]),
        ('sample until stop("dog") or max_tokens(9)', ["unreachable-stop"]),
        ('sample until stop("he") or max_tokens(9)', []),
        ('sample until stop("at 1") or max_tokens(9)', []),
        ('ban(4) | sample until stop("at 1") or max_tokens(9)', ["unreachable-stop"]),
        ('when within("<think>", "</think>") { top_k(5) } | sample until max_tokens(9)', []),
        ('when within("[", "]") { top_k(5) } | sample until max_tokens(9)', ["region-never-opens"]),
    ],
)
def test_a_tokenizer_of_words(words: Any, text: str, found: list[str]) -> None:
    assert codes(text, words) == found


def test_a_vocabulary_of_its_own_size(bench: Any) -> None:
    """Logits may be more than the tokenizer has: what it does not know has no text and writes nothing."""
    strategy = Strategy.parse('ban("<|end|>") | sample until eos or stop("x") or max_tokens(9)')
    assert [w.code for w in warnings(strategy, vocab=Vocab(400, bench.tokenizer()))] == ["unreachable-stop"]
    assert [w.code for w in warnings(strategy, vocab=Vocab(400, bench.tokenizer(), (0, 399)))] == []


def test_what_cannot_be_prepared_is_not_judged(bench: Any) -> None:
    """It is an error when it is run, and says so there."""
    assert codes("ban(99999) | sample until eos or max_tokens(9)", bench.tokenizer()) == []
    assert codes(r'allow(r"no token has this") | sample until eos or max_tokens(9)', bench.tokenizer()) == []


PIECES = st.text("ab", min_size=1, max_size=3)


@given(tokens=st.lists(PIECES, min_size=1, max_size=5), string=st.text("ab", min_size=1, max_size=6))
def test_the_fewest_tokens_are_those_of_a_search(tokens: list[str], string: str) -> None:
    """Held against all sequences of up to four tokens; more of them the string cannot take (of six letters, no)."""
    found = Spelling(token.encode() for token in tokens).fewest(string.encode())
    level, wanted = {""}, None
    for count in range(1, 8):
        level = {(text + token)[-12:] for text in level for token in tokens}
        if any(string in text for text in level):
            wanted = count
            break
    assert found == wanted


def test_no_tokens_write_nothing() -> None:
    assert Spelling([]).fewest(b"a") is None
    assert Spelling([b""]).fewest(b"a") is None
