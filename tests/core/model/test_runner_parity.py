"""Greedy tokens over slots equal transformers' generate, architecture by architecture, in fp32."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from logitmill.core.model.runner import Runner, make_runner

VOCAB, STEPS, WINDOW = 320, 32, 16

DEEP = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.2, "tie_word_embeddings": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT = {
    "vocab_size": VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256, "initializer_range": 0.2,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BLOOM = {"vocab_size": VOCAB, "hidden_size": 64, "n_layer": 3, "n_head": 4, "tie_word_embeddings": False}
OPT = {
    "vocab_size": VOCAB, "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 256, "word_embed_proj_dim": 64, "tie_word_embeddings": False,
}  # fmt: skip
NEO = {
    "vocab_size": VOCAB, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 256,
    "attention_types": [[["global", "local"], 1]], "window_size": WINDOW,
}  # fmt: skip
MLA = {
    "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1,
}  # fmt: skip
WINDOWED = {"head_dim": 16, "sliding_window": WINDOW}
MIXED = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

SLOTTED = {
    "Llama": DEEP,
    "Qwen3": DEEP | {"head_dim": 16},
    "Qwen2": DEEP | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    "Gemma3Text": DEEP | WINDOWED | MIXED | {"query_pre_attn_scalar": 16},
    "Gemma2": DEEP | WINDOWED | {"query_pre_attn_scalar": 16},
    "Mistral": DEEP | WINDOWED,
    "GptOss": DEEP | WINDOWED | EXPERTS,
    "Cohere2": DEEP | WINDOWED,
    "Phi3": DEEP,
    "Olmo2": DEEP,
    "Mixtral": DEEP | EXPERTS,
    "DeepseekV3": DEEP | MLA,
    "GPT2": GPT,
    "GPTJ": GPT | {"rotary_dim": 8},
    "OPT": OPT,
    "Bloom": BLOOM,
    "Falcon": {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4},
}
SEQUENTIAL = {
    "Mamba": {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 3, "state_size": 8},
    "GPTNeo": NEO,
    "Lfm2": DEEP | {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "Llama4Text": DEEP
    | {"head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 128, "attention_chunk_size": 16},
}


def build(name: str, options: dict[str, object], implementation: str | None = None) -> PreTrainedModel:
    """A small random model whose greedy text does not fall into one repeated token."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options)
    extra = {"attn_implementation": implementation} if implementation else {}
    model = AutoModelForCausalLM.from_config(config, **extra).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.2, generator=generator)
    model.generation_config = GenerationConfig()
    return model


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(3, VOCAB, (n,), generator=generator).tolist() for n in (3, 40, 17, 1, 70, 5, 33, 26)]


def expected(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    options = GenerationConfig(
        do_sample=False, max_new_tokens=STEPS, min_new_tokens=STEPS, eos_token_id=None, pad_token_id=0
    )
    tokens: list[int] = model.generate(torch.tensor([prompt]), generation_config=options)[0, len(prompt) :].tolist()
    return tokens


def greedy(runner: Runner, batch: list[list[int]], chunk: int = 512) -> list[list[int]]:
    token = torch.cat([runner.prefill(row, prompt, chunk=chunk) for row, prompt in enumerate(batch)]).argmax(-1, True)
    tokens = [token]
    for _ in range(STEPS - 1):
        token = runner.decode(token, len(batch)).argmax(-1, True)
        tokens.append(token)
    found: list[list[int]] = torch.cat(tokens, 1).tolist()
    return found


def check(runner: Runner, model: PreTrainedModel) -> None:
    batch = prompts()
    wanted = [expected(model, prompt) for prompt in batch]
    assert max(len(set(tokens)) for tokens in wanted) > 4, "the model's text has collapsed: nothing would be tested"
    assert greedy(runner, batch) == wanted
    assert greedy(runner, batch[3:6], chunk=16) == wanted[3:6]
    assert greedy(runner, batch[1:2]) == wanted[1:2]


@pytest.mark.parametrize("name", SLOTTED)
def test_slots_equal_generate(name: str) -> None:
    model = build(name, SLOTTED[name])
    runner = make_runner(model)
    assert runner.slotted
    assert runner.note is None
    check(runner, model)


@pytest.mark.parametrize("name", ["Llama", "Gemma3Text", "GPT2"])
def test_slots_equal_generate_with_eager_attention(name: str) -> None:
    model = build(name, SLOTTED[name], "eager")
    runner = make_runner(model)
    assert runner.slotted
    check(runner, model)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_what_cannot_be_slotted_runs_row_by_row_and_says_so(name: str) -> None:
    model = build(name, SEQUENTIAL[name])
    runner = make_runner(model)
    assert not runner.slotted
    assert type(model).__name__ in str(runner.note)
    check(runner, model)


def test_a_rotary_embedding_that_looks_at_the_longest_row_is_held_below_its_change() -> None:
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "rope_theta": 1e4}
    model = build("Phi3", DEEP | {"original_max_position_embeddings": 64, "rope_parameters": rope})
    assert make_runner(model).max_length == 64
    longer = make_runner(model, max_length=256)
    assert not longer.slotted
    assert "max_length=64" in str(longer.note)


def test_generate_is_left_as_it_was() -> None:
    model = build("Gemma3Text", SLOTTED["Gemma3Text"])
    before = expected(model, prompts()[1])
    implementation = model.config._attn_implementation
    make_runner(model).prefill(0, prompts()[1])
    assert model.config._attn_implementation == implementation
    assert expected(model, prompts()[1]) == before
