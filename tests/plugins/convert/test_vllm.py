"""vLLM's SamplingParams: its v1 sampler restated, its defaults, and back again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import logitmill as lm
from logitmill.plugins.convert import vllm
from logitmill.plugins.convert.conversion import ConversionError

VOCAB, INF, EOS = 43, float("inf"), 2
PROMPT, OUTPUT = [3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7]


def theirs(p: dict[str, Any], logits: Tensor, output: list[int]) -> Tensor:
    """Probabilities [V] of one request, by the order and the formulas of the v1 sampler."""
    x = logits.clone()
    if p.get("allowed_token_ids"):
        kept = torch.zeros(VOCAB, dtype=torch.bool)
        kept[p["allowed_token_ids"]] = True
        x[~kept] = -INF
    if len(output) < p.get("min_tokens", 0):
        x[[EOS, *p.get("stop_token_ids", [])]] = -INF
    for token, amount in p.get("logit_bias", {}).items():
        x[int(token)] += amount
    in_output = torch.bincount(torch.tensor(output, dtype=torch.int64), minlength=VOCAB)
    seen = (in_output > 0) | (torch.bincount(torch.tensor(PROMPT), minlength=VOCAB) > 0)
    factor = torch.where(seen, p.get("repetition_penalty", 1.0), 1.0)
    x = torch.where(x > 0, x / factor, x * factor)
    x = x - p.get("frequency_penalty", 0.0) * in_output - p.get("presence_penalty", 0.0) * (in_output > 0)
    temperature = p.get("temperature", 1.0)
    if temperature == 0:
        return torch.nn.functional.one_hot(x.argmax(), VOCAB).float()
    x = x / max(temperature, 0.01)
    if p.get("min_p"):
        probs = x.softmax(-1)
        x[probs < p["min_p"] * probs.max()] = -INF
    ascending, index = x.sort()
    if p.get("top_k", 0) > 0:
        ascending[ascending < ascending[-min(p["top_k"], VOCAB)]] = -INF
    if p.get("top_p", 1.0) < 1:
        gone = ascending.softmax(-1).cumsum(-1) <= 1 - torch.tensor(p["top_p"])
        gone[-1] = False
        ascending[gone] = -INF
    return torch.empty(VOCAB).scatter(0, index, ascending).softmax(-1)


def params() -> st.SearchStrategy[dict[str, Any]]:
    """Fields that the restated sampler knows, most of them left out."""
    token = st.integers(0, VOCAB - 1)
    return st.fixed_dictionaries(
        {},
        optional={
            "allowed_token_ids": st.lists(token, min_size=6, max_size=30, unique=True), "min_tokens": st.integers(0, 9),
            "stop_token_ids": st.lists(token, max_size=3, unique=True),
            "logit_bias": st.dictionaries(token.map(str), st.floats(-5, 5), max_size=3),
            "repetition_penalty": st.floats(0.5, 2), "frequency_penalty": st.floats(-2, 2),
            "presence_penalty": st.floats(-2, 2), "temperature": st.one_of(st.just(0.0), st.floats(0.2, 2)),
            "min_p": st.floats(0, 0.5), "top_k": st.integers(-1, 60), "top_p": st.floats(0.05, 1),
        },
    )  # fmt: skip


@settings(max_examples=60)
@given(params(), st.integers(0, len(OUTPUT)))
def test_the_distribution_is_that_of_the_sampler(bench: Any, fields: dict[str, Any], generated: int) -> None:
    strategy = lm.convert_from("vllm", fields).strategy
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(3)) * 3
    ours = bench.law(strategy, logits, PROMPT, OUTPUT[:generated], eos=(EOS,)).dense().probs
    wanted = torch.stack([theirs(fields, row, OUTPUT[:generated]) for row in logits])
    assert torch.equal(ours > 0, wanted > 0)
    torch.testing.assert_close(ours, wanted, rtol=2e-5, atol=1e-7)


def test_ties_with_the_kth_stay(bench: Any) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0]])
    assert (bench.law(lm.convert_from("vllm", {"top_k": 2}).strategy, logits).dense().probs > 0).sum() == 4


def text_of(**fields: Any) -> str:
    return lm.convert_from("vllm", fields).strategy.to_text()


def test_the_defaults_are_written_out() -> None:
    assert text_of() == "sample until eos or max_tokens(16)"
    assert text_of(max_tokens=None) == "sample until eos"
    assert text_of(top_k=-1, top_p=1.0, min_p=0.0, seed=-1, n=1) == text_of()
    assert text_of(ignore_eos=True) == "sample until max_tokens(16)"
    assert text_of(seed=7, max_tokens=5) == "sample(seed=7) until eos or max_tokens(5)"


def test_cold_and_very_cold() -> None:
    assert text_of(temperature=0, max_tokens=None) == "greedy until eos"
    read = lm.convert_from("vllm", {"temperature": 0.001, "max_tokens": None})
    assert read.strategy.to_text() == 'temperature(0.01, dialect="vllm") | sample until eos'
    assert [str(item) for item in read.unused] == ["temperature=0.001: vLLM raises it to 0.01"]
    assert [i.field for i in lm.convert_from("vllm", {"temperature": 0, "top_k": 5, "seed": 3}).unused] == [
        "top_k",
        "seed",
    ]


def test_what_ends_a_row() -> None:
    assert text_of(stop="x", stop_token_ids=[7], max_tokens=None) == 'sample until eos or stop_ids(7) or stop("x")'
    late = text_of(stop=["x", "y"], min_tokens=4, include_stop_str_in_output=True, max_tokens=None)
    assert late == 'min_tokens(4) | sample until eos or stop("x", "y", include=true) and step > 4'
    loops = text_of(repetition_detection={"max_pattern_size": 6, "min_count": 3}, max_tokens=None)
    assert loops == "sample until eos or loop(n=6, times=3)"


ENDS = {
    "stop": ["\n", "x"], "stop_token_ids": [7, 8], "include_stop_str_in_output": True, "ignore_eos": True,
    "max_tokens": 5, "min_tokens": 3, "seed": 11,
    "repetition_detection": {"max_pattern_size": 6, "min_count": 3},
}  # fmt: skip


@settings(max_examples=60)
@given(params(), st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in ENDS.items()}))
def test_there_and_back(fields: dict[str, Any], ends: dict[str, Any]) -> None:
    strategy = lm.convert_from("vllm", fields | ends).strategy
    document = lm.convert_to("vllm", strategy).document
    assert lm.convert_from("vllm", document).strategy == strategy
    assert lm.convert_from("vllm", vllm.shown(document)).strategy == strategy
    assert lm.convert_from("vllm", SimpleNamespace(**document)).strategy == strategy


#: for each field that is carried over: a value that has to make a difference
EACH = ENDS | {
    "allowed_token_ids": [4, 5], "bad_words": ["foo"], "logit_bias": {"5": 1.0}, "repetition_penalty": 1.2,
    "frequency_penalty": 0.2, "presence_penalty": 0.2, "temperature": 0.5, "min_p": 0.1, "top_k": 5, "top_p": 0.5,
}  # fmt: skip
CANNOT = {
    "n": 2, "best_of": 3, "use_beam_search": True, "length_penalty": 0.5, "early_stopping": True,
    "structured_outputs": {"regex": "x"}, "guided_decoding": {"regex": "x"}, "thinking_token_budget": 100,
    "logits_processors": [len], "extra_args": {"a": 1}, "trace_decode_token_ids": [1], "truncate_prompt_tokens": 9,
}  # fmt: skip


def test_each_field_has_a_value_here(every_field: Any) -> None:
    every_field(vllm, EACH, CANNOT)


@pytest.mark.parametrize("field", EACH)
def test_what_is_carried_makes_a_difference(field: str) -> None:
    base = {"stop": "x"} if field == "include_stop_str_in_output" else {}
    one, other = (lm.convert_from("vllm", base | more, lossy=True).strategy for more in ({}, {field: EACH[field]}))
    assert one != other


@pytest.mark.parametrize("field", CANNOT)
def test_what_is_not_carried_is_an_error_and_with_lossy_a_line(left_out: Any, field: str) -> None:
    left_out("vllm", {field: CANNOT[field]}, field, text_of())


def test_bad_words_are_carried_nearly_and_that_is_said() -> None:
    with pytest.raises(ConversionError, match="one tokenization"):
        lm.convert_from("vllm", {"bad_words": ["foo"]})
    read = lm.convert_from("vllm", {"bad_words": ["foo"]}, lossy=True)
    assert read.strategy.pipeline[0].stage == lm.bad_words("foo")
    assert lm.convert_to("vllm", read.strategy, lossy=True).document["bad_words"] == ["foo"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"temperature": -1}, "0 or more"), ({"top_k": "x"}, "a whole number"), ({"top_p": 0}, "above 0"),
        ({"top_p": 7, "min_p": 3}, "min_p"),
        ({"logit_bias": {"yes": 1}}, "logit_bias"), ({"stop": 5}, "a text"), ({"stop": [""]}, "stop"),
        ({"ignore_eos": "no"}, "true or false"), ({"max_tokens": 0}, "max_tokens"),
        ({"stop_token_ids": ["a"]}, "token id"), ({"repetition_detection": 3}, "an object with fields"),
        ({"repetition_detection": {"max_pattern_size": "x"}}, "whole numbers"),
    ],
)  # fmt: skip
def test_what_vllm_would_refuse_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(lm.StrategyError, match=says) as caught:
        lm.convert_from("vllm", fields, lossy=True)
    assert not isinstance(caught.value, ConversionError)


@pytest.mark.parametrize("source", [5, object(), "[1]", SimpleNamespace(colour=3)])
def test_what_is_no_sampling_params(source: Any) -> None:
    with pytest.raises(lm.StrategyError, match="vllm"):
        lm.convert_from("vllm", source)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top_p(0.9) | temperature(0.5) | sample", "always runs temperature before top_p"),
        ("top_k(40) | sample", "ties with the k-th"),
        ("temperature(0.5) | greedy", "greedy is the same without"),
        ("temperature(0.001) | sample", "at least 0.01"),
        ("top_p(0) | sample", "above 0"),
        ("presence(0.5, over=all) | sample", "looks at the output"),
        ("frequency(2.5) | sample", "from -2 to 2"),
        ("top_p(0.9, min_keep=2) | sample", "min_keep"),
        ("min_tokens(4) | min_tokens(5, ids=[3]) | sample", "both for the same number"),
        ('min_tokens(4) | sample until eos or stop("x")', "write it 'and step > 4'"),
        ('sample until eos or stop("x") and step > 4', "no such test"),
        ("sample until eos(3)", "in stop_ids"),
        ("sample until eos or max_length(9)", "no such criterion"),
        ('sample until stop("x") or stop("y", include=true)', "or none"),
        ("bad_words(5) | sample", "as texts alone"),
        ("allow(r\"[0-9]\") | sample", "by their ids alone"),
        ("gumbel", "ends in nothing like it"),
        ("quadratic(0.2) | sample", "no such stage"),
    ],
)  # fmt: skip
def test_what_vllm_cannot_be_told_is_said(text: str, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_to("vllm", text)
    assert says in str(caught.value)
    lm.convert_from("vllm", lm.convert_to("vllm", text, lossy=True).document, lossy=True)


def test_a_top_k_in_front_of_the_temperature_goes_over() -> None:
    text = 'top_k(40, dialect="vllm") | temperature(0.5) | top_p(0.9) | sample'
    assert lm.convert_to("vllm", text).document == {
        "ignore_eos": False, "max_tokens": None, "top_k": 40, "temperature": 0.5, "top_p": 0.9,
    }  # fmt: skip
