"""State by row: select, join, put and copied, over any nesting an author may write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from logitmill.core import state as states
from logitmill.core.state import HostState


class Inner(NamedTuple):
    mu: Tensor
    nothing: tuple[()]


class Outer(NamedTuple):
    counts: Tensor
    inner: Inner
    host: HostState


@dataclass(eq=False)
class Matcher:
    seen: list[int]

    def clone(self) -> Matcher:
        return Matcher(list(self.seen))

    def rollback(self, tokens: int) -> None:
        del self.seen[len(self.seen) - tokens :]


def made(values: list[int]) -> Outer:
    """A state whose row i says values[i] everywhere."""
    column = torch.tensor(values)
    return Outer(
        column[:, None].expand(-1, 3).contiguous(),
        Inner(column.float(), ()),
        HostState(Matcher([value]) for value in values),
    )


def said(state: Outer) -> list[int]:
    """What each row says, which has to be the same everywhere."""
    values = state.counts[:, 0].tolist()
    assert state.counts.tolist() == [[v] * 3 for v in values]
    assert state.inner.mu.tolist() == [float(v) for v in values]
    assert [m.seen for m in state.host] == [[v] for v in values]
    assert state.inner.nothing == ()
    return [int(v) for v in values]


values_lists = st.lists(st.integers(-99, 99), min_size=1, max_size=6)


@given(values_lists, st.data())
def test_select(values: list[int], data: Any) -> None:
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8))
    state = made(values)
    chosen = states.select(state, rows)
    assert type(chosen) is Outer
    assert type(chosen.inner) is Inner
    assert said(chosen) == [values[i] for i in rows]
    assert len({id(matcher) for matcher in chosen.host}) == len(rows)  # a row named twice has an object of its own
    assert said(state) == values


@given(st.lists(values_lists, min_size=1, max_size=4))
def test_join(parts: list[list[int]]) -> None:
    assert said(states.join([made(part) for part in parts])) == [value for part in parts for value in part]


@given(values_lists, st.data())
def test_put(values: list[int], data: Any) -> None:
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), unique=True, max_size=len(values)))
    fresh = data.draw(st.lists(st.integers(100, 200), min_size=len(rows), max_size=len(rows)))
    state = made(values)
    after = states.put(state, rows, made(fresh))
    expected = list(values)
    for row, value in zip(rows, fresh, strict=True):
        expected[row] = value
    assert said(after) == expected
    assert said(state) == values  # the state itself is left as it was


@given(values_lists)
def test_copied_shares_no_host_object_at_any_depth(values: list[int]) -> None:
    state = made(values)
    twin = states.copied(state)
    assert said(twin) == values
    assert type(twin) is Outer
    assert not {id(m) for m in state.host} & {id(m) for m in twin.host}
    for matcher in twin.host:
        matcher.seen.append(0)
    assert said(state) == values


def test_no_state_stays_none() -> None:
    assert states.select((), [0, 1]) == ()
    assert states.join([(), ()]) == ()
    assert states.put((), [0], ()) == ()
    assert states.copied(()) == ()


@pytest.mark.parametrize("wrong", [None, {"a": 1}, [1, 2], 3.0, "text"])
def test_other_things_are_no_state(wrong: Any) -> None:
    for use in (
        lambda: states.select(wrong, [0]),
        lambda: states.join([wrong, wrong]),
        lambda: states.put(wrong, [0], wrong),
    ):
        with pytest.raises(TypeError, match="a stage's state is a NamedTuple of tensors"):
            use()
