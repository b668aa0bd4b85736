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
    return queued(torch.tensor(values, dtype=dtype), device)


def queued(made: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's, that nobody else holds, on ``device``: as ``to_device``."""
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def index_on(device: torch.device, rows: Sequence[int]) -> Tensor:
    """int64 [n]: which rows. Kept for the next step, and so not to be written to."""
    return _index_on(device, tuple(rows)) if len(rows) <= _FEW else to_device(rows, torch.int64, device)


@lru_cache(maxsize=1024)
def _index_on(device: torch.device, rows: tuple[int, ...]) -> Tensor:
    return to_device(rows, torch.int64, device)


class Arriving:
    """Tensors [n, w_i] on their way to the host, side by side. The copy takes its turn now: what is queued later is not
    waited for.
    """

    def __init__(self, *columns: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._columns: Sequence[Tensor] = columns
        device = columns[0].device
        if device.type == "cpu":  # where they are read as they are
            return
        held = torch.cat(columns, -1) if len(columns) > 1 else columns[0]
        self._columns = (held,)
        if device.type != "cuda":
            return
        self._columns = (torch.empty(held.shape, dtype=held.dtype, pin_memory=True),)
        with torch.cuda.device(device):  # an event belongs to the device that is current when it is recorded
            self._columns[0].copy_(held, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def tolist(self) -> list[list[Any]]:
        """The values, row by row. Waits for the copy, where it is still under way."""
        if self._arrived is not None:
            self._arrived.synchronize()
        parts = [column.tolist() for column in self._columns]
        return (
            parts[0]
            if len(parts) == 1
            else [[value for part in row for value in part] for row in zip(*parts, strict=True)]
        )


__all__ = ["Arriving", "index_on", "queued", "to_device"]
