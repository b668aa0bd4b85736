"""The tokenizer of a GGUF file, as transformers builds it and with what that leaves out put right.

A GGUF states its tokenizer in llama.cpp's terms. transformers rebuilds it, and (in 5.23) does not know the way some
vocabularies split text before merging, nor every token that ends a turn. The reference is llama.cpp's
src/llama-vocab.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .gguf import GgufHeader

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

SINGLE_DIGITS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"}
)
"""Pre-tokenizers that cut each digit off first and then split as GPT-2 does."""
LIKE_GPT2 = frozenset({"default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"})
"""Pre-tokenizers that split as GPT-2 does, which is what transformers builds where it knows no better."""
BEGINS_WITH_BOS = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "tekken", "chameleon"}
)
"""Byte-level vocabularies whose texts begin with BOS where the file does not say."""
TURN_ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def check_gguf_tokenizer(path: Path, header: GgufHeader) -> None:
    """Raise ModelError where the file has no tokenizer."""
    kind = header.metadata.get("tokenizer.ggml.model")
    if kind in (None, "no_vocab") or not header.metadata.get("tokenizer.ggml.tokens"):
        raise ModelError(f"{path} holds no tokenizer: use a GGUF that has one, or the model's original folder")


def gguf_tokenizer(path: Path, header: GgufHeader) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """The tokenizer of the file, and notes on what about it is doubtful. Raises ModelError where it cannot be built."""
    from transformers import AutoTokenizer

    kind = str(header.metadata["tokenizer.ggml.model"])
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except (ValueError, KeyError, TypeError, ImportError) as error:
        raise ModelError(f"the tokenizer in {path} ({kind!r}) cannot be read by transformers: {error}") from error
    notes = _split_as_trained(tokenizer, header) if kind == "gpt2" else []
    _set_bos(tokenizer, header, kind)
    template = header.metadata.get("tokenizer.chat_template")
    if template and not tokenizer.chat_template:
        tokenizer.chat_template = template
    return tokenizer, notes


def gguf_eos_ids(header: GgufHeader) -> list[int]:
    """The ids the file marks as the end of a text or a turn, EOS first."""
    ids = [header.metadata.get(key) for key in TURN_ENDS]
    return list(dict.fromkeys(int(i) for i in ids if i is not None))


def _split_as_trained(tokenizer: Any, header: GgufHeader) -> list[str]:
    """Give a byte-level tokenizer the split its merges were learned on."""
    from tokenizers import pre_tokenizers

    split = str(header.metadata.get("tokenizer.ggml.pre", "default"))
    if split in SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        return []
    if split in LIKE_GPT2 or split in _known_to_transformers():
        return []
    return [f"the GGUF's pre-tokenizer {split!r} is not known here: text may be cut into other tokens than in training"]


def _known_to_transformers() -> frozenset[str]:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # versions before 5.23 keep no such table
        return frozenset()
    return frozenset(GGUF_PRE_TOKENIZER_SPLITS)


def _set_bos(tokenizer: Any, header: GgufHeader, kind: str) -> None:
    """Make the tokenizer begin texts with BOS exactly where the file says so."""
    from tokenizers import processors

    bos = header.metadata.get("tokenizer.ggml.bos_token_id")
    default = kind == "llama" or header.metadata.get("tokenizer.ggml.pre") in BEGINS_WITH_BOS
    wanted = bool(header.metadata.get("tokenizer.ggml.add_bos_token", default)) and bos is not None
    ids = tokenizer("a")["input_ids"]
    if (bos in ids[:1]) == wanted:
        return
    token = tokenizer.convert_ids_to_tokens(bos)
    start = f"{token}:0 " if wanted else ""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}$A:0",
        pair=f"{start}$A:0 {start.replace(':0', ':1')}$B:1",
        special_tokens=[(token, bos)] if wanted else [],
    )
