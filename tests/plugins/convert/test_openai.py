"""OpenAI requests: what the documentation says of them, restated, and back again."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import logitmill as lm
from logitmill.plugins.convert import openai
from logitmill.plugins.convert.conversion import ConversionError

VOCAB = 37
PROMPT, OUTPUT = [3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7]
CHAT = {"model": "some-model", "messages": [{"role": "user", "content": "Hi"}]}


def theirs(request: dict[str, Any], logits: Tensor, output: list[int]) -> Tensor:
    """Probabilities [V]: bias, penalties over what was sampled, temperature, the smallest set of at least top_p."""
    x = logits.double()
    for token, amount in request.get("logit_bias", {}).items():
        x[int(token)] += amount
    counts = torch.bincount(torch.tensor(output, dtype=torch.int64), minlength=VOCAB)
    x = x - counts * request.get("frequency_penalty", 0) - (counts > 0) * request.get("presence_penalty", 0)
    if request.get("temperature", 1) == 0:
        return torch.nn.functional.one_hot(x.argmax(), VOCAB).float()
    probs = (x / request.get("temperature", 1)).softmax(-1)
    order = probs.argsort(descending=True)
    before = probs[order].cumsum(-1) - probs[order]
    kept = order[before < request.get("top_p", 1)] if request.get("top_p", 1) < 1 else order
    law = torch.zeros(VOCAB, dtype=torch.float64)
    law[kept] = probs[kept]
    return (law / law.sum()).float()


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """Fields that the restated law knows, most of them left out."""
    return st.fixed_dictionaries(
        {},
        optional={
            "logit_bias": st.dictionaries(st.integers(0, VOCAB - 1).map(str), st.integers(-100, 100), max_size=3),
            "frequency_penalty": st.floats(-2, 2), "presence_penalty": st.floats(-2, 2),
            "temperature": st.one_of(st.just(0), st.floats(0.2, 2)), "top_p": st.floats(0.05, 1),
        },
    )  # fmt: skip


@settings(max_examples=50)
@given(requests(), st.integers(0, len(OUTPUT)))
def test_the_distribution_is_that_of_the_documentation(fields: dict[str, Any], generated: int) -> None:
    strategy = lm.convert_from("openai", CHAT | fields).strategy
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(3)) * 3
    ours = strategy.distribution(logits, PROMPT, OUTPUT[:generated])
    wanted = torch.stack([theirs(fields, row, OUTPUT[:generated]) for row in logits])
    torch.testing.assert_close(ours, wanted, rtol=2e-5, atol=1e-7)


ENDS = {"stop": ["\n", "x"], "max_completion_tokens": 5, "seed": 11, "best_of": 3}


@settings(max_examples=50)
@given(requests(), st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in ENDS.items()}))
def test_there_and_back(fields: dict[str, Any], ends: dict[str, Any]) -> None:
    strategy = lm.convert_from("openai", CHAT | {"max_tokens": 9} | fields | ends).strategy
    document = lm.convert_to("openai", strategy).document
    assert lm.convert_from("openai", document).strategy == strategy
    assert lm.convert_from("openai", openai.shown(document)).strategy == strategy


def text_of(**fields: Any) -> str:
    return lm.convert_from("openai", fields).strategy.to_text()


def test_a_chat_has_no_bound_and_a_completion_has_one() -> None:
    assert text_of(**CHAT) == "sample until eos"
    assert text_of(model="m", prompt="Once") == "sample until eos or max_tokens(16)"
    assert text_of(**CHAT, max_tokens=9) == "sample until eos or max_tokens(9)"
    read = lm.convert_from("openai", CHAT | {"max_tokens": 9, "max_completion_tokens": 5})
    assert read.strategy.to_text() == "sample until eos or max_tokens(5)"
    assert [item.field for item in read.unused] == ["max_tokens"]
    assert text_of(prompt="Once", best_of=3, max_tokens=7) == "best_of(3) { sample } until eos or max_tokens(7)"
    with pytest.raises(lm.StrategyError, match="best_of=0"):
        text_of(prompt="Once", best_of=0)


#: for each field that is carried over: a value that has to make a difference
EACH = ENDS | {
    "logit_bias": {"5": 1}, "frequency_penalty": 0.5, "presence_penalty": 0.5, "temperature": 0.5, "top_p": 0.5,
    "max_tokens": 9,
}  # fmt: skip
CANNOT = {
    "n": 2, "suffix": "x", "response_format": {"type": "json_object"}, "tools": [{}], "tool_choice": "required",
    "functions": [{}], "function_call": {"name": "f"}, "reasoning_effort": "high", "verbosity": "low",
    "web_search_options": {"a": 1}, "audio": {"voice": "x"}, "modalities": ["text", "audio"], "moderation": {"a": 1},
}  # fmt: skip


def test_each_field_has_a_value_here(every_field: Any) -> None:
    every_field(openai, EACH, CANNOT)


@pytest.mark.parametrize("field", EACH)
def test_what_is_carried_makes_a_difference(field: str) -> None:
    assert text_of(**{field: EACH[field]}) != text_of()


@pytest.mark.parametrize("field", CANNOT)
def test_what_is_not_carried_is_an_error_and_with_lossy_a_line(left_out: Any, field: str) -> None:
    left_out("openai", {field: CANNOT[field]}, field, "sample until eos")


def test_values_that_say_nothing_are_let_through() -> None:
    calm = {
        "n": 1, "response_format": {"type": "text"}, "tools": [], "tool_choice": "none", "modalities": ["text"],
        "stream": True, "user": "me", "logprobs": True, "top_logprobs": 5, "stop": None, "max_tokens": None,
    }  # fmt: skip
    assert lm.convert_from("openai", CHAT | calm) == lm.convert_from("openai", CHAT)


def test_what_compatible_servers_add_is_not_openais() -> None:
    with pytest.raises(ConversionError, match="top_k=5: unknown to openai"):
        lm.convert_from("openai", CHAT | {"top_k": 5})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top_k(40) | sample", "no such stage"),
        ("top_p(0.9) | temperature(0.5) | sample", "always runs temperature before top_p"),
        ("temperature(2.5) | sample", "from 0 to 2"),
        ("presence(0.5, window=64) | sample", "all of it"),
        ("bias([5: 300.0]) | sample", "from -100 to 100"),
        ('bias(["yes": 3.0]) | sample', "by its id"),
        ("temperature(0.5) | greedy", "greedy is the same without"),
        ("sample until max_tokens(9)", "end of sequence too"),
        ('sample until eos or stop("a", "b", "c", "d", "e")', "at most 4"),
        ('sample until eos or stop("a", include=true)', "never leaves a stop string"),
        ("sample until eos or stop_ids(5)", "no such criterion"),
        ("best_of(3) { sample } until eos", "after 16 tokens"),
        ("best_of(3, by=sum_logprob) { sample } until eos or max_tokens(9)", "ends in nothing like it"),
    ],
)
def test_what_openai_cannot_be_told_is_said(text: str, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_to("openai", text)
    assert says in str(caught.value)
    assert len(caught.value.left_out) == 1
    lm.convert_from("openai", lm.convert_to("openai", text, lossy=True).document)


@pytest.mark.parametrize("source", [5, "not json", "[1, 2]"])
def test_what_is_no_request(source: Any) -> None:
    with pytest.raises(lm.StrategyError, match="openai"):
        lm.convert_from("openai", source)
