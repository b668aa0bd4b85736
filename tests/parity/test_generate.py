"""Against transformers' own generate: greedy tokens are the same, alone, in ragged company and through a queue."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

Make = Callable[..., Any]
GREEDY = "greedy until max_tokens({n})"


def theirs(model: Any, tokenizer: Any, prompt: str, count: int) -> list[int]:
    ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
            repetition_penalty=1.0,
        )
    return [int(token) for token in out[0, ids.shape[1] :]]


def prompts_of(count: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choice("abcdef ghij\nklm") for _ in range(rng.randint(1, 60))) for _ in range(count)]


@pytest.fixture(scope="module")
def expected(byte_model: Any) -> dict[str, list[int]]:
    return {p: theirs(byte_model.model, byte_model.tokenizer, p, 64) for p in prompts_of(20)}


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("how", ["one by one", "batches of 8", "queue of 20 over 4", "batch invariant", "reference"])
def test_greedy_on_a_small_model(make_engine: Make, expected: dict[str, list[int]], how: str, lookahead: bool) -> None:
    options = {"batch invariant": {"batch_invariant": True}, "reference": {"reference": True}}.get(how, {})
    engine = make_engine(rows=4 if how.startswith("queue") else 8, lookahead=lookahead, **options)
    prompts, strategy = list(expected), GREEDY.format(n=64)
    if how == "one by one":
        results = [engine.generate(prompt, strategy) for prompt in prompts]
    elif how == "batches of 8":
        results = [c for i in range(0, 20, 8) for c in engine.generate(prompts[i : i + 8], strategy)]
    else:
        results = engine.generate(prompts, strategy)
    assert [list(c.tokens) for c in results] == list(expected.values())
    for result in results:
        assert result.text == engine.tokenizer.decode(
            result.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gpt2", "mistral", "mamba"])
def test_greedy_on_other_architectures(small: Any, name: str) -> None:
    """In a ragged queue of 6 over 3 rows; models that cannot be slotted run one row at a time."""
    model = architecture(name)
    engine = small.engine(small.loaded(model), rows=3, max_length=128)
    assert engine.runner.slotted == (name != "mamba")
    prompts = prompts_of(6)
    results = engine.generate(prompts, GREEDY.format(n=40))
    for prompt, result in zip(prompts, results, strict=True):
        assert list(result.tokens) == theirs(model, engine.tokenizer, prompt, 40)


def architecture(name: str) -> Any:
    import transformers as t

    shared: dict[str, Any] = {"vocab_size": 257, "eos_token_id": 256, "bos_token_id": 256, "pad_token_id": 0}
    wide: dict[str, Any] = {
        **shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.2, "max_position_embeddings": 256,
    }  # fmt: skip
    makers: dict[str, Callable[[], Any]] = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**wide)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**wide, head_dim=8)),
        "gemma3": lambda: t.Gemma3ForCausalLM(
            t.Gemma3TextConfig(**wide, head_dim=8, sliding_window=16, sliding_window_pattern=2)
        ),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**wide, head_dim=8, sliding_window=16)),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2, n_positions=256)
        ),
        "mamba": lambda: t.MambaForCausalLM(
            t.MambaConfig(**shared, hidden_size=32, num_hidden_layers=2, initializer_range=0.2)
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return makers[name]().eval().requires_grad_(False)
