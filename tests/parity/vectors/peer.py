"""llama.cpp's samplers through llama-cpp-python's C API, on an array of candidates of our own. No model is loaded."""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

_LIB = llama_cpp.llama_cpp._lib
_CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # struct llama_token_data


@dataclass(frozen=True)
class Answer:
    """What is left in the array after a chain, by ascending id; ``token`` where a sampler selected one."""

    ids: np.ndarray
    logits: np.ndarray
    p: np.ndarray
    token: int | None


class Chain:
    """A sampler chain. Each link is [name, argument, ...] as llama.cpp's llama_sampler_init_<name> takes them."""

    def __init__(self, links: Sequence[Sequence[Any]], vocab_size: int, vocab: Any = None) -> None:
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for name, *arguments in links:
            llama_cpp.llama_sampler_chain_add(self._chain, _link(name, arguments, vocab_size, vocab))

    def accept(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            llama_cpp.llama_sampler_accept(self._chain, token)

    def apply(self, ids: np.ndarray, logits: np.ndarray) -> Answer:
        """The chain on these candidates, which come in the order given and not declared sorted."""
        table = np.zeros(len(ids), _CANDIDATE)
        table["id"], table["logit"] = ids, logits
        data = (llama_cpp.llama_token_data * len(ids)).from_buffer(table)
        array = llama_cpp.llama_token_data_array(data=data, size=len(ids), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        left = ctypes.string_at(array.data, array.size * _CANDIDATE.itemsize)  # xtc moves the array's beginning
        found = np.frombuffer(left, _CANDIDATE)
        token = int(found["id"][array.selected]) if array.selected >= 0 else None
        found = found[np.argsort(found["id"], kind="stable")]
        return Answer(found["id"].copy(), found["logit"].copy(), found["p"].copy(), token)

    def __del__(self) -> None:
        llama_cpp.llama_sampler_free(self._chain)


def _link(name: str, arguments: Sequence[Any], vocab_size: int, vocab: Any) -> Any:
    if name == "penalties":
        return llama_cpp.llama_sampler_init_penalties(vocab_size, *arguments)
    if name == "logit_bias":
        pairs = [llama_cpp.llama_logit_bias(token, float(bias)) for token, bias in arguments[0]]
        return llama_cpp.llama_sampler_init_logit_bias(
            vocab_size, len(pairs), (llama_cpp.llama_logit_bias * len(pairs))(*pairs)
        )
    if name == "mirostat":
        seed, tau, eta, m = arguments
        return llama_cpp.llama_sampler_init_mirostat(vocab_size, seed, tau, eta, m)
    if name == "dry":
        return _dry(*arguments, vocab=vocab)
    return getattr(llama_cpp, f"llama_sampler_init_{name}")(*arguments)


def _dry(multiplier: float, base: float, allowed: int, window: int, breakers: Sequence[Any], *, vocab: Any) -> Any:
    """With breakers as texts where there is a vocabulary, else as token ids: [1, [2, 3]] is 1 alone and 2 before 3.

    The C API has the first alone. llama.cpp's own tests use the second (llama_sampler_init_dry_testing), a C++
    function that the library exports. It may not be called where the sampler would be off: it writes into what is
    not there.
    """
    if vocab is not None or multiplier == 0 or base < 1 or window <= 0:
        texts = [text.encode() for text in breakers] if vocab is not None else []
        written = (ctypes.c_char_p * len(texts))(*texts)
        return llama_cpp.llama_sampler_init_dry(vocab, multiplier, base, allowed, window, written, len(texts))
    testing = _LIB["_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"]
    testing.argtypes = [ctypes.c_float, ctypes.c_float, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]
    testing.restype = llama_cpp.llama_sampler_p_ctypes
    sequences = [[b] if isinstance(b, int) else list(b) for b in breakers]
    held = [(ctypes.c_int32 * len(sequence))(*sequence) for sequence in sequences]
    inner = (_Vector * len(held))(*[_Vector.over(numbers) for numbers in held])
    return testing(multiplier, base, allowed, window, ctypes.byref(_Vector.over(inner)))  # which copies them


@llama_cpp.llama_log_callback
def _quiet(level: int, text: bytes, data: Any) -> None:
    """Instead of what llama.cpp writes to stderr. It is called as long as the process lives."""


class _Vector(ctypes.Structure):
    """A std::vector as libstdc++ and libc++ lay it out: begin, end, end of the storage."""

    _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("limit", ctypes.c_void_p))

    @classmethod
    def over(cls, array: Any) -> _Vector:
        begin = ctypes.addressof(array)
        end = begin + ctypes.sizeof(array)
        return cls(begin, end, end)


def vocabulary(gguf: Path) -> Any:
    """The vocabulary of a GGUF file; its weights are not read. The model stays loaded as long as the process."""
    llama_cpp.llama_log_set(_quiet, None)
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), parameters)
    if not model:
        raise OSError(f"llama.cpp cannot read {gguf}")
    return llama_cpp.llama_model_get_vocab(model)


def tokenized(text: str, vocab: Any) -> list[int]:
    """Its token ids, without a beginning-of-sequence token and with special tokens' texts as plain text."""
    data = text.encode()
    tokens = (ctypes.c_int32 * (len(data) + 1))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), tokens, len(tokens), False, False)
    return list(tokens[:count])


def versions() -> dict[str, str]:
    """What answered. ggml is built from llama.cpp's own tree, and its commit is llama.cpp's."""
    ggml = ctypes.CDLL(str(next(Path(llama_cpp.__file__).parent.joinpath("lib").glob("libggml-base.*"))))
    for function in (ggml.ggml_version, ggml.ggml_commit, _LIB.llama_version):
        function.restype = ctypes.c_char_p
    return {
        "llama-cpp-python": importlib.metadata.version("llama-cpp-python"),
        "llama.cpp": f"{_LIB.llama_version().decode()}, commit {ggml.ggml_commit().decode().removesuffix('-dirty')}",
        "ggml": ggml.ggml_version().decode(),
    }
