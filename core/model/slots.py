"""A static key/value cache whose rows are slots: each row has a length of its own and starts at position 0.

transformers' static cache has one length for the whole batch, so ragged rows would have to be padded on the left.
Here a step says which slots it runs, at which positions it writes and how much of the slots attention reads
(``Step``); the layers write there and hand out views. Nothing is copied when requests of different lengths share a
batch.

Memory grows with use: a layer holds ``[rows, heads, positions, dim]`` for the largest row count and length seen so
far, so that eight slots of 4,096 positions cost nothing until they are filled. Every entry that was never written is
zero, because attention multiplies what it masks by zero and 0 * NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(slots=True)
class Step:
    """What one forward pass does with the slots ``first .. first + rows - 1``.

    ``positions`` is int64 ``[rows, width]``: where each new token lies in its slot. ``length`` is how many positions
    attention reads, at least 1 + the largest position. ``lengths`` gives that number for each row where rows are to
    be attended one by one (batch invariance), else None. ``start`` is set where the pass is one row that writes
    ``start .. start + width - 1``. ``written`` turns true when the first layer has written its states,
    ``attended`` when the model has called our attention (one that does not go through the interface never does).
    """

    first: int
    rows: int
    width: int
    length: int
    positions: Tensor
    start: int | None = None
    lengths: tuple[int, ...] | None = None
    written: bool = False
    attended: bool = False
    _index: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def index(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Row and position indices (``[rows, 1]``, ``[rows, width]``) on ``device``, made once a step and device."""
        found = self._index.get(device)
        if found is None:
            rows = torch.arange(self.first, self.first + self.rows, device=device)[:, None]
            found = self._index[device] = rows, self.positions.to(device, non_blocking=True)
        return found


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, ``[rows, heads, positions, dim]`` each, on the device of the model's layer."""

    is_sliding = False  # windows are in the mask: a slot keeps every position
    keys: Tensor
    values: Tensor

    def __init__(self, slots: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it unannotated
        self.slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take heads, dims, dtype and device from the first states that arrive (``[rows, heads, width, dim]``)."""
        rows, positions = self.slots.rows, self.slots.positions
        self.hold(*(_zeros(each, rows, each.shape[1], positions, each.shape[3]) for each in (key_states, value_states)))
        self.slots.moved += 1

    def hold(self, keys: Tensor, values: Tensor) -> None:
        """Keep them here from now on."""
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def grow(self, rows: int, positions: int) -> None:
        """Make room for ``rows`` slots of ``positions`` positions, keeping what is there."""
        if self.is_initialized:
            self.hold(*(_grown(old, rows, old.shape[1], positions, old.shape[3]) for old in (self.keys, self.values)))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new states where the current step says and return views of what attention reads."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        step, keys, values = self.slots.step, self.keys, self.values
        if step.start is not None:
            stop = step.start + step.width
            keys[step.first, :, step.start : stop] = key_states[0]
            values[step.first, :, step.start : stop] = value_states[0]
        else:
            rows, positions = step.index(keys.device)
            keys[rows, :, positions] = key_states.transpose(1, 2)
            values[rows, :, positions] = value_states.transpose(1, 2)
        seen = slice(step.first, step.first + step.rows)
        return keys[seen, :, : step.length], values[seen, :, : step.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that attention reads in the current step, and the position of the first of them (always 0)."""
        return self.slots.step.length, 0

    def get_seq_length(self) -> int:
        """Positions before the current step's tokens, as a model that derives sizes from it expects."""
        return self.slots.step.length - self.slots.step.width

    def get_max_length(self) -> int:
        """No maximum: the runner holds lengths within its ``max_length``."""
        return -1


class SlotCache(Cache):
    """The slots of all layers. ``step`` must be set before each forward pass."""

    step: Step

    def __init__(self) -> None:
        self._slots: list[SlotLayer] = []
        super().__init__(layers=self._slots)  # type: ignore[arg-type]  # the same list: what is added is in both
        self.rows = 0
        self.positions = 0
        self.moved = 0
        """How often memory was taken: addresses of before are not good any more."""
        self.consulted = False
        """Whether a layer asked for one length for all rows: a model whose layers do cannot have ragged rows."""
        self.whole: Tensor | None = None
        """``[layers, rows, positions, 2 * heads, dim]`` of a cache whose layers lie in one tensor (``join``), the heads
        of the values behind those of the keys; None where each layer has memory of its own."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Called by the model's attention layers."""
        keys, values = self.layer(layer_idx).update(key_states, value_states)
        self.step.written = True
        return keys, values

    @property
    def filled(self) -> bool:
        """Whether a pass has been through it, so that its layers have their memory."""
        return bool(self._slots) and self._slots[-1].is_initialized

    def layer(self, index: int) -> SlotLayer:
        """The layer of that number, made if it was not met before."""
        layers = self._slots
        while len(layers) <= index:
            layers.append(SlotLayer(self))
        return layers[index]

    def join(self, layers: int, heads: int, dim: int, like: Tensor) -> None:
        """Make ``whole`` at the first call: of a cache that is new, with ``like``'s dtype and device."""
        if self.whole is None:
            assert not self.filled, "its layers have memory already"
            self._share(_zeros(like, layers, self.rows, self.positions, 2 * heads, dim))
            self.moved += 1

    def _share(self, whole: Tensor) -> None:
        self.whole = whole
        keys, values = whole.transpose(2, 3).chunk(2, 2)  # [layers, rows, heads, positions, dim] each
        for index, (k, v) in enumerate(zip(keys, values, strict=True)):
            self.layer(index).hold(k, v)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before the current step's tokens (the same for each layer)."""
        self.consulted |= self.step.written
        return self.step.length - self.step.width

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """As ``get_seq_length``; masks take the rows' real positions from the step."""
        return self.step.length - self.step.width

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Keys that attention reads in the current step, and the position of the first of them (always 0)."""
        return self.step.length, 0

    def reserve(self, rows: int, positions: int) -> None:
        """Make room for ``rows`` slots of ``positions`` positions in every layer."""
        if rows <= self.rows and positions <= self.positions:
            return
        self.rows, self.positions = max(rows, self.rows), max(positions, self.positions)
        self.moved += 1
        if self.whole is not None:
            layers, _, _, heads, dim = self.whole.shape
            self._share(_grown(self.whole, layers, self.rows, self.positions, heads, dim))
            return
        for layer in self._slots:
            layer.grow(self.rows, self.positions)

    def clear(self, row: int, start: int, stop: int) -> None:
        """Zero positions ``start .. stop - 1`` of one slot: nothing stale, NaN least of all, is to be attended."""
        if start < stop and row < self.rows:
            torch._foreach_zero_([part[row, start:stop] for part in self._parts()])

    def copy(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Slot ``targets[i]`` becomes a copy of ``sources[i]``, all at once, in positions ``0 .. length - 1``."""
        if not sources or not length:
            return
        overlapping = not set(sources).isdisjoint(targets)
        for part in self._parts():
            fresh = [part[row, :length] for row in sources]
            if overlapping:  # a target is also a source: read everything before anything is written
                fresh = [rows.clone() for rows in fresh]
            for row, states in zip(targets, fresh, strict=True):
                part[row, :length].copy_(states)

    def bytes_by_device(self) -> dict[torch.device, int]:
        """Bytes that one position of one slot takes, by the device of the layers; empty before the first pass."""
        found: dict[torch.device, int] = {}
        for part in self._parts():
            size = part.shape[2:].numel() * part.element_size()
            found[part.device] = found.get(part.device, 0) + size
        return found

    def _parts(self) -> list[Tensor]:
        """Its memory, ``[rows, positions, ...]`` each."""
        if self.whole is not None:
            return [self.whole.permute(1, 2, 0, 3, 4)]
        live = [layer for layer in self._slots if layer.is_initialized]
        return [part.transpose(1, 2) for layer in live for part in (layer.keys, layer.values)]


def _zeros(like: Tensor, *shape: int) -> Tensor:
    """Zeros that may be written to later, also where the pass that first needs them runs in inference mode."""
    with torch.inference_mode(False):
        return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _grown(old: Tensor, *shape: int) -> Tensor:
    """``old``, and zeros around it. A cache that is one tensor is there twice while this runs."""
    new = old.new_zeros(shape)
    new[tuple(slice(size) for size in old.shape)] = old
    return new
