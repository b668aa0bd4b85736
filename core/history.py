"""History: the tokens of every row in flight, on the device for stages and on the host for text.

Row i of a History is slot i of the runner: rows are kept compact, joined at the end and moved when one leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class TextReader(Protocol):
    """Incremental detokenization of one row (core.tokens.TokenText)."""

    def push(self, token: int) -> str: ...


class History:
    """Tokens of R rows: ``tokens`` int64 [R, T], padded with -1 past each row's length."""

    def __init__(
        self, vocab_size: int, device: torch.device | str = "cpu", reader: Callable[[], TextReader] | None = None
    ) -> None:
        self.vocab_size, self.device = vocab_size, torch.device(device)
        self.host: list[list[int]] = []
        self.prompt_sizes: list[int] = []
        self._reader = reader
        self._texts: list[tuple[TextReader, int, str] | None] = []
        self._tokens = torch.full((0, 64), -1, dtype=torch.int64, device=self.device)
        self._counts: Tensor | None = None  # int32 [R, V]: of generated tokens, kept up to date once asked for
        self._prompt_counts: Tensor | None = None
        self._entropies: Tensor | None = None  # float32 [R, T] by place, from the first time it is recorded
        self._sizes: tuple[Tensor, Tensor] | None = None
        self._pending: list[Tensor] = []  # int64 [R, 1] each: what the device has and the host does not know yet

    @property
    def rows(self) -> int:
        return len(self.host)

    # -- rows come and go ----------------------------------------------------------------------------------------------

    def join(self, prompt: Sequence[int], output: Sequence[int] = ()) -> int:
        """A new row behind the others. Returns its index."""
        self.extend([prompt], [output])
        return self.rows - 1

    def extend(self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> None:
        """New rows behind the others, all at once."""
        new = [[*prompt, *output] for prompt, output in zip(prompts, outputs, strict=True)]
        if not new:
            return
        self.host.extend(new)
        self.prompt_sizes.extend(map(len, prompts))
        self._texts.extend([None] * len(new))
        longest = max(map(len, new))
        self._reserve(longest + 1)
        block = torch.full((len(new), self._tokens.shape[1]), -1, dtype=torch.int64)
        block[:, :longest] = torch.tensor([row + [-1] * (longest - len(row)) for row in new], dtype=torch.int64)
        self._tokens = torch.cat([self._tokens, block.to(self.device)])
        if self._counts is not None:
            self._counts = torch.cat([self._counts, *map(self._count, outputs)])
        if self._prompt_counts is not None:
            self._prompt_counts = torch.cat([self._prompt_counts, *map(self._count, prompts)])
        if self._entropies is not None:
            self._entropies = torch.cat([self._entropies, self._entropies.new_full(block.shape, float("nan"))])
        self._sizes = None

    def select(self, parents: Sequence[int]) -> None:
        """Row i becomes a copy of row parents[i]; rows not named are gone."""
        self.host = [list(self.host[p]) for p in parents]
        self.prompt_sizes = [self.prompt_sizes[p] for p in parents]
        self._texts = [None if parents.count(p) > 1 else self._texts[p] for p in parents]
        index = torch.tensor(list(parents), dtype=torch.int64, device=self.device)
        self._tokens = self._tokens[index]
        self._counts = None if self._counts is None else self._counts[index]
        self._prompt_counts = None if self._prompt_counts is None else self._prompt_counts[index]
        self._entropies = None if self._entropies is None else self._entropies[index]
        self._sizes = None
        if not parents:  # forgotten in the middle of a step, maybe
            self._pending = []

    # -- tokens --------------------------------------------------------------------------------------------------------

    def append(self, tokens: Tensor, host: Sequence[int] | None = None) -> None:
        """One token a row: int64 [R, 1] on the device, and on the host where already known (else ``note`` later)."""
        _, lengths = self.sizes
        self._pending.append(tokens)
        self._reserve(max(map(len, self.host)) + len(self._pending))
        self._tokens.scatter_(1, lengths, tokens)
        if self._counts is not None:
            self._counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.int32))
        self._sizes = (self.sizes[0], lengths + 1)
        if host is not None:
            self.note(host)

    def note(self, host: Sequence[int]) -> None:
        """The oldest of what ``append`` put on the device, now known to the host. Nothing to do where text has read it
        already.
        """
        if self._pending:
            for row, token in zip(self.host, host, strict=True):
                row.append(int(token))
            del self._pending[0]

    def _reserve(self, length: int) -> None:
        have = self._tokens.shape[1]
        if length > have:
            more = max(length, 2 * have) - have
            self._tokens = torch.nn.functional.pad(self._tokens, (0, more), value=-1)
            if self._entropies is not None:
                self._entropies = torch.nn.functional.pad(self._entropies, (0, more), value=float("nan"))

    @property
    def tokens(self) -> Tensor:
        """int64 [R, T], T the longest row (at least 1), -1 past each row's length."""
        return self._tokens[:, : max([1, *(len(row) + len(self._pending) for row in self.host)])]

    @property
    def sizes(self) -> tuple[Tensor, Tensor]:
        """(prompt lengths, lengths), int64 [R, 1] each."""
        if self._sizes is None:
            prompt = torch.tensor(self.prompt_sizes, dtype=torch.int64).reshape(-1, 1)
            length = torch.tensor([len(row) + len(self._pending) for row in self.host], dtype=torch.int64).reshape(
                -1, 1
            )
            self._sizes = prompt.to(self.device), length.to(self.device)
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

    def _count(self, tokens: Sequence[int]) -> Tensor:
        ids = torch.tensor(list(tokens), dtype=torch.int64)
        return torch.bincount(ids, minlength=self.vocab_size)[None, : self.vocab_size].to(torch.int32).to(self.device)

    @property
    def counts(self) -> Tensor:
        """int32 [R, V]: how often each token was generated."""
        if self._counts is None:
            rows = [self._count(row[size:]) for row, size in zip(self.host, self.prompt_sizes, strict=True)]
            self._counts = torch.cat(rows)
            for tokens in self._pending:
                self._counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.int32))
        return self._counts

    @property
    def prompt_counts(self) -> Tensor:
        """int32 [R, V]: how often each token stands in the prompt."""
        if self._prompt_counts is None:
            rows = [self._count(row[:size]) for row, size in zip(self.host, self.prompt_sizes, strict=True)]
            self._prompt_counts = torch.cat(rows)
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
