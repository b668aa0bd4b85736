"""A GenerationConfig as a strategy has the distribution of transformers' own processors, in their order."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from logitmill.core.loader import registry
from logitmill.core.model.generation import strategy_of
from logitmill.core.strategy import AnyOf, Strategy

VOCAB = 83
PROMPT, OUTPUT = [3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7]


def theirs(config: GenerationConfig, logits: Tensor, prompt: list[int], output: list[int]) -> Tensor:
    """Probabilities [R, V] from the processors that ``generate`` would make for this prompt."""
    config = copy.deepcopy(config)
    config.update(**config._get_default_generation_params(), defaults_only=True)
    if config.max_new_tokens is not None:
        config.max_length = config.max_new_tokens + len(prompt)
    eos = config.eos_token_id
    config._eos_token_tensor = None if eos is None else torch.tensor([eos] if isinstance(eos, int) else eos)
    owner = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False))
    owner._merge_criteria_processor_list = lambda default, custom: default
    processors = GenerationMixin._get_logits_processor(owner, config, input_ids_seq_length=len(prompt), device="cpu")  # type: ignore[arg-type]
    ids = torch.tensor([prompt + output] * len(logits))
    scores = processors(ids, logits.clone())
    if not config.do_sample:
        scores = torch.full_like(scores, float("-inf")).scatter(-1, scores.argmax(-1, keepdim=True), 0.0)
    return scores.softmax(-1)


def ours(bench: Any, config: GenerationConfig, logits: Tensor, prompt: list[int], output: list[int]) -> Tensor:
    strategy, notes = strategy_of(config, registry())
    assert not [note for note in notes if "no end-of-sequence" not in note and "goes before" not in note]
    eos = config.eos_token_id
    ids = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    result: Tensor = bench.law(strategy, logits, prompt, output, eos=ids).dense().probs
    return result


CONFIGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "sampling alone, with the hidden top-k of 50": {"do_sample": True},
    "no top-k": {"do_sample": True, "top_k": 0},
    "usual": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.2},
    "truncations": {"do_sample": True, "temperature": 1.3, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9},
    "not sampling ignores the warpers": {"do_sample": False, "repetition_penalty": 2.0, "no_repeat_ngram_size": 2},
    "n-grams": {"do_sample": True, "no_repeat_ngram_size": 1},
    "bad words": {"do_sample": True, "bad_words_ids": [[7], [9, 7, 2], [8, 9, 7, 11], [7, 12], [2]], "eos_token_id": 2},
    "sequence bias": {"do_sample": True, "sequence_bias": [[[4], 3.0], [[9, 7, 6], 5.0], [[7, 5], -2.0]]},
    "a sequence never": {"do_sample": True, "sequence_bias": {(7, 5): float("-inf"), (4,): 1.5}},
    "min length": {"do_sample": True, "min_length": 20, "eos_token_id": [2, 17], "top_k": 0},
    "min length reached": {"do_sample": True, "min_length": 14, "eos_token_id": [2, 17], "top_k": 0},
    "min new tokens": {"do_sample": True, "min_new_tokens": 7, "eos_token_id": [2, 17], "top_k": 0},
    "suppressed": {"do_sample": True, "suppress_tokens": [1, 2, 3], "begin_suppress_tokens": [5]},
    "last token forced": {"do_sample": True, "max_new_tokens": 7, "forced_eos_token_id": 2},
    "last token forced by length": {"do_sample": True, "max_length": 15, "forced_eos_token_id": 2},
    "everything": {
        "do_sample": True, "temperature": 0.8, "top_k": 30, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95,
        "repetition_penalty": 1.15, "no_repeat_ngram_size": 3, "bad_words_ids": [[7], [9, 7, 2]], "min_length": 30,
        "eos_token_id": 2, "sequence_bias": {(4,): 1.5}, "suppress_tokens": [60], "max_new_tokens": 50,
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", [pytest.param(v, id=k) for k, v in CONFIGS.items()])
@pytest.mark.parametrize("output", [[], OUTPUT])
def test_the_distribution_is_transformers_own(bench: Any, fields: dict[str, Any], output: list[int]) -> None:
    config = GenerationConfig(**fields)
    for scale in (1.0, 4.0):
        logits = torch.randn(16, VOCAB, generator=torch.Generator().manual_seed(5)) * scale
        a, b = ours(bench, config, logits, PROMPT, output), theirs(config, logits, PROMPT, output)
        assert torch.equal(a > 0, b > 0)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_first_token_forced(bench: Any) -> None:
    config = GenerationConfig(do_sample=True, forced_bos_token_id=6)
    logits = torch.randn(2, VOCAB)
    for prompt, output in [([0], []), ([0], [1]), ([0, 1], [])]:
        assert torch.equal(ours(bench, config, logits, prompt, output) > 0, theirs(config, logits, prompt, output) > 0)


def names(strategy: Strategy) -> list[str]:
    return [step.stage.stage_name for step in strategy.pipeline]


def leaves_of(strategy: Strategy) -> list[Any]:
    stop = strategy.stop
    return [] if stop is None else list(stop.tests) if isinstance(stop, AnyOf) else [stop]


def test_order_and_dialects() -> None:
    config = GenerationConfig(
        do_sample=True, temperature=0.7, min_p=0.1, top_p=0.9, repetition_penalty=1.1, typical_p=0.9
    )
    strategy, _ = strategy_of(config, registry())
    assert names(strategy) == ["repetition", "temperature", "top_k", "top_p", "min_p", "typical", "sample"]
    assert [step.stage.dialect for step in strategy.pipeline[1:-1]] == ["hf"] * 5  # type: ignore[attr-defined]


def test_what_ends_a_row() -> None:
    def stops(**fields: Any) -> list[Any]:
        return leaves_of(strategy_of(GenerationConfig(**fields), registry())[0])

    stage = registry().stage
    assert stops() == []
    assert stops(eos_token_id=2) == [stage("eos")]
    assert stops(eos_token_id=[2, 3], max_new_tokens=5, max_length=50) == [stage("eos"), stage("max_tokens", 5)]
    assert stops(eos_token_id=2, max_length=50) == [stage("eos"), stage("max_length", 50)]
    assert stops(stop_strings="x", max_time=1.5) == [stage("stop", "x", include=True), stage("timeout", 1.5)]
    assert stops(stop_strings=["x", "y"]) == [stage("stop", "x", "y", include=True)]


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 4}, {"num_return_sequences": 2, "do_sample": True}, {"guidance_scale": 1.5},
        {"encoder_repetition_penalty": 1.2}, {"encoder_no_repeat_ngram_size": 3}, {"remove_invalid_values": True},
        {"exponential_decay_length_penalty": (5, 1.1)}, {"top_h": 0.4, "do_sample": True},
        {"epsilon_cutoff": 0.01, "do_sample": True}, {"eta_cutoff": 0.01, "do_sample": True},
        {"penalty_alpha": 0.6}, {"dola_layers": "low"}, {"token_healing": True}, {"prompt_lookup_num_tokens": 3},
        {"forced_eos_token_id": [2, 3], "max_length": 9}, {"forced_eos_token_id": 2},
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_said(fields: dict[str, Any]) -> None:
    strategy, notes = strategy_of(GenerationConfig(eos_token_id=2, **fields), registry())
    field = next(iter(fields))
    assert [note for note in notes if f" {field}=" in note], notes
    assert strategy.complete


def test_what_transformers_refuses_is_said_too() -> None:
    config = GenerationConfig(do_sample=True, eos_token_id=2)
    config.temperature, config.top_p = 0.0, 0.9
    strategy, notes = strategy_of(config, registry())
    assert names(strategy) == ["greedy"]
    assert "temperature" in notes[0]
    config.temperature, config.top_k = 0.5, -3
    strategy, notes = strategy_of(config, registry())
    assert names(strategy) == ["temperature", "top_p", "sample"]
    assert "top_k=-3" in notes[0]


def test_a_plain_config_has_no_notes() -> None:
    strategy, notes = strategy_of(
        GenerationConfig(do_sample=True, temperature=0.2, top_p=0.9, eos_token_id=2), registry()
    )
    assert notes == []
    assert strategy.complete
    assert names(strategy_of(GenerationConfig(eos_token_id=2), registry())[0]) == ["greedy"]
