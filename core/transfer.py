"""What crosses between the host and the device, without either of them waiting for the other.

A copy from memory that the system may page out, and every ``.tolist()``, waits until the device has done all it was
given, the step in flight included. Through pinned memory a copy takes its turn on the stream like anything else, and
the host waits for that copy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_FEW = 256  # more rows than a batch has: not worth keeping


def to_device(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The host's numbers as a tensor on ``device``. The copy is queued, and torch keeps what it reads until then."""
    made = torch.tensor(values, dtype=dtype)
    if device.type != "cuda":
        return made.to(device)
    return made.pin_memory().to(device, non_blocking=True)


def index_on(device: torch.device, rows: Sequence[int]) -> Tensor:
    """int64 [n]: which rows. Kept for the next step, and so not to be written to."""
    return _index_on(device, tuple(rows)) if len(rows) <= _FEW else to_device(rows, torch.int64, device)


@lru_cache(maxsize=1024)
def _index_on(device: torch.device, rows: tuple[int, ...]) -> Tensor:
    return to_device(rows, torch.int64, device)


class Arriving:
    """A tensor on its way to the host. The copy takes its turn now: what is queued later is not waited for."""

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._held = tensor  # nothing to wait for, or nowhere else to read it
            return
        self._held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        with torch.cuda.device(tensor.device):  # an event belongs to the device that is current when it is recorded
            self._held.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def tolist(self) -> list[Any]:
        """The values, nested as the tensor's dimensions are. Waits for the copy, where it is still under way."""
        if self._arrived is not None:
            self._arrived.synchronize()
        values: list[Any] = self._held.tolist()
        return values


__all__ = ["Arriving", "index_on", "to_device"]
