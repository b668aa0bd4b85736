"""Tiny models made on the spot, and engines over them: nothing is downloaded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ...core.engine import Engine
from ...core.model.runner import make_runner
from ...core.model.spec import LoadedModel

EOS = 256
VOCAB = 257


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and <eos>; with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)} | {"<eos>": EOS}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    return tokenizer


def llama(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random Llama of two layers over bytes, in float32; wide weights, so that its tokens vary."""
    options: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "max_position_embeddings": 2048,
        "eos_token_id": EOS,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**(options | changes))).eval().requires_grad_(False)
        return model


def loaded(model: PreTrainedModel, tokenizer: Any = None) -> LoadedModel:
    """What loading would have made of the model."""
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    return LoadedModel(
        model,
        tokenizer,
        "small",
        "made by a test",
        None,
        torch.float32,
        torch.device("cpu"),
        bool(tokenizer.chat_template),
        (EOS,),
        2048,
        VOCAB,
        GenerationConfig(),
    )


@functools.cache
def byte_model() -> LoadedModel:
    """``loaded(llama())``, made once. Not to be changed."""
    return loaded(llama())


def engine(
    of: LoadedModel | None = None,
    *,
    rows: int = 8,
    max_length: int = 256,
    wrap: Callable[[Any], Any] = lambda runner: runner,
    lookahead: bool | None = None,
    batch_invariant: bool = False,
    reference: bool = False,
) -> Engine:
    """An engine over a model, the byte model where none is given. ``wrap`` may put something between it and the
    runner.
    """
    of = byte_model() if of is None else of
    # Whoever changes slots checks them in their own tests; what the probe of invariance finds, a runner needs.
    options: dict[str, Any] = {"batch_invariant": batch_invariant, "probe": batch_invariant}
    runner = make_runner(of.model, rows=rows, max_length=max_length, **options)
    made = Engine(of, wrap(runner), batch_invariant=batch_invariant, reference=reference)
    if lookahead is not None:
        made.loop.lookahead = lookahead
    return made


__all__ = ["EOS", "VOCAB", "byte_model", "byte_tokenizer", "engine", "llama", "loaded"]
