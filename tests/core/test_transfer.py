"""What crosses between host and device: values arrive as they were, and what is kept is one tensor."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.transfer import Arriving, index_on, to_device

CPU = torch.device("cpu")


def test_numbers_arrive_with_their_dtype() -> None:
    made = to_device([[1, 2], [3, 4]], torch.float64, CPU)
    assert (made.dtype, made.tolist()) == (torch.float64, [[1.0, 2.0], [3.0, 4.0]])
    assert to_device([], torch.int64, CPU).tolist() == []


def test_indices_are_made_once_for_the_rows_of_a_batch() -> None:
    assert index_on(CPU, [2, 0]).tolist() == [2, 0]
    assert index_on(CPU, [2, 0]) is index_on(CPU, (2, 0))
    many = list(range(1000))
    assert index_on(CPU, many).tolist() == many
    assert index_on(CPU, many) is not index_on(CPU, many)


def test_what_is_on_the_host_is_there() -> None:
    assert Arriving(torch.tensor([[1.5, 2.5]], dtype=torch.float64)).tolist() == [[1.5, 2.5]]


class Elsewhere(Tensor):
    """A tensor of the host that says it lies on a GPU."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


def test_a_copy_from_a_device_is_queued_and_its_event_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Event:
        def record(self) -> None:
            told.append("record")

        def synchronize(self) -> None:
            told.append("synchronize")

    def empty(shape: Any, *, dtype: torch.dtype, pin_memory: bool) -> Tensor:
        told.append(f"pinned {pin_memory}")
        return torch.zeros(shape, dtype=dtype)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch, "empty", empty)
    arriving = Arriving(torch.tensor([[1.0, 2.0]]).as_subclass(Elsewhere))
    assert told == ["pinned True", "record"]
    assert arriving.tolist() == [[1.0, 2.0]]
    assert told == ["pinned True", "record", "synchronize"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies from a device: no CUDA device here")
def test_a_copy_takes_its_turn_and_what_is_queued_later_is_not_waited_for() -> None:
    values = torch.arange(6.0, device="cuda").view(2, 3)
    arriving = Arriving(values)
    values.zero_()  # queued behind the copy
    torch.cuda._sleep(2_000_000_000)  # about a second
    done = torch.cuda.Event()
    done.record()
    assert arriving.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert not done.query(), "the host waited for more than its copy"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies to a device: no CUDA device here")
def test_numbers_go_to_a_device_without_a_wait() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = to_device([1, 2, 3], torch.int64, torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.tolist() == [1, 2, 3]
