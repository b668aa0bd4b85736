"""What a stage returned, held against its contract: a wrong shape is an error in its own words."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .dist import Dist
from .state import HostState, State


def dist_of(value: Any, given: Dist) -> Dist:
    """The Dist of ``apply`` or ``law``, with the rows it was given."""
    if not isinstance(value, Dist):
        raise TypeError(f"a stage returns a Dist, this one returned {_what(value)}")
    if value.rows != given.rows:
        raise ValueError(f"a stage keeps its rows: it was given {given.rows} and returned {value.rows}")
    return value


def tokens_of(value: Any, rows: int) -> Tensor:
    """The token ids of ``pick``: int64 [R, 1]."""
    if not isinstance(value, Tensor) or value.shape != (rows, 1) or value.is_floating_point():
        raise TypeError(f"pick returns token ids, int64 [{rows}, 1], this one returned {_what(value)}")
    return value.long()


def weights_of(value: Any, rows: int, children: int) -> Tensor:
    """The weights of a combinator's children: [R, n]."""
    if not isinstance(value, Tensor) or value.shape != (rows, children):
        raise TypeError(f"weights returns a tensor [{rows}, {children}], this one returned {_what(value)}")
    return value


def truth_of(value: Any, rows: int) -> Tensor:
    """The verdict of ``check``: bool [R, 1]."""
    if not isinstance(value, Tensor) or value.shape != (rows, 1) or value.dtype != torch.bool:
        raise TypeError(f"check returns bool [{rows}, 1], this one returned {_what(value)}")
    return value


def signal_of(value: Any, rows: int, kind: Literal["number", "truth", "text"], name: str) -> Any:
    """The value of a signal: a tensor [R, 1], or a list of R strings."""
    if kind == "text":
        if not isinstance(value, list) or len(value) != rows or not all(isinstance(text, str) for text in value):
            raise TypeError(f"the signal {name!r} reads {rows} strings, this one returned {_what(value)}")
        return value
    if not isinstance(value, Tensor) or value.shape != (rows, 1) or (value.dtype == torch.bool) != (kind == "truth"):
        wanted = "bool" if kind == "truth" else "float32"
        raise TypeError(f"the signal {name!r} reads {wanted} [{rows}, 1], this one returned {_what(value)}")
    return value


def state_of(state: State, rows: int) -> State:
    """The state of ``init`` or ``accept``: rows first in every tensor, one object a row in a HostState."""
    if isinstance(state, HostState):
        if len(state) != rows:
            raise ValueError(f"a HostState holds one object a row: {rows} rows, {len(state)} objects")
    elif isinstance(state, Tensor):
        if state.dim() == 0 or state.shape[0] != rows:
            raise ValueError(f"a state's tensors have rows first: {rows} rows, got {_what(state)}")
    elif isinstance(state, tuple):
        for part in state:
            state_of(part, rows)
    else:
        raise TypeError(
            "a stage's state is a NamedTuple of tensors with rows first, () for none, or a HostState; "
            f"got {_what(state)}"
        )
    return state


def _what(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "None" if value is None else type(value).__name__
