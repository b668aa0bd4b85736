"""What float32 probabilities and the sums of their blocks decide is what float64 decides, of all in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from logitmill.core import shares as module
from logitmill.core.selection import WIDTH, position
from logitmill.core.shares import Shares

SIZES = [5 * WIDTH, 40 * WIDTH, 40 * WIDTH + 1, 60 * WIDTH - 1, 7001, 20_000]
KINDS: dict[str, Callable[[tuple[int, int], torch.Generator], Tensor]] = {
    "plain": lambda shape, random: torch.randn(shape, generator=random) * 3,
    "flat": lambda shape, random: torch.randn(shape, generator=random) * 0.3,
    "grid": lambda shape, random: torch.randint(-400, 400, shape, generator=random) / 64.0,  # full of ties
    "half": lambda shape, random: (20 + 1.5 * torch.randn(shape, generator=random)).bfloat16().float(),  # as of bf16
    "few": lambda shape, random: torch.randint(0, 3, shape, generator=random).float(),
    "one": lambda shape, random: torch.zeros(shape),
    "removed": lambda shape, random: torch.randn(shape, generator=random).masked_fill(
        torch.rand(shape, generator=random) < 0.99, float("-inf")
    ),
}


def table(seed: int, columns: int, kind: str) -> Tensor:
    """Three rows, in each of which something is left."""
    held = KINDS[kind]((3, columns), torch.Generator().manual_seed(seed))
    held[:, seed % columns] = 1.0
    return held


def kept_by_sorting(logits: Tensor, share: Tensor) -> Tensor:
    ranked = logits.sort(dim=-1, descending=True, stable=True)
    mass = ranked.values.double().softmax(-1)
    return torch.empty_like(logits, dtype=torch.bool).scatter_(
        -1, ranked.indices, (mass.cumsum(-1) - mass).float() < share
    )


def uniforms(seed: int) -> list[Tensor]:
    """Any, the least and the largest."""
    drawn = torch.rand(3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return [drawn, torch.zeros_like(drawn), torch.full_like(drawn, 1 - 2.0**-53)]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(list(KINDS)), st.sampled_from(SIZES), st.floats(0.02, 0.998))
def test_a_nucleus_and_a_draw_from_it(seed: int, kind: str, columns: int, p: float) -> None:
    logits = table(seed, columns, kind)
    share = torch.tensor([[p], [p / 2], [0.5]])
    nucleus = Shares.of(logits).nucleus(share)
    assert nucleus is not None
    expected = kept_by_sorting(logits, share)
    assert torch.equal(nucleus.mask(), expected)
    assert torch.equal(nucleus.mask(slice(1, 3)), expected[1:])
    mass = logits.double().softmax(-1) * expected
    assert torch.allclose(nucleus.sums.sum(-1), mass.sum(-1), rtol=1e-5)
    for uniform in uniforms(seed):
        assert torch.equal(nucleus.position(uniform), position(mass, uniform))


def test_what_a_nucleus_has_left_of_a_sum_is_as_rough_as_the_sum() -> None:
    """One token of many that tie stays: its block's sum is what is left of a far larger one."""
    logits = table(0, 20_000, "half")
    share = torch.tensor([[0.03125], [0.03125 / 2], [0.5]])
    nucleus = Shares.of(logits).nucleus(share)
    assert nucleus is not None
    mass = logits.double().softmax(-1) * kept_by_sorting(logits, share)
    assert int((mass[1] > 0).sum()) == 1
    for uniform in uniforms(0):
        assert torch.equal(nucleus.position(uniform), position(mass, uniform))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(list(KINDS)), st.sampled_from(SIZES))
def test_a_draw_from_all(seed: int, kind: str, columns: int) -> None:
    logits = table(seed, columns, kind)
    mass = logits.double().softmax(-1)
    for uniform in uniforms(seed):
        found = Shares.of(logits).position(uniform)
        assert torch.equal(found, position(mass, uniform))
        assert bool((mass.gather(-1, found) > 0).all())


@pytest.mark.parametrize("columns", [4200, 49_152, 128_256])
@pytest.mark.parametrize(("spread", "middle"), [(0.5, 0.0), (1.5, -300.0), (3.0, 37.3), (6.0, 0.0)])
def test_sums_are_less_off_than_is_reckoned_with(columns: int, spread: float, middle: float) -> None:
    logits = middle + spread * torch.randn(4, columns, generator=torch.Generator().manual_seed(columns))
    logits[3] *= 2.0  # and one token that outweighs the others of its block
    logits[3, 17] = logits[3].max() + 3.0
    rough, exact = Shares.of(logits), logits.double().softmax(-1)
    whole, padding = rough.sums.sum(-1, keepdim=True), (0, -columns % WIDTH)
    bound = rough.slack / whole / 2
    blocks = torch.nn.functional.pad(exact, padding).unflatten(1, (-1, WIDTH)).sum(-1)
    assert bool(((rough.sums.cumsum(-1) / whole - blocks.cumsum(-1)).abs() < bound).all())
    order = logits.argsort(dim=-1, descending=True)
    above = rough.probs.double().gather(1, order).cumsum(-1) / whole
    assert bool(((above - exact.gather(1, order).cumsum(-1)).abs() < bound).all())


def test_what_lies_close_is_decided_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no cut found by guesses, and with nothing taken for decided, the answers are the same."""
    logits, share = table(11, 20_000, "plain"), torch.full((3, 1), 0.9)
    uniform = uniforms(11)[0]
    expected = kept_by_sorting(logits, share)
    drawn = position(logits.double().softmax(-1) * expected, uniform)
    worked_out: list[int] = []
    exact = Shares.exact
    monkeypatch.setattr(Shares, "exact", lambda self, row: (worked_out.append(row), exact(self, row))[1])
    for name, value, rows in (("GUESSES", 0, 3), ("ROUGH", 1.0, 6)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            worked_out.clear()
            nucleus = Shares.of(logits).nucleus(share)
            assert nucleus is not None
            assert torch.equal(nucleus.mask(), expected), name
            assert torch.equal(nucleus.position(uniform), drawn), name
            assert len(worked_out) == rows, name


def test_no_nucleus_of_what_is_no_number() -> None:
    logits = table(3, 6000, "plain")
    share = torch.full((3, 1), 0.9)
    assert Shares.of(logits).nucleus(torch.zeros(3, 1)) is None  # a share of nothing
    logits[1, 17] = float("nan")
    assert Shares.of(logits).nucleus(share) is None
