"""History: the tokens of every row in flight, on the device for stages and on the host for text.

Row i of a History is slot i of the runner: rows are kept compact, joined at the end and moved when one leaves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from .transfer import index_on, queued, to_device

Rows: TypeAlias = "Tensor | list[Tensor]"
"""Token ids of some rows: int64 [R, n], or of each row [n_i]."""


class TextReader(Protocol):
    """Incremental detokenization of one row (core.tokens.TokenText)."""

    def push(self, token: int) -> str: ...


class History:
    """Tokens of R rows: ``tokens`` int64 [R, T], padded with -1 past each row's length."""

    def __init__(
        self, vocab_size: int, device: torch.device | str = "cpu", reader: Callable[[], TextReader] | None = None
    ) -> None:
        self.vocab_size, self.device = vocab_size, torch.device(device)
        self.host_lengths: list[int] = []  # how many tokens of each row the host knows of
        self.prompt_sizes: list[int] = []
        self._reader = reader
        self._texts: list[tuple[TextReader, int, str] | None] = []
        self._host: list[list[int]] | None = []  # None: nobody has asked for what came as tensors
        self._held: Tensor | None = None  # int64 [R, room], made from the host's tokens when first asked for
        self._counts: Tensor | None = None  # int32 [R, V]: of generated tokens, kept up to date once asked for
        self._prompt_counts: Tensor | None = None
        self._entropies: Tensor | None = None  # float32 [R, T] by place, from the first time it is recorded
        self._sizes: tuple[Tensor, Tensor] | None = None
        self._shown: Tensor | None = None  # int64 [R, T]: ``tokens``, since a row last grew
        self._pending: list[Tensor] = []  # int64 [R, 1] each: what the device has and the host does not know yet

    @property
    def rows(self) -> int:
        return len(self.prompt_sizes)

    @property
    def host(self) -> list[list[int]]:
        """The tokens of each row that the host knows of. Read from the device once, where they came as tensors."""
        if self._host is None:
            assert self._held is not None
            table = self._held.cpu()
            self._host = [row[:length].tolist() for row, length in zip(table, self.host_lengths, strict=True)]
        return self._host

    # -- rows come and go ----------------------------------------------------------------------------------------------

    def join(self, prompt: Sequence[int], output: Sequence[int] = ()) -> int:
        """A new row behind the others. Returns its index."""
        self.extend([prompt], [output])
        return self.rows - 1

    def begin(self, prompts: Rows, outputs: Rows) -> None:
        """The first rows, of int64 tensors."""
        assert not self.rows
        self.prompt_sizes = sizes_of(prompts)
        self.host_lengths = [sum(sizes) for sizes in zip(self.prompt_sizes, sizes_of(outputs), strict=True)]
        self._texts = [None] * len(prompts)
        self._host = [[] for _ in self.prompt_sizes]
        self._held = self._counts = self._prompt_counts = self._entropies = None
        if any(self.host_lengths):
            room = _room(max(self.host_lengths))
            if isinstance(prompts, Tensor) and isinstance(outputs, Tensor):
                self._held = self._table(torch.cat([prompts, outputs], -1), room)
            else:
                self._held = self._table([torch.cat(parts) for parts in zip(prompts, outputs, strict=True)], room)
            self._host = None

    def extend(self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> None:
        """New rows behind the others, all at once."""
        new = [[*prompt, *output] for prompt, output in zip(prompts, outputs, strict=True)]
        if not new:
            return
        self.host.extend(new)
        if self._held is not None:
            self._reserve(max(map(len, new)) + 1)
            self._held = torch.cat([self._held, self._table(list(map(packed, new)), self._held.shape[1])])
        self.host_lengths.extend(map(len, new))
        self.prompt_sizes.extend(map(len, prompts))
        self._texts.extend([None] * len(new))
        if self._entropies is not None:
            fresh = self._entropies.new_full((len(new), self._tokens.shape[1]), float("nan"))
            self._entropies = torch.cat([self._entropies, fresh])
        self._sizes = self._shown = None
        behind = slice(self.rows - len(new), None)
        if self._counts is not None:
            self._counts = torch.cat([self._counts, self._count(behind, prompt=False)])
        if self._prompt_counts is not None:
            self._prompt_counts = torch.cat([self._prompt_counts, self._count(behind, prompt=True)])

    def select(self, parents: Sequence[int]) -> None:
        """Row i becomes a copy of row parents[i]; rows not named are gone."""
        self._host = [list(self.host[p]) for p in parents] if parents else []
        self.host_lengths = [self.host_lengths[p] for p in parents]
        self.prompt_sizes = [self.prompt_sizes[p] for p in parents]
        self._texts = [None if parents.count(p) > 1 else self._texts[p] for p in parents]
        index = index_on(self.device, parents)
        self._held = None if self._held is None else self._held[index]
        self._counts = None if self._counts is None else self._counts[index]
        self._prompt_counts = None if self._prompt_counts is None else self._prompt_counts[index]
        self._entropies = None if self._entropies is None else self._entropies[index]
        self._sizes = self._shown = None
        if not parents:  # forgotten in the middle of a step, maybe
            self._pending = []

    # -- tokens --------------------------------------------------------------------------------------------------------

    def append(self, tokens: Tensor, host: Sequence[int] | None = None) -> None:
        """One token a row: int64 [R, 1] on the device, and on the host where already known (else ``note`` later)."""
        if self._held is not None:  # else it is made of what the host knows and of what is pending, if anybody asks
            self._reserve(max(self.host_lengths) + len(self._pending) + 1)
            self._held.scatter_(1, self.sizes[1], tokens)
        if self._sizes is not None:
            self._sizes = self._sizes[0], self._sizes[1] + 1
        self._pending.append(tokens)
        if self._counts is not None:
            self._counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.int32))
        self._shown = None
        if host is not None:
            self.note(host)

    def note(self, host: Sequence[int]) -> None:
        """The oldest of what ``append`` put on the device, now known to the host. Nothing to do where text has read it
        already.
        """
        if self._pending:
            for row, token in zip(self.host, host, strict=True):
                row.append(int(token))
            self.host_lengths = [length + 1 for length in self.host_lengths]
            del self._pending[0]

    @property
    def _tokens(self) -> Tensor:
        """int64 [R, room], -1 past each row's length."""
        if self._held is None:
            longest = max([0, *self.host_lengths])
            self._held = self._table(list(map(packed, self.host)), _room(longest + len(self._pending)))
            for i, tokens in enumerate(self._pending):
                at = to_device([[length + i] for length in self.host_lengths], torch.int64, self.device)
                self._held.scatter_(1, at, tokens)
        return self._held

    def _table(self, rows: Rows, room: int) -> Tensor:
        """int64 [n, room]: token ids, -1 behind them."""
        block = torch.full((len(rows), room), -1, dtype=torch.int64)
        if isinstance(rows, Tensor):
            block[:, : rows.shape[1]] = rows
        else:
            for own, tokens in zip(block, rows, strict=True):
                own[: len(tokens)] = tokens
        return queued(block, self.device)

    def _reserve(self, length: int) -> None:
        have = self._tokens.shape[1]
        if length > have:
            more = max(length, 2 * have) - have
            self._held = torch.nn.functional.pad(self._tokens, (0, more), value=-1)
            if self._entropies is not None:
                self._entropies = torch.nn.functional.pad(self._entropies, (0, more), value=float("nan"))

    @property
    def tokens(self) -> Tensor:
        """int64 [R, T], T the longest row (at least 1), -1 past each row's length."""
        if self._shown is None:
            self._shown = self._tokens[:, : max([1, *(length + len(self._pending) for length in self.host_lengths)])]
        return self._shown

    @property
    def sizes(self) -> tuple[Tensor, Tensor]:
        """(prompt lengths, lengths), int64 [R, 1] each."""
        if self._sizes is None:
            lengths = [length + len(self._pending) for length in self.host_lengths]
            prompt = to_device(self.prompt_sizes, torch.int64, self.device).reshape(-1, 1)
            self._sizes = prompt, to_device(lengths, torch.int64, self.device).reshape(-1, 1)
        return self._sizes

    # -- entropies -----------------------------------------------------------------------------------------------------

    def record(self, entropy: Tensor) -> None:
        """The entropy (float32 [R, 1], nats) of the distribution that the token just appended was drawn from."""
        if self._entropies is None:
            self._entropies = torch.full(self._tokens.shape, float("nan"), device=self.device)
        _, lengths = self.sizes
        self._entropies.scatter_(1, lengths - 1, entropy)

    def recall(self, entropies: Sequence[Sequence[float]]) -> None:
        """What ``record`` would have held of rows that came with an output: a number for each token of it."""
        self._entropies = torch.full(self._tokens.shape, float("nan"), device=self.device)
        for row, (size, own) in enumerate(zip(self.prompt_sizes, entropies, strict=True)):
            if own:
                self._entropies[row, size : size + len(own)] = torch.tensor(own, device=self.device)

    @property
    def entropies(self) -> Tensor:
        """float32 [R, T]: what was recorded, by place; NaN elsewhere."""
        if self._entropies is None:
            return torch.full(self.tokens.shape, float("nan"), device=self.device)
        return self._entropies[:, : self.tokens.shape[1]]

    # -- counts --------------------------------------------------------------------------------------------------------

    def _count(self, rows: slice, prompt: bool) -> Tensor:
        """int32 [n, V]: how often each token stands in some rows' prompts, or behind them."""
        tokens = self.tokens[rows]
        inside = torch.arange(tokens.shape[1], device=self.device) < self.sizes[0][rows]
        counted = inside if prompt else ~inside & (tokens >= 0)
        counts = torch.zeros(len(tokens), self.vocab_size, dtype=torch.int32, device=self.device)
        return counts.scatter_add_(1, tokens.clamp(min=0), counted.int())

    @property
    def counts(self) -> Tensor:
        """int32 [R, V]: how often each token was generated."""
        if self._counts is None:
            self._counts = self._count(slice(None), prompt=False)
        return self._counts

    @property
    def prompt_counts(self) -> Tensor:
        """int32 [R, V]: how often each token stands in the prompt."""
        if self._prompt_counts is None:
            self._prompt_counts = self._count(slice(None), prompt=True)
        return self._prompt_counts

    # -- text ----------------------------------------------------------------------------------------------------------

    def text(self, row: int) -> str:
        """The whole sequence as text, special tokens included, without a character that is not complete yet.

        Waits for tokens that only the device has.
        """
        if self._reader is None:
            raise LookupError("text needs a tokenizer")
        while self._pending:
            self.note(self._pending[0][:, 0].tolist())
        reader, read, text = self._texts[row] or (self._reader(), 0, "")
        for token in self.host[row][read:]:
            text += reader.push(token)
        self._texts[row] = reader, len(self.host[row]), text
        return text


def _room(length: int) -> int:
    """Places for so many tokens and the next one."""
    return max(64, length + 1)


def sizes_of(rows: Rows) -> list[int]:
    """How many there are of each."""
    return [rows.shape[1]] * len(rows) if isinstance(rows, Tensor) else list(map(len, rows))


def packed(tokens: Sequence[int]) -> Tensor:
    """int64 [n] of token ids: many times as fast as torch.tensor is with a list. Raises struct.error for no integer."""
    if not tokens:
        return torch.empty(0, dtype=torch.int64)
    return torch.frombuffer(bytearray(struct.pack(f"{len(tokens)}q", *tokens)), dtype=torch.int64)
