"""Models whose state cannot lie in slots (state-space, recurrent, hybrid): one row at a time, each with a cache of
its own.

A recurrent state cannot be cut back, so a row keeps its tokens and ``rewind`` runs what is kept again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import RequestError
from .slotted import input_device

CACHE_NAMES = ("past_key_values", "cache_params", "state")
STEPWISE = 16  # so many tokens behind a kept prefix are run one by one rather than with the whole sequence again


@dataclass(slots=True)
class RowState:
    """One row: its tokens, and the model's state after them under the name by which the model takes it."""

    tokens: list[int] = field(default_factory=list)
    cache: dict[str, Any] = field(default_factory=dict)


class SequentialRunner:
    """See ``runner.Runner``."""

    slotted: ClassVar[bool] = False

    def __init__(self, model: PreTrainedModel, *, rows: int, max_length: int, note: str) -> None:
        self.model, self.rows, self.max_length = model, rows, max_length
        self.note: str | None = note
        self.bytes_per_position = 0
        self.device = input_device(model)
        self.vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._states = [RowState() for _ in range(rows)]

    @property
    def lengths(self) -> list[int]:
        """Positions filled in each slot."""
        return [len(state.tokens) for state in self._states]

    @torch.no_grad()
    def prefill(self, row: int, tokens: Sequence[int], start: int = 0, chunk: int = 512) -> Tensor:
        """See ``Runner.prefill``. Not in chunks: not every such model can continue with more than one token."""
        held = len(self._state(row).tokens)
        if not 0 <= start < len(tokens) or start > held:
            raise RequestError(f"cannot keep {start} of {held} positions for a prompt of {len(tokens)} tokens")
        self._check_length(len(tokens))
        if start and start == held and len(tokens) - start <= STEPWISE:
            for token in tokens[start:]:
                logits = self._run(row, [token])
            return logits[-1:]
        self._states[row] = RowState()
        return self._run(row, tokens)[-1:]

    def prefill_in_chunks(
        self, row: int, tokens: Sequence[int], start: int = 0, chunk: int = 512
    ) -> Iterator[Tensor | None]:
        """See ``Runner.prefill_in_chunks``. All at once, as ``prefill``."""
        yield self.prefill(row, tokens, start, chunk)

    def prefill_many(self, first: int, prompts: Sequence[Sequence[int]]) -> None:
        """See ``Runner.prefill_many``."""

    @torch.no_grad()
    def decode(self, tokens: Tensor, rows: int) -> Tensor:
        """See ``Runner.decode``."""
        return self.extend(tokens[:rows])[:, -1]

    @torch.no_grad()
    def extend(self, tokens: Tensor) -> Tensor:
        """See ``Runner.extend``. One token and one row at a time."""
        taken: list[list[int]] = tokens.tolist()
        for row, ids in enumerate(taken):
            self._check_length(len(self._state(row).tokens) + len(ids))
        return torch.stack([torch.cat([self._run(row, [token]) for token in ids]) for row, ids in enumerate(taken)])

    def copy(self, source: int, target: int) -> None:
        """See ``Runner.copy``."""
        self._state(target)
        self._states[target] = copy.deepcopy(self._state(source))

    def select(self, parents: Sequence[int]) -> None:
        """See ``Runner.select``."""
        self._state(len(parents) - 1)
        self._states[: len(parents)] = [
            self._state(parent) if row == parent else copy.deepcopy(self._state(parent))
            for row, parent in enumerate(parents)
        ]

    @torch.no_grad()
    def rewind(self, row: int, length: int) -> None:
        """See ``Runner.rewind``. Runs the tokens that stay again."""
        tokens = self._state(row).tokens
        if not 0 <= length <= len(tokens):
            raise RequestError(f"cannot rewind a row of {len(tokens)} positions to {length}")
        if length < len(tokens):
            self._states[row] = RowState()
            if length:
                self._run(row, tokens[:length])

    @torch.no_grad()
    def logits_of(self, tokens: Sequence[int]) -> Tensor:
        """See ``Runner.logits_of``."""
        self._check_length(len(tokens))
        ids = torch.tensor([list(tokens)], dtype=torch.int64, device=self.device)
        logits: Tensor = self.model(input_ids=ids, use_cache=False, return_dict=True).logits
        return logits[0].to(self.device).float()

    def logits_in_chunks(self, tokens: Sequence[int], chunk: int = 512) -> Iterator[Tensor]:
        """See ``Runner.logits_in_chunks``: the model runs once, the pieces are cut from its logits."""
        yield from self.logits_of(tokens).split(chunk)

    def _run(self, row: int, tokens: Sequence[int]) -> Tensor:
        """Append ``tokens`` to a row; float32 logits ``[k, V]``."""
        state = self._states[row]
        ids = torch.tensor([list(tokens)], dtype=torch.int64, device=self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": True, "return_dict": True, **state.cache}
        if "position_ids" in self._accepted:
            inputs["position_ids"] = torch.arange(len(tokens), device=self.device)[None] + len(state.tokens)
        out = self.model(**inputs)
        state.cache = {name: out[name] for name in CACHE_NAMES if out.get(name) is not None}
        state.tokens = [*state.tokens, *tokens]
        logits: Tensor = out.logits
        return logits[0].to(self.device).float()

    def _state(self, row: int) -> RowState:
        if not 0 <= row < self.rows:
            raise RequestError(f"there is no slot {row}: this engine was loaded with max_rows={self.rows}")
        return self._states[row]

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise RequestError(f"{length} tokens do not fit: a row holds at most {self.max_length} (max_length)")
