"""The default model: greedy as transformers' generate, and seeds that mean the same in any company.

A plain run tries a few prompts and mixes; ``--full`` tries 20 prompts in fp32 (alone, in batches of 8, through a queue
over 4 rows) and in nf4, and 50 mixes.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import logitmill as lm
from logitmill.core.engine import Engine
from logitmill.core.model.runner import make_runner

PROMPTS = [
    "A list of colors: red, blue", "The capital of France is", "Once upon a time", "def fibonacci(n):", "2 + 2 =",
    "The best way to learn is", "Water boils at", "In 1969,", "My favourite book", "She opened the door and",
    "Dear Sir or Madam,", "import numpy as np\n", "The quick brown fox", "To be or not to be", "Roses are red,",
    "Python is a language that", "The mitochondria is", "Q: Why is the sky blue?\nA:", "1, 1, 2, 3, 5, 8,",
    "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals, when it was checked by",
]  # fmt: skip


@pytest.fixture(scope="session")
def plain() -> Any:
    return lm.load(quantize=None, dtype="float32", max_rows=8, max_length=256)


@pytest.fixture(scope="session")
def nf4() -> Any:
    return lm.load(quantize="nf4", max_rows=8, max_length=256)


def theirs(engine: Any, prompt: str, count: int) -> list[int]:
    ids = engine.tokenizer(prompt, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
            repetition_penalty=1.0,
        )
    return [int(token) for token in out[0, ids.shape[1] :]]


def test_greedy_in_fp32(plain: Any, full: bool) -> None:
    prompts = PROMPTS if full else [PROMPTS[1], PROMPTS[-1], PROMPTS[17]]
    expected = [theirs(plain, prompt, 64) for prompt in prompts]
    strategy = "greedy until max_tokens(64)"
    ragged = [c for i in range(0, len(prompts), 8) for c in plain.generate(prompts[i : i + 8], strategy)]
    assert [list(c.tokens) for c in ragged] == expected
    if full:
        assert [list(plain.generate(prompt, strategy).tokens) for prompt in prompts] == expected
        narrow = lm.load(quantize=None, dtype="float32", max_rows=4, max_length=256)
        assert [list(c.tokens) for c in narrow.generate(prompts, strategy)] == expected


def test_greedy_in_nf4(nf4: Any, full: bool) -> None:
    """On the same quantized weights and the model's own forward, the first 20 tokens, one by one: in bf16 another row
    count rounds otherwise, and so does the lean step.
    """
    own = Engine(nf4.loaded, make_runner(nf4.model, rows=1, max_length=128, lean=False))
    for prompt in PROMPTS if full else PROMPTS[:3]:
        assert list(own.generate(prompt, "greedy until max_tokens(20)").tokens) == theirs(nf4, prompt, 20)


MENU = [
    "temperature(0.8) | top_p(0.95) | sample until max_tokens({n})",
    "temperature(1.2 -> 0.6 over 8 by cosine) | min_p(0.05) | sample until eos or max_tokens({n})",
    "greedy until max_tokens({n})",
    "when entropy < 1 {{ greedy }} else {{ temperature(0.9) | top_k(50) | sample }} until max_tokens({n})",
    "repetition(1.1) | mix(0.7: {{ temperature(0.7) }}, 0.3: {{ top_p(0.9) }}) | sample "
    'until max_tokens({n}) or stop("\\n")',
    "xtc(0.5) | frequency(0.3) | temperature(0.9) | sample until step >= {n}",
]  # fmt: skip


def test_seeds_in_any_company_in_nf4(nf4: Any, small: Any, full: bool) -> None:
    engine = small.engine(nf4.loaded, rows=8, max_length=256, batch_invariant=True)
    rng = random.Random(7)
    pool = [
        (rng.choice(PROMPTS), rng.choice(MENU).format(n=rng.randint(3, 10)), rng.randrange(2**64))
        for _ in range(24 if full else 8)
    ]
    alone = {request: engine.generate(request[0], request[1], seed=request[2], logprobs=1) for request in pool}
    for _ in range(50 if full else 2):
        batch = [rng.choice(pool) for _ in range(8)]
        results = engine.generate(*([request[i] for request in batch] for i in range(3)), logprobs=1)
        for request, result in zip(batch, results, strict=True):
            assert result.tokens == alone[request].tokens
            assert result.logprobs == alone[request].logprobs  # to the bit
