"""With ``batch_invariant`` a row's logits are bitwise the same alone and in any company."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from logitmill.core.model.runner import make_runner
from logitmill.core.model.slotted import SlotRunner

VOCAB, STEPS, MIXES = 320, 3, 6

SMALL = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.2, "head_dim": 16,
}  # fmt: skip
KINDS = {
    "fp32": ("llama", {}, torch.float32),
    "bf16": ("llama", {}, torch.bfloat16),
    "windows": ("gemma3_text", {"sliding_window": 16}, torch.float32),
    "experts": ("mixtral", {"num_local_experts": 4}, torch.float32),
    "own attention": ("gptj", {"rotary_dim": 8, "n_inner": 128}, torch.float32),
    "eager": ("gpt_oss", {"num_local_experts": 4, "sliding_window": 16}, torch.float32),
}


def build(kind: str) -> PreTrainedModel:
    name, options, dtype = KINDS[kind]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **SMALL | options), dtype=dtype).eval()


def sequence(chance: random.Random, length: int) -> list[int]:
    return chance.choices(range(VOCAB), k=length)


def run(
    model: PreTrainedModel, prompt: list[int], follow: list[int], slot: int, rows: int, chance: random.Random
) -> Tensor:
    """Logits of ``prompt`` + ``follow`` in ``slot`` of ``rows``, among strangers, in slots that were used before."""
    runner = make_runner(model, rows=8, max_length=1024, batch_invariant=True)
    for _ in range(chance.randrange(3) if rows > 1 else 0):
        runner.prefill(chance.randrange(8), sequence(chance, chance.randrange(1, 300)))
    logits: list[Tensor] = []
    for row in range(rows):
        strange = sequence(chance, chance.choice([1, 9, 60, 300]))
        first = runner.prefill(row, prompt if row == slot else strange)
        if row == slot:
            logits = [first[0]]
    for token in follow:
        ids = torch.tensor([[token if row == slot else chance.randrange(VOCAB)] for row in range(rows)])
        logits.append(runner.decode(ids, rows)[slot])
    return torch.stack(logits)


def check(model: PreTrainedModel, mixes: int) -> None:
    chance = random.Random(5)
    for length in (4, 130):
        prompt, follow = sequence(chance, length), sequence(chance, STEPS)
        wanted = run(model, prompt, follow, 0, 1, chance)
        for _ in range(mixes):
            rows = chance.randrange(1, 9)
            assert torch.equal(run(model, prompt, follow, chance.randrange(rows), rows, chance), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_company(kind: str) -> None:
    check(build(kind), MIXES)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_bits_do_not_depend_on_company_when_quantized(quantize: str, tmp_path: object) -> None:
    build("bf16").save_pretrained(str(tmp_path))
    config = (
        BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        if quantize == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    model = AutoModelForCausalLM.from_pretrained(
        str(tmp_path), quantization_config=config, device_map="cpu", dtype=torch.bfloat16
    )
    check(model.eval(), 3)


def test_models_whose_rows_meet_inside_decode_one_row_at_a_time() -> None:
    for kind, alone in (("fp32", False), ("experts", True), ("own attention", True)):
        runner = make_runner(build(kind), batch_invariant=True)
        assert isinstance(runner, SlotRunner)
        assert runner.alone is alone
        assert runner.slotted
