"""The model behind the loop: what a runner promises, and how one is chosen for a model.

A runner holds ``rows`` slots. A request's tokens lie in one slot from position 0 on; the caller keeps the rows it
decodes in the first slots. Lengths are known on the host, so that no pass has to ask the device for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ModelError
from .limits import DEFAULT_LENGTH, affordable_length, model_length, rope_limit
from .probe import check_invariance, check_slots
from .sequential import SequentialRunner
from .slotted import SlotRunner, unslottable

PREFILL_CHUNK = 512


class Runner(Protocol):
    """What the loop asks of a model. Logits are float32 on ``device``; NaN passes through.

    What does not fit (``max_length``, a slot that does not exist) raises ``RequestError`` before anything runs.
    """

    vocab_size: int
    """Columns of the logits; may exceed the tokenizer's entries."""
    device: torch.device
    """Where tokens go in and logits come out."""
    rows: int
    """Number of slots."""
    max_length: int
    """Positions in a slot."""
    bytes_per_position: int
    """Bytes of state that one position of one slot takes over all layers; 0 where state does not grow with length."""
    slotted: ClassVar[bool]
    """Whether rows are decoded together."""
    note: str | None
    """One line for the user where rows run one at a time, and why."""

    @property
    def lengths(self) -> Sequence[int]:
        """Positions filled in each slot."""

    def prefill(self, row: int, tokens: Sequence[int], start: int = 0, chunk: int = PREFILL_CHUNK) -> Tensor:
        """Fill slot ``row`` with ``tokens`` (the whole sequence) and return the logits ``[1, V]`` after the last.

        The slot's first ``start`` positions are kept, and must hold ``tokens[:start]`` already; ``start <
        len(tokens)``. Long sequences run ``chunk`` tokens at a time, which bounds memory.
        """

    def prefill_in_chunks(
        self, row: int, tokens: Sequence[int], start: int = 0, chunk: int = PREFILL_CHUNK
    ) -> Iterator[Tensor | None]:
        """``prefill``, giving the caller a turn behind every chunk: None each time, and the logits behind the last.

        In between, slots below ``row`` may be decoded and changed in any way; no other slot may.
        """

    def prefill_many(self, first: int, prompts: Sequence[Sequence[int]]) -> Tensor | None:
        """Fill the slots ``first``, ``first + 1`` ... with a prompt each, in one pass: logits ``[n, V]``.

        None, with nothing done, where this runner gains nothing by it.
        """

    def decode(self, tokens: Tensor, rows: int) -> Tensor:
        """Append ``tokens`` (int64 ``[rows, 1]``) to slots ``0 .. rows - 1``; logits ``[rows, V]``."""

    def extend(self, tokens: Tensor) -> Tensor:
        """Append ``tokens`` (int64 ``[n, k]``) to slots ``0 .. n - 1``; logits ``[n, k, V]`` after each of them."""

    def copy(self, source: int, target: int) -> None:
        """Slot ``target`` becomes a copy of ``source``."""

    def select(self, parents: Sequence[int]) -> None:
        """Slot ``i`` becomes a copy of slot ``parents[i]``, all at once; slots from ``len(parents)`` on stay."""

    def rewind(self, row: int, length: int) -> None:
        """Forget a slot's positions from ``length`` on."""

    def logits_of(self, tokens: Sequence[int]) -> Tensor:
        """Logits ``[T, V]`` after each of ``tokens``; no slot is touched."""

    def logits_in_chunks(self, tokens: Sequence[int], chunk: int = PREFILL_CHUNK) -> Iterator[Tensor]:
        """The same in pieces of up to ``chunk`` positions, so that a long text need not fit in memory at once."""


def compiled(runner: Runner) -> str | None:
    """Compile the step that ``runner`` decodes with. Why not, where it cannot be. Raises ModelError."""
    if isinstance(runner, SlotRunner):
        return runner.compile()
    return "the runner has its own step" if runner.slotted else "rows run one at a time"


def make_runner(
    model: PreTrainedModel,
    *,
    rows: int = 8,
    max_length: int | None = None,
    batch_invariant: bool = False,
    probe: bool = True,
    lean: bool = True,
) -> Runner:
    """The runner for ``model``: slots where its state allows, else one row at a time with a note that says why.

    ``max_length`` defaults to the least of the model's own, 4,096 and what memory allows for ``rows`` full slots.
    ``batch_invariant`` makes each row's logits bitwise the same in any company. ``probe`` runs a short ragged batch
    against the plain model and falls back where they differ: leave it on. ``lean`` lets models of the Llama family run
    a decoder step of ours (core.model.lean) instead of their own forward.
    """
    own = model_length(model)
    if max_length is not None and own is not None and max_length > own:
        raise ModelError(
            f"max_length={max_length} is more than the {own} positions this model was made for; use at most {own}"
        )
    if rows < 1 or (max_length is not None and max_length < 2):
        raise ModelError(
            f"a runner needs at least one row and two positions (got rows={rows}, max_length={max_length})"
        )
    wanted = max_length or min(own or DEFAULT_LENGTH, rope_limit(model) or DEFAULT_LENGTH, DEFAULT_LENGTH)
    reason = unslottable(model, wanted)
    if reason is None:
        runner = SlotRunner(model, rows=rows, max_length=wanted, batch_invariant=batch_invariant, lean=lean)
        reason = check_slots(runner) if probe else None
        if reason is None:
            if batch_invariant and probe:
                check_invariance(runner)
            runner.reset()
            if max_length is None:
                runner.max_length = affordable_length(runner, wanted)
            return runner
    return SequentialRunner(model, rows=rows, max_length=wanted, note=f"rows run one at a time: {reason}")
