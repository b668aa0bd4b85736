"""Warnings: each code has texts that earn it, texts that do not, and golden words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logitmill import LogitsProcessor
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
        "sample until eos or budget(9)",
    ],
    "mirostat-after-cut": [
        "top_k(40) | mirostat" + BOUND,
        "when entropy < 1 { top_p(0.9) } | mirostat(5, 0.1)" + BOUND,
    ],
    "one-token-left": [
        "top_k(1) | temperature(0.7) | sample" + BOUND,
        "temperature(0) | top_p(0.9) | sample" + BOUND,
        "top_p(0) | min_p(0.1) | sample" + BOUND,
        "top_k(1) | when entropy < 1 { top_k(5) } | repetition(1.2) | sample" + BOUND,
    ],
    "cancelled": [
        "temperature(0.5) | temperature(2) | sample" + BOUND,
        "temperature(0.8) | top_k(9) | temperature(1.25) | sample" + BOUND,
        "bias([5: 2.0]) | bias([5: -2.0]) | sample" + BOUND,
        "bias([5: 2.0, 7: 1.0]) | bias([5: -2.0]) | sample" + BOUND,
        "bias([5: 2.0, 5: -2.0]) | sample" + BOUND,
        'bias(["yes": 2.0]) | top_k(9) | ban("yes", "no") | sample' + BOUND,
        "ban(5) | bias([5: 2.0]) | sample" + BOUND,
        "bias([5: 2.0]) | allow(6, 7) | sample" + BOUND,
        "allow(5, 6) | ban(6, 5, 7) | sample" + BOUND,
        r'ban(r"\d") | allow(r"\d") | sample until max_tokens(9)',
        "allow(5, 6) | allow(7) | sample" + BOUND,
    ],
    "temperatures-multiply": [
        "temperature(0.5) | temperature(0.9) | sample" + BOUND,
        "temperature(0.8) | ban(5) | temperature(1.0) | top_k(40) | temperature(0.8) | sample" + BOUND,
    ],
    "hidden-top-k": [
        "top_p(0.9, dialect=hf) | temperature(0.7) | sample" + BOUND,
        "when entropy < 1 { min_p(0.1, dialect=hf) } | sample" + BOUND,
    ],
    "wrong-sign": [
        "repetition(0.9) | sample" + BOUND,
        "repetition(1.2 -> 0.9 over 8) | sample" + BOUND,
        "repetition(0.5 * max_p + 0.2) | sample" + BOUND,
        "presence(-0.5) | sample" + BOUND,
        "frequency(0.5 -> -0.5 over 8) | sample" + BOUND,
        "when entropy < 1 { frequency(-0.1) } | sample" + BOUND,
        "length_decay(32, 0.9) | sample" + BOUND,
        "repetition(1.2) | sample" + BOUND + " with repetition.penalty=0.5",
    ],
    "clamped": [
        "temperature(1.5 - entropy) | sample" + BOUND,
        "top_p(0.5 + max_p) | sample" + BOUND,
        "min_p(-max_p) | sample" + BOUND,
        "top_p(2 + entropy * margin) | sample" + BOUND,
        "top_p(1 / max_p) | sample" + BOUND,
        "sample until confidence(raw.max_p * 2) or max_tokens(9)",
    ],
    "constant-test": [
        "when entropy < 0 { top_k(5) } | sample" + BOUND,
        "when max_p <= 1 { top_k(5) } else { top_k(9) } | sample" + BOUND,
        "when 2 * margin > 2 or step < 3 { top_k(5) } | sample" + BOUND,
        "when kept < 1 { top_k(5) } | sample" + BOUND,
        "when kept in [0, 0.5] { top_k(5) } | sample" + BOUND,
        "when clamp(entropy, 1, 2) == 0 { top_k(5) } | sample" + BOUND,
        "when entropy < 1 and entropy >= 1 { top_k(5) } | sample" + BOUND,
        "when entropy < 1 or not entropy < 1 { top_k(5) } | sample" + BOUND,
        "when entropy < 1 { when entropy > 2 { top_k(5) } } | sample" + BOUND,
        "when entropy < 1 { top_k(9) } else when entropy < 0.5 { top_k(5) } | sample" + BOUND,
        "when step < 9 { min_p(0.1) | when step >= 9 { top_k(5) } } | sample" + BOUND,
        "when raw.entropy < 1 { min_p(0.1) | when raw.entropy > 2 { top_k(5) } } | sample" + BOUND,
        'when within("a", "b") { when not within("a", "b") { top_k(5) } } | sample' + BOUND,
        'when tail ~ r"x" and not tail ~ r"x" { top_k(5) } | sample' + BOUND,
        "sample until step >= 0 or max_tokens(9)",
        "sample until step >= 1 or max_tokens(9)",
        "sample until last < 0 or max_tokens(9)",
        "sample until entropy < 0 or max_tokens(9)",
        "sample until (eos and not eos) or max_tokens(9)",
        "phases({ sample until step > 0 }, { sample until max_tokens(9) })",
        "sample until not max_p > 1 or max_tokens(9)",
    ],
    "two-seeds": [
        "when entropy < 1 { sample(seed=1) } else { sample(seed=2) }" + BOUND,
        "phases({ gumbel(seed=1) until max_tokens(4) }, { sample(seed=2) until max_tokens(4) })",
    ],
    "unreachable-stop": [
        'sample until stop("<|im_end|>\\n") or max_tokens(9)',
        'sample until text("x</s>") or max_tokens(9)',
        r'allow(r"\d") | sample until eos or max_tokens(9)',
        "ban(5, 6) | sample until stop_ids(5) or max_tokens(9)",
        "allow(5, 6) | ban(6) | sample until stop_ids(6, 7) or max_tokens(9)",
        "best_of(3) { ban(5) | sample } until eos(5) or max_tokens(9)",
    ],
    "region-never-opens": [
        'when within("<think>", "</think>") { top_k(5) } | ban("<think>") | sample' + BOUND,
        "ban(7) | sample until budget(3, open=7, close=8) or max_tokens(9)",
        "allow(5, 6) | sample until (within(7, 5) and stop_ids(5)) or max_tokens(9)",
    ],
    "min-above-max": [
        "min_tokens(64) | sample until eos or max_tokens(32)",
        "min_tokens(64) | sample until eos or max_length(63)",
        "min_tokens(64) | sample until eos or step > 62",
        "min_tokens(64) | sample until eos or 62 < step",
        "min_tokens(64, over=all) | sample until eos or max_length(63)",
        "min_tokens(64, over=all) | sample until eos or position > 62",
        "min_tokens(64 -> 48 over 9) | sample until eos or max_tokens(32)",
        "min_tokens(64) | best_of(2) { sample until eos or max_tokens(32) }",
        "min_tokens(64) | phases({ sample until max_tokens(30) }, { sample until max_tokens(30) })",
        "phases({ min_tokens(64) | sample until eos or max_tokens(32) }, { sample until max_tokens(99) })",
        "phases({ sample until max_tokens(30) }, { min_tokens(63) | sample until eos or max_tokens(32) })",
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
    "sample until 20 <= step",
    "sample until position > 20",
    "sample until timeout(3)",
    "best_of(3) { sample until max_tokens(4) }",
    "phases({ sample until max_tokens(4) }, { sample until max_tokens(9) })",
    "top_p(0.9) | temperature(0.5)",
    # one token, and nothing but the draw behind it; or more than one, maybe
    "top_k(1) | sample" + BOUND,
    "top_k(1 -> 40 over 9) | repetition(1.2) | sample" + BOUND,
    "top_p(0, min_keep=2) | repetition(1.2) | sample" + BOUND,
    "top_k(1, dialect=vllm) | repetition(1.2) | sample" + BOUND,
    "top_k(5, dialect=vllm) | top_k(5) | sample" + BOUND,
    "repetition(1.2) | temperature(0) | sample" + BOUND,
    # stages that are not undone
    "temperature(0.5) | typical(0.9) | temperature(2) | sample" + BOUND,
    "temperature(0.5) | repetition(1.1) | temperature(2) | sample" + BOUND,
    "temperature(0.5) | when entropy < 1 { temperature(2) } | sample" + BOUND,
    "temperature(1.0) | temperature(0.5) | sample" + BOUND,
    "bias([5: 2.0]) | bias([5: -1.0]) | sample" + BOUND,
    "bias([5: 2.0]) | bias([6: -2.0]) | sample" + BOUND,
    "bias([5: 2.0]) | repetition(1.2) | bias([5: -2.0]) | sample" + BOUND,
    "bias([5: 2.0, 6: 1.0]) | ban(5) | sample" + BOUND,
    'bias([5: 2.0]) | allow("yes") | sample until max_tokens(9)',
    'allow(r"[0-9]") | ban("7") | sample until max_tokens(9)',
    "allow(5, 6) | allow(6, 7) | sample until max_tokens(9)",
    "when entropy < 1 { allow(5) } else { ban(5) } | sample until max_tokens(9)",
    # transformers' dialect with its top_k, without sampling, and with a word that none is meant
    "top_p(0.9, dialect=hf) | top_k(50, dialect=hf) | sample" + BOUND,
    "top_p(0.9, dialect=hf) | top_k(0) | sample" + BOUND,
    "temperature(0.7, dialect=hf) | mirostat" + BOUND,
    "min_p(0.1, dialect=hf) | xtc(0.5, dialect=textgen) | sample" + BOUND,  # another engine's
    # penalties of the right sign
    "repetition(1.0 -> 1.2 over 9) | presence(0.5) | frequency(0) | length_decay(9, 1.01) | sample" + BOUND,
    "repetition(0.5 + max_p) | sample" + BOUND,
    "repetition(0.8, over=prompt) | sample" + BOUND,  # transformers' encoder_repetition_penalty
    # expressions within their range, or that say what they do outside it
    "temperature(0.3 + 0.2*entropy) | sample" + BOUND,
    "top_p(clamp(0.5 + max_p, 0, 1)) | sample" + BOUND,
    "top_p(min(0.5 + max_p, 1)) | sample" + BOUND,
    "top_p(1 - max_p) | sample" + BOUND,
    "top_p(1 - margin * max_p) | sample" + BOUND,
    "top_p(0.9 + margin - max_p) | sample" + BOUND,  # signals that move together: nobody knows
    "temperature(1 / entropy) | sample" + BOUND,  # endless at 0, and never below it
    "temperature(1 / (1 + step)) | sample" + BOUND,
    # conditions that may go either way
    "when entropy < 0.4 { top_k(5) } | sample" + BOUND,
    "when entropy < 1 { top_k(5) | when entropy >= 1 { top_k(2) } } | sample" + BOUND,
    "when entropy < 1 { when raw.entropy >= 1 { top_k(2) } } | sample" + BOUND,
    "when entropy < 2 { when entropy < 1 { top_k(2) } } | sample" + BOUND,
    "when entropy < 2 { top_k(9) } else when entropy < 3 { top_k(2) } | sample" + BOUND,
    "when kept == 1 or max_p == 1 { top_k(9) } | sample" + BOUND,
    "when step < 1 { top_k(9) } | sample" + BOUND,
    "when last < 0 { top_k(9) } | sample" + BOUND,
    "when entropy / max_p < 0 { top_k(9) } | sample" + BOUND,  # 0/0 is no number
    "when true { top_k(9) } | sample" + BOUND,
    "when 1 < 2 { top_k(9) } | sample" + BOUND,
    'when within("a", "b") and not within("a", "c") { top_k(9) } | sample' + BOUND,
    "sample until step >= 2 or max_tokens(9)",
    "sample until max_tokens(1)",
    'sample until (stop("x") and not within("a", "b")) or max_tokens(9)',
    # one seed
    "when entropy < 1 { sample(seed=1) } else { sample(seed=1) }" + BOUND,
    "when entropy < 1 { sample(seed=1) } else { sample }" + BOUND,
    # stops that may come
    'sample until stop("<|im_end|>") or text("</think>") or max_tokens(9)',
    'allow(r"[0-9]", "<|im_end|>") | sample' + BOUND,
    "allow(5, 6) | sample" + BOUND,  # whether one of them is the end, a tokenizer would tell
    "ban(5) | sample until stop_ids(5, 6) or max_tokens(9)",
    "when entropy < 1 { ban(5) } | sample until stop_ids(5) or max_tokens(9)",
    "ban(5) | sample until not stop_ids(5) or max_tokens(9)",
    # regions that may open, or close
    'ban("</think>") | when within("<think>", "</think>") { top_k(5) } | sample' + BOUND,
    "sample until budget(3, open=7, close=7) or max_tokens(9)",
    # as many tokens as the bound: exactly so many, or in a later phase
    "min_tokens(32) | sample until eos or max_tokens(32)",
    "min_tokens(64) | sample until (eos and max_tokens(32)) or max_tokens(64)",
    "phases({ sample until max_tokens(32) }, { min_tokens(64) | sample until eos or max_tokens(32) })",
    "min_tokens(64, over=all) | sample until eos or max_tokens(32)",
    "min_tokens(64, over=all) | sample until eos or step > 32",
    "min_tokens(64, over=all) | sample until eos or max_length(64)",
    "phases({ sample until eos or timeout(3) }, { min_tokens(64) | sample until max_tokens(32) })",
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


def test_what_a_wrong_sign_and_biases_without_effect_are_told() -> None:
    (decay,) = Strategy.parse("length_decay(32, 0.9) | sample" + BOUND).check()
    assert decay.hint == "1 changes nothing, and what is above brings it nearer"
    (biases,) = Strategy.parse("bias([7: 1.0]) | bias([5: 2.0, 5: -2.0]) | sample" + BOUND).check()
    assert biases.message == "these biases add up to 0"


@pytest.mark.parametrize("code", EARNED)
def test_words(code: str, golden: Callable[[str, str], None]) -> None:
    golden("\n".join(map(str, Strategy.parse(EARNED[code][0]).check())), f"warnings/{code}.txt")


def test_a_strangers_stage_is_known_by_its_traits() -> None:
    class Odd(LogitsProcessor, name="odd"):
        masks_only = True

    names = Registry(dict(registry().entries), dict(registry().schedules))
    names.add("logits processor", "tests", Odd, None, builtin=True)
    for text, codes in {"odd | mirostat": [], "top_k(0) | mirostat": ["removes-nothing"]}.items():
        assert [warning.code for warning in warnings(from_text(text + BOUND, registry=names))] == codes


def test_a_tokenizers_own_ends_can_be_given() -> None:
    strategy = Strategy.parse('sample until eos or stop("[END]") or max_tokens(9)')
    assert warnings(strategy) == []
    assert [warning.code for warning in warnings(strategy, eos=["[END]"])] == ["stop-is-eos"]


def test_an_unknown_code_is_refused_and_every_code_is_explained() -> None:
    with pytest.raises(ValueError, match="no warning has the code"):
        Strategy.parse("sample").check(ignore=["nonsense"])
    assert set(EARNED) == set(CODES)
    assert all(len(text) > 40 for text in CODES.values())
