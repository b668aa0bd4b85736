"""State: what a stage remembers of its rows, outside the stage.

A state is () (none), a NamedTuple of tensors whose leading dim is rows, or a HostState of one host object a row. The
core selects, joins and copies states by row; an author writes none of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .transfer import index_on

State = Any


class HostObject(Protocol):
    """What a HostState holds for each row, a grammar matcher for instance."""

    def clone(self) -> HostObject: ...

    def rollback(self, tokens: int) -> None: ...


class HostState(tuple[Any, ...]):
    """One host object a row, each with ``clone()`` and ``rollback(n)``. ``accept`` returns a new one or the same."""

    __slots__ = ()

    def __new__(cls, items: Iterable[Any] = ()) -> HostState:
        return super().__new__(cls, items)


def select(state: State, rows: Sequence[int]) -> State:
    """The state of some rows; a row named twice is a copy."""
    if isinstance(state, HostState):
        seen: set[int] = set()
        items = []
        for row in rows:
            items.append(state[row].clone() if row in seen else state[row])
            seen.add(row)
        return HostState(items)
    if isinstance(state, Tensor):
        return state[index_on(state.device, rows)]
    if isinstance(state, tuple):
        parts = [select(part, rows) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return _refuse(state)


def join(states: Sequence[State]) -> State:
    """One state of all rows, in order. All states come from the same stage."""
    first = states[0]
    if len(states) == 1:
        return first
    if isinstance(first, HostState):
        return HostState(item for state in states for item in state)
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    if isinstance(first, tuple):
        parts = [join(column) for column in zip(*states, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return _refuse(first)


def put(state: State, rows: Sequence[int], new: State) -> State:
    """``state`` with some rows taken from ``new``, in order. ``state`` itself is left as it was."""
    if isinstance(state, HostState):
        items = list(state)
        for row, item in zip(rows, new, strict=True):
            items[row] = item
        return HostState(items)
    if isinstance(state, Tensor):
        return state.index_copy(0, index_on(state.device, rows), new.to(state.dtype))
    if isinstance(state, tuple):
        parts = [put(part, rows, fresh) for part, fresh in zip(state, new, strict=True)]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return _refuse(state)


def copied(state: State) -> State:
    """A state that shares no host object with the first. Tensors are never changed in place, so they are shared."""
    if isinstance(state, HostState):
        return HostState(item.clone() for item in state)
    if isinstance(state, tuple):
        parts = [copied(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def _refuse(state: object) -> State:
    raise TypeError(
        f"a stage's state is a NamedTuple of tensors with rows first, () for none, or a HostState; "
        f"got {type(state).__name__}"
    )
