"""Tiny models with random weights, and files made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = ["the cat sat on the mat 1234", "hello  there, naïve café 😀"] * 4
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=specials)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>")


def make_config(**changes: Any) -> LlamaConfig:
    options: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return LlamaConfig(**(options | changes))


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers with its tokenizer, as save_pretrained leaves them. Not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    torch.manual_seed(0)
    LlamaForCausalLM(make_config()).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(tiny_source: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    import shutil

    return Path(shutil.copytree(tiny_source, tmp_path / "tiny-llama"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make_gguf(tmp_path: Path) -> Callable[..., Path]:
    """``make_gguf(metadata, quantization=..., architecture=...)`` writes a tiny Llama as GGUF."""

    def make(
        metadata: dict[str, Any] | None = None,
        quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
        architecture: str = "llama",
        tokens: bool = True,
        tied: bool = True,
    ) -> Path:
        path = tmp_path / "tiny.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        for key, value in {
            "context_length": 128, "embedding_length": 64, "block_count": 2, "feed_forward_length": 128,
            "attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 16,
        }.items():  # fmt: skip
            writer.add_uint32(f"{architecture}.{key}", value)
        writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
        tokenizer = make_tokenizer()
        vocab = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
        if tokens:
            import json

            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(vocab)
            writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocab])
            writer.add_token_merges(
                [" ".join(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]
            )
        for key, value in (metadata or {}).items():
            {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}[type(value)](key, value)
        random = np.random.default_rng(0)
        shapes = {"token_embd.weight": (len(vocab), 64), "output_norm.weight": (64,)}
        if not tied:
            shapes["output.weight"] = (len(vocab), 64)
        for layer in range(2):
            shapes |= {
                f"blk.{layer}.{name}.weight": shape
                for name, shape in {
                    "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
                    "ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128),
                    "attn_norm": (64,), "ffn_norm": (64,),
                }.items()
            }  # fmt: skip
        for name, shape in shapes.items():
            values = random.normal(0, 0.1, shape).astype(np.float32)
            if len(shape) == 1 or quantization == gguf.GGMLQuantizationType.F32:
                writer.add_tensor(name, values)
            else:
                writer.add_tensor(name, gguf.quantize(values, quantization), raw_dtype=quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make
