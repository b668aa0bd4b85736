"""A runner with faults, and the kit's small models. Tests get these through the fixtures of ``conftest.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from logitmill.plugins.testing.tiny import EOS, VOCAB, byte_tokenizer, engine, llama, loaded

__all__ = ["EOS", "VOCAB", "Faulty", "byte_tokenizer", "engine", "llama", "loaded"]


class Faulty:
    """A runner with faults. ``decode`` and ``prefill`` may be replaced by functions of (the runner, their
    arguments).
    """

    def __init__(self, runner: Any) -> None:
        self.inner = runner
        self.calls = 0
        self.on_decode: Callable[[int, Tensor], Tensor] = lambda call, logits: logits
        self.on_prefill: Callable[[Sequence[int], Tensor], Tensor] = lambda tokens, logits: logits
        self.on_copy: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def decode(self, tokens: Tensor, rows: int) -> Tensor:
        self.calls += 1
        return self.on_decode(self.calls, self.inner.decode(tokens, rows))

    def prefill(self, row: int, tokens: Sequence[int], start: int = 0) -> Tensor:
        return self.on_prefill(tokens, self.inner.prefill(row, tokens, start=start))

    def copy(self, source: int, target: int) -> None:
        self.on_copy()
        self.inner.copy(source, target)
