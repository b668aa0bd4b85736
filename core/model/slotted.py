"""The runner over slots: any transformers model whose state is keys and values.

Row counts. On a CPU a step costs what its rows cost, so it runs exactly the rows it is given. Elsewhere it runs the
smallest power of two that fits, idle slots included, so that few shapes occur. With ``batch_invariant`` it runs every
slot, always, and attends row by row over each row's own length: kernels may sum differently for another row count or
key count.

An idle slot is given token 0 at its next position, which nothing attends to afterwards: what the slot holds stays
good for reuse.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from ..errors import ModelError, RequestError
from ..transfer import to_device
from .attention import SlotAttention
from .captured import CapturedDecode, CudaRecorder, bucket, capturable
from .lean import LeanDecoder, misfit
from .limits import affordable_length, rope_limit
from .progress import Bar
from .quiet import first_line
from .slots import SlotCache, Step

ATTEND = 128  # attention reads the longest live length rounded up to this
FIRST_POSITIONS = 256


class SlotRunner:
    """See ``runner.Runner``. Not thread-safe: one engine, one thread."""

    slotted: ClassVar[bool] = True
    note: str | None = None

    def __init__(
        self, model: PreTrainedModel, *, rows: int, max_length: int, batch_invariant: bool = False, lean: bool = True
    ) -> None:
        own = not lean or (batch_invariant and by_bitsandbytes(model))  # its kernels may see how many rows there are
        self.lean = None if own or misfit(model) is not None else LeanDecoder(model)
        self.model, self.rows, self.max_length, self.batch_invariant = model, rows, max_length, batch_invariant
        self.device = input_device(model)
        self.alone = batch_invariant and rows_interact(model)
        self._exact = self.device.type == "cpu"
        self.attention = SlotAttention(model)
        accepted = inspect.signature(model.forward).parameters
        self._keep, self._positioned = "logits_to_keep" in accepted, "position_ids" in accepted
        self.vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
        self.bytes_by_device: dict[torch.device, int] = {}
        self.bytes_per_position = 0
        self.as_made = True  # whether the self-check turned nothing off: what it did is not known at the next start
        self.read_at_least = 0  # positions attention reads where rows are stepped together; raised by the self-check
        # ``lengths`` on the device, where steps are captured: these read and never move it
        self._lengths = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.captured: CapturedDecode | None = None
        if self.device.type == "cuda" and not batch_invariant and capturable(model):
            self.captured = CapturedDecode(model, CudaRecorder(self.device), self._recorded, self._lengths)
        self.reset()

    def reset(self) -> None:
        """Empty every slot and give its memory back."""
        self.cache = SlotCache()
        self.lengths = [0] * self.rows
        self._written = [0] * self.rows  # positions that may hold anything but zero
        self._lengths.zero_()
        if self.captured is not None:
            self.captured.forget()

    @torch.no_grad()
    def prefill(self, row: int, tokens: Sequence[int], start: int = 0, chunk: int = 512) -> Tensor:
        """See ``Runner.prefill``."""
        *_, logits = self.prefill_in_chunks(row, tokens, start, chunk)
        assert logits is not None
        return logits

    @torch.no_grad()
    def prefill_in_chunks(
        self, row: int, tokens: Sequence[int], start: int = 0, chunk: int = 512
    ) -> Iterator[Tensor | None]:
        """See ``Runner.prefill_in_chunks``. A step between two chunks may write to the next position, as to an idle
        slot's: the next chunk writes over it.
        """
        self._check_row(row)
        if not 0 <= start < len(tokens) or start > self.lengths[row]:
            raise RequestError(
                f"cannot keep {start} of {self.lengths[row]} positions for a prompt of {len(tokens)} tokens"
            )
        self._check_length(len(tokens))
        self._look()
        self._reserve(row + 1, len(tokens))
        self._set_length(row, start)
        self._written[row] = max(self._written[row], len(tokens))
        for logits in self._pieces(self.cache, row, tokens, start, chunk, keep=1):
            self._set_length(row, min(self.lengths[row] + chunk, len(tokens)))
            if self.lengths[row] < len(tokens):
                yield None
            else:
                self._clear_behind(row)
                yield logits[:, -1].float()

    @torch.no_grad()
    def prefill_many(self, first: int, prompts: Sequence[Sequence[int]]) -> Tensor | None:
        """See ``Runner.prefill_many``."""
        if self.alone or self.batch_invariant:
            return None
        self._look()
        if self.lean is None:
            return None
        self._check_row(first + len(prompts) - 1)
        self._check_length(max(map(len, prompts)))
        self._reserve(first + len(prompts), max(map(len, prompts)))
        logits = self.lean.prefill(prompts, self.cache, first)
        for row, prompt in enumerate(prompts, first):
            self._written[row] = max(self._written[row], len(prompt))
            self._set_length(row, len(prompt))
            self._clear_behind(row)
        return logits.float()

    @torch.no_grad()
    def decode(self, tokens: Tensor, rows: int) -> Tensor:
        """See ``Runner.decode``."""
        return self._advance(tokens[:rows])[:, -1]

    @torch.no_grad()
    def extend(self, tokens: Tensor) -> Tensor:
        """See ``Runner.extend``."""
        return self._advance(tokens)

    def compile(self) -> str | None:
        """Compile the step that decodes, now: a minute or so. Why not, where that cannot be.

        Raises ModelError where torch.compile fails, for want of a C++ compiler for instance.
        """
        if self.captured is not None:
            return "a GPU replays the step as it was captured"
        if self.lean is None:
            return f"{type(self.model).__name__} runs its own forward"
        reason = self.lean.compile()
        if reason is not None:
            return reason
        steps = 3  # torch.compile takes a number for a constant until it sees another
        counts = sorted({1, min(2, self.rows), self.rows})
        try:
            with Bar("compiling the decoder step") as bar:
                for done, count in enumerate(counts):
                    for row in range(count):
                        self.prefill(row, [0] * (row + 2))
                    for step in range(steps):
                        self.decode(torch.zeros(count, 1, dtype=torch.int64, device=self.device), count)
                        bar.reach((done + (step + 1) / steps) / len(counts))
        except Exception as error:  # a compiler of anybody's, on any machine
            raise ModelError(
                f"compile=True: torch.compile failed ({first_line(error)}). It needs a C++ compiler (g++ or clang): "
                "install one, or leave compile out"
            ) from error
        self.reset()
        return None

    @torch.no_grad()
    def copy(self, source: int, target: int) -> None:
        """See ``Runner.copy``."""
        self._check_row(source)
        self._check_row(target)
        self._copy([source], [target])

    @torch.no_grad()
    def select(self, parents: Sequence[int]) -> None:
        """See ``Runner.select``."""
        for row in (*parents, len(parents) - 1):
            self._check_row(row)
        moved = [row for row, parent in enumerate(parents) if row != parent]
        self._copy([parents[row] for row in moved], moved)

    @torch.no_grad()
    def rewind(self, row: int, length: int) -> None:
        """See ``Runner.rewind``."""
        self._check_row(row)
        if not 0 <= length <= self.lengths[row]:
            raise RequestError(f"cannot rewind a row of {self.lengths[row]} positions to {length}")
        self._set_length(row, length)
        self._clear_behind(row)

    def logits_of(self, tokens: Sequence[int]) -> Tensor:
        """See ``Runner.logits_of``."""
        return torch.cat(list(self.logits_in_chunks(tokens)))

    @torch.no_grad()
    def logits_in_chunks(self, tokens: Sequence[int], chunk: int = 512) -> Iterator[Tensor]:
        """See ``Runner.logits_in_chunks``."""
        self._check_length(len(tokens))
        scratch = SlotCache()
        scratch.reserve(1, len(tokens))
        for piece in self._pieces(scratch, 0, tokens, 0, chunk, keep=0):
            yield piece[0].float()

    def _look(self) -> None:
        """Before a prompt: steps that were made from the model are given up where it has been changed since."""
        if self.lean is not None and not self.lean.unchanged:
            self.lean = None
        if self.captured is not None:
            self.captured.check()

    def _pieces(
        self, cache: SlotCache, row: int, tokens: Sequence[int], start: int, chunk: int, *, keep: int
    ) -> Iterator[Tensor]:
        """Run ``tokens[start:]`` into slot ``row`` of ``cache``; logits ``[1, k, V]`` piece by piece."""
        for begin in range(start, len(tokens), chunk):
            stop = min(begin + chunk, len(tokens))
            ids = to_device([tokens[begin:stop]], torch.int64, self.device)
            positions = torch.arange(begin, stop, device=self.device)[None]
            yield self._forward(cache, ids, Step(row, 1, stop - begin, stop, positions, start=begin), keep)

    def _advance(self, tokens: Tensor) -> Tensor:
        """Append ``[n, k]`` tokens to the first n slots; float32 logits ``[n, k, V]``."""
        live, width = tokens.shape
        self._check_row(live - 1)
        self._check_length(max(self.lengths[:live]) + width)
        if self.alone:
            logits = torch.cat([self._step(tokens[row : row + 1], row, 1) for row in range(live)])
        else:
            count = self._count(live)
            if count > live:
                tokens = torch.cat([tokens, tokens.new_zeros(count - live, width)])
            logits = self._step(tokens, 0, live)[:live]
        for row in range(live):
            self.lengths[row] += width
        if self.captured is not None:
            self._lengths[:live] += width
        return logits.float()

    def _step(self, tokens: Tensor, first: int, live: int) -> Tensor:
        """One pass over the slots ``first .. first + len(tokens) - 1``, of which ``live`` are in use."""
        count, width = tokens.shape
        ends = [length + width for length in self.lengths[first : first + count]]
        longest = max(self.read_at_least, *ends[:live])
        if self.captured is not None and width == 1:
            read = min(bucket(longest), _rounded(self.max_length + 1))
            self._reserve(count, max(read, *ends))
            replayed = self.captured(self.cache, tokens[:live], count, read)
            if replayed is not None:
                self._written[:count] = map(max, self._written[:count], ends)
                return replayed
        self._reserve(first + count, max(self.read_at_least, *ends))
        for row, end in enumerate(ends, first):
            self._written[row] = max(self._written[row], end)
        positions = to_device([list(range(end - width, end)) for end in ends], torch.int64, self.device)
        if count == 1:  # nothing to round: no mask is needed at all
            step = Step(first, 1, width, ends[0], positions, start=ends[0] - width)
        elif self.batch_invariant:
            own = tuple(_rounded(end) for end in ends)
            step = Step(first, count, width, max(self.read_at_least, *own), positions, lengths=own)
        else:
            step = Step(first, count, width, longest if self._exact else _rounded(longest), positions)
        return self._forward(self.cache, tokens, step, 0)

    def _recorded(self, cache: SlotCache, tokens: Tensor, step: Step) -> Tensor:
        return self._forward(cache, tokens, step, 0)

    def _forward(self, cache: SlotCache, tokens: Tensor, step: Step, keep: int) -> Tensor:
        cache.step = step
        if self.lean is not None:
            return self.lean(tokens, cache, step, keep)
        extra: dict[str, Any] = {"logits_to_keep": keep} if self._keep and keep else {}
        if self._positioned:  # models without it (ALiBi) count keys instead, which start at 0 in every slot
            extra["position_ids"] = step.positions
        with self.attention.over(step):
            out = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, return_dict=True, **extra)
        logits: Tensor = out.logits
        return logits.to(self.device)

    def _count(self, live: int) -> int:
        if self.batch_invariant:
            return self.rows
        return live if self._exact else min(self.rows, 1 << (live - 1).bit_length())

    def _reserve(self, rows: int, positions: int) -> None:
        cache = self.cache
        if rows <= cache.rows and positions <= cache.positions:
            return
        measured = self.captured is not None and bool(self.bytes_by_device)
        if measured and affordable_length(self, self.max_length) == self.max_length:
            # all at once where it fits, so that what is recorded stays good
            rows, positions = self.rows, max(positions, _rounded(self.max_length + 1))
        if rows > cache.rows:
            rows = min(self.rows, 1 << (rows - 1).bit_length())
        if positions > cache.positions:  # double, so that a row that grows token by token is copied a few times only
            doubled = min(max(2 * cache.positions, FIRST_POSITIONS), self.max_length + 1)
            positions = _rounded(max(positions, doubled))
        cache.reserve(rows, positions)

    def _copy(self, sources: list[int], targets: list[int]) -> None:
        if not targets:
            return
        self._reserve(max(*sources, *targets) + 1, 1)
        lengths = [self.lengths[row] for row in sources]
        self.cache.copy(sources, targets, max(lengths))
        for row, length in zip(targets, lengths, strict=True):
            self._written[row] = max(self._written[row], max(lengths))
            self._set_length(row, length)
            self._clear_behind(row)

    def _clear_behind(self, row: int) -> None:
        self.cache.clear(row, self.lengths[row], min(self._written[row], self.cache.positions))
        self._written[row] = self.lengths[row]

    def _set_length(self, row: int, length: int) -> None:
        self.lengths[row] = length
        if self.captured is not None:
            self._lengths[row].fill_(length)

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self.rows:
            raise RequestError(f"there is no slot {row}: this engine was loaded with max_rows={self.rows}")

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise RequestError(f"{length} tokens do not fit: a row holds at most {self.max_length} (max_length)")


def _rounded(length: int) -> int:
    return -(-length // ATTEND) * ATTEND


def unslottable(model: PreTrainedModel, max_length: int) -> str | None:
    """Why ``model`` cannot be run over slots, as far as class and configuration tell; None if nothing does."""
    name = type(model).__name__
    accepted = inspect.signature(model.forward).parameters
    if getattr(model, "_is_stateful", False) or "past_key_values" not in accepted:
        return f"{name} keeps a state that is not keys and values"
    config = model.config.get_text_config(decoder=True)
    for layer in DynamicCache(config=config).layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            return f"{name} has layers whose state is not keys and values"
    limit = rope_limit(model)
    if limit is not None and max_length > limit:
        return (
            f"past {limit} positions its rotary embedding depends on the longest row (max_length={limit} avoids that)"
        )
    return None


def by_bitsandbytes(model: PreTrainedModel) -> bool:
    """Whether some of its layers are bitsandbytes'."""
    return any(type(module).__name__ in ("Linear4bit", "Linear8bitLt") for module in model.modules())


def rows_interact(model: PreTrainedModel) -> bool:
    """Whether a row's numbers depend on its neighbours inside the model itself.

    Experts gather the tokens of all rows, and LLM.int8 computes in 16 bits whichever columns any row has an outlier in.
    """
    for module in model.modules():
        name = type(module).__name__
        if "Expert" in name or "Moe" in name or "MoE" in name:
            return True
        if name == "Linear8bitLt" and float(getattr(module.state, "threshold", 1.0)) > 0:
            return True
    return False


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go in: where the input embedding runs, also where accelerate keeps its weights elsewhere."""
    embedding: Any = model.get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    if device is not None:
        return torch.device(device)
    weight: Tensor = embedding.weight
    return weight.device
