"""Warnings: each code has texts that earn it, texts that do not, and golden words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logitmill import LogitsProcessor, Sampler
from logitmill.core.dsl.check import CODES, warnings
from logitmill.core.dsl.read import from_text
from logitmill.core.loader import registry
from logitmill.core.registry import Registry
from logitmill.core.strategy import Strategy

BOUND = " until eos or max_tokens(9)"

EARNED = {
    "cut-after-temperature": [
        "temperature(1.5) | min_p(0.1) | sample" + BOUND,
        "temperature(0.7) | top_k(40) | top_p(0.9) | sample" + BOUND,
        "when entropy < 1 { temperature(2.0) } | top_p(0.9) | sample" + BOUND,
        "temperature(2.0) | when entropy < 1 { top_p(0.9) } | sample" + BOUND,
        "temperature(1 -> 2 over 8) | min_p(0.1) | sample" + BOUND,
    ],
    "before-greedy": [
        "temperature(0.7) | greedy" + BOUND,
        "bias([5: 1.0]) | top_k(5) | greedy" + BOUND,
    ],
    "removes-nothing": [
        "top_k(0) | sample" + BOUND,
        "top_p(1.0) | sample" + BOUND,
        "top_k(5) | temperature(0.5) | top_k(9) | sample" + BOUND,
        "min_p(0.2) | min_p(0.1) | sample" + BOUND,
    ],
    "stop-is-eos": ['sample until eos or stop("a", "<|im_end|>") or max_tokens(9)'],
    "no-bound": [
        "sample",
        "sample until eos",
        "sample until max_tokens(3) and eos",
        "phases({ sample until max_tokens(4) }, { sample until eos })",
    ],
}

CLEAN = [
    "top_p(0.9) | temperature(1.5) | sample" + BOUND,
    "temperature(1.0) | top_p(0.9) | sample" + BOUND,
    "temperature(0.7) | bias([5: 1.0]) | greedy" + BOUND,
    "temperature(0.7) | when entropy < 1 { greedy } else { sample }" + BOUND,
    "top_k(9) | top_k(5) | sample" + BOUND,
    "min_p(0.2) | temperature(0.5) | sample" + BOUND,
    'sample until stop("<|im_end|>") or max_tokens(9)',
    "sample until step >= 20",
    "sample until timeout(3)",
    "best_of(3) { sample until max_tokens(4) }",
    "phases({ sample until max_tokens(4) }, { sample until max_tokens(9) })",
    "top_p(0.9) | temperature(0.5)",
]


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in EARNED.items() for text in texts])
def test_earned_and_silenced(code: str, text: str) -> None:
    strategy = Strategy.parse(text)
    found = strategy.check()
    assert {warning.code for warning in found} == {code}
    assert all(warning.where is not None and warning.hint for warning in found)
    assert strategy.check(ignore=[code]) == []


@pytest.mark.parametrize("text", CLEAN)
def test_nothing_to_say(text: str) -> None:
    assert Strategy.parse(text).check() == []


@pytest.mark.parametrize("code", EARNED)
def test_words(code: str, golden: Callable[[str, str], None]) -> None:
    golden("\n".join(map(str, Strategy.parse(EARNED[code][0]).check())), f"warnings/{code}.txt")


def test_mirostat_after_a_truncation() -> None:
    class Mirostat(Sampler, name="mirostat"):
        tau: float = 5.0

    class Odd(LogitsProcessor, name="odd"):
        masks_only = True

    names = Registry(dict(registry().entries), dict(registry().schedules))
    names.entries.pop("mirostat", None)
    names.add("sampler", "tests", Mirostat, None, builtin=True)
    names.add("logits processor", "tests", Odd, None, builtin=True)
    for text, codes in {
        "top_k(5) | mirostat": ["mirostat-after-cut"],
        "odd | mirostat": [],
        "top_k(0) | mirostat": ["removes-nothing"],
    }.items():
        assert [warning.code for warning in warnings(from_text(text + BOUND, registry=names))] == codes


def test_a_tokenizers_own_ends_can_be_given() -> None:
    strategy = Strategy.parse('sample until eos or stop("[END]") or max_tokens(9)')
    assert warnings(strategy) == []
    assert [warning.code for warning in warnings(strategy, eos=["[END]"])] == ["stop-is-eos"]


def test_an_unknown_code_is_refused_and_every_code_is_explained() -> None:
    with pytest.raises(ValueError, match="no warning has the code"):
        Strategy.parse("sample").check(ignore=["nonsense"])
    assert set(EARNED) | {"mirostat-after-cut"} == set(CODES)
    assert all(len(text) > 40 for text in CODES.values())
