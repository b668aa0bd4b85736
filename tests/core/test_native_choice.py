"""What the kernels choose on a CPU is what torch's operators choose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from logitmill import Strategy
from logitmill.core import rng
from logitmill.core import shares as module
from logitmill.core.dist import Dist
from logitmill.core.kernels import native
from logitmill.core.kernels.choosing import Choosing, choosing
from logitmill.core.selection import WIDTH, position, tops
from logitmill.core.shares import Shares, block_sums

pytestmark = pytest.mark.skipif(choosing() is None, reason="there is no compiler for the kernels")

COLUMNS = [1, 2, 15, 16, 17, WIDTH - 1, WIDTH, WIDTH + 1, 5 * WIDTH, 700, 1023, 1025, 4000, 40 * WIDTH + 7, 9001]
KINDS: dict[str, Callable[[tuple[int, int], torch.Generator], Tensor]] = {
    "plain": lambda shape, random: torch.randn(shape, generator=random) * 3,
    "grid": lambda shape, random: torch.randint(-400, 400, shape, generator=random) / 64.0,
    "half": lambda shape, random: (20 + 1.5 * torch.randn(shape, generator=random)).bfloat16().float(),
    "few": lambda shape, random: torch.randint(0, 3, shape, generator=random).float(),
    "one": lambda shape, random: torch.zeros(shape),
    "zeros": lambda shape, random: torch.zeros(shape).copysign(torch.randn(shape, generator=random)),
    "wide": lambda shape, random: torch.randn(shape, generator=random) * 1e30,
    "removed": lambda shape, random: torch.randn(shape, generator=random).masked_fill(
        torch.rand(shape, generator=random) < 0.995, float("-inf")
    ),
    "nothing": lambda shape, random: torch.full(shape, float("-inf")),
    "infinite": lambda shape, random: torch.randn(shape, generator=random).masked_fill(
        torch.rand(shape, generator=random) < 0.01, float("inf")
    ),
    "nan": lambda shape, random: torch.randn(shape, generator=random).masked_fill(
        torch.rand(shape, generator=random) < 0.01, float("nan")
    ),
}

shapes = st.tuples(st.integers(1, 5), st.sampled_from(COLUMNS))


def made(kind: str, shape: tuple[int, int], seed: int) -> Tensor:
    return KINDS[kind](shape, torch.Generator().manual_seed(seed))


def kernels() -> Choosing:
    found = choosing()
    assert found is not None
    return found


def same(ours: Tensor, theirs: Tensor) -> bool:
    """Equal, and NaN where the other has it."""
    return torch.allclose(ours, theirs, rtol=0.0, atol=0.0, equal_nan=True)


@settings(max_examples=400, deadline=None)
@given(shapes, st.sampled_from(list(KINDS)), st.integers(0, 2**31), st.floats(0, 1), st.booleans())
def test_the_best_k(shape: tuple[int, int], kind: str, seed: int, part: float, known: bool) -> None:
    values = made(kind, shape, seed)
    k = max(1, min(round(shape[1] ** part), shape[1]))
    expected = values.sort(dim=-1, descending=True, stable=True)
    top, at, look = kernels().best(values, k, kernels().look(values) if known else None)
    assert torch.equal(at, expected.indices[:, :k])
    assert same(top, expected.values[:, :k])
    assert same(look.maxima, tops(values))
    assert same(look.ends, torch.stack([values.amin(-1), values.amax(-1)], -1))


@pytest.mark.parametrize("k", [1, 3, 50, 400, 2000, 20_000])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_best_k_of_a_vocabulary(kind: str, k: int) -> None:
    values = made(kind, (3, 20_011), k)
    expected = values.sort(dim=-1, descending=True, stable=True)
    for own in (values, values[:, ::2], values.expand(3, -1)[1:2]):  # also what does not lie densely
        expected = own.sort(dim=-1, descending=True, stable=True)
        size = min(k, own.shape[1])
        assert torch.equal(kernels().best(own, size, None)[1], expected.indices[:, :size])


@settings(max_examples=300, deadline=None)
@given(shapes, st.sampled_from(list(KINDS)), st.integers(0, 2**31), st.floats(0.3, 3.0))
def test_probabilities_and_their_sums(shape: tuple[int, int], kind: str, seed: int, temperature: float) -> None:
    values = made(kind, shape, seed) / temperature
    probs, sums, facts, look = kernels().shares(values, None)
    exact = values.double().softmax(-1)
    assert torch.allclose(probs.double(), exact, rtol=3e-7, atol=1e-37, equal_nan=True)
    assert torch.allclose(sums, block_sums(probs), rtol=5e-7, atol=1e-37, equal_nan=True)
    assert torch.allclose(facts[:, 0], sums.sum(-1), rtol=1e-12, equal_nan=True)
    assert torch.allclose(facts[:, 1], sums.amax(-1), rtol=1e-12, equal_nan=True)
    assert torch.allclose(facts[:, 2], probs.double().amax(-1), rtol=1e-7, equal_nan=True)
    assert same(look.maxima, tops(values))


@pytest.mark.parametrize("kind", ["plain", "grid", "half", "few", "removed"])
@pytest.mark.parametrize("columns", [20_000, 49_153])
def test_sums_stay_within_their_slack(kind: str, columns: int) -> None:
    values = made(kind, (4, columns), 5) / 0.7
    values[:, 7] = values.amax(-1)
    shares, exact = Shares.of(values), values.double().softmax(-1)
    running = exact.cumsum(-1)[:, WIDTH - 1 :: WIDTH]
    off = shares.sums.cumsum(-1)[:, : running.shape[1]] / shares.whole - running
    assert bool((off.abs() < shares.slack / 2).all())


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["plain", "grid", "half", "few", "one", "removed"]), st.integers(0, 2**31), st.floats(0.02, 0.99)
)
def test_a_nucleus_and_a_draw_are_those_of_the_operators(kind: str, seed: int, p: float) -> None:
    values, share = made(kind, (3, 6011), seed), torch.tensor([[p], [p / 2], [0.5]])
    values[:, seed % 6011] = 1.0
    uniform = torch.rand(3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = Shares.of(values)
    theirs = Shares(values, values.softmax(-1), block_sums(values.softmax(-1)), tops(values))
    assert ours.ends is not None
    assert theirs.ends is None
    assert torch.equal(ours.position(uniform), theirs.position(uniform))
    cut, expected = ours.nucleus(share), theirs.nucleus(share)
    assert cut is not None
    assert expected is not None
    assert torch.equal(cut.mask(), expected.mask())
    assert torch.equal(cut.position(uniform), expected.position(uniform))


@pytest.mark.parametrize("rough", [False, True])
def test_what_lies_close_is_told_apart_by_float64(rough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values, share = made("half", (4, 9001), 3), torch.full((4, 1), 0.6)
    ranked = values.sort(dim=-1, descending=True, stable=True)
    mass = ranked.values.double().softmax(-1)
    expected = torch.zeros_like(values, dtype=torch.bool).scatter_(-1, ranked.indices, (mass.cumsum(-1) - mass) < share)
    monkeypatch.setattr(module, "ROUGH", 1.0 if rough else module.ROUGH)
    nucleus = Shares.of(values).nucleus(share)
    assert nucleus is not None
    assert torch.equal(nucleus.mask(), expected)


STRATEGIES = (
    "temperature(0.8) | top_k(50) | top_p(0.95) | sample", "top_k(3000) | min_p(0.01) | sample", "top_p(0.9) | sample",
    "temperature(1.7) | top_p(0.99) | sample", "repetition(1.1) | presence(0.3) | dry(0.8) | sample", "sample",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "half", "few", "removed"])
@pytest.mark.parametrize("text", STRATEGIES)
def test_strategies_draw_the_same_tokens(text: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values, output = made(kind, (7, 20_011), 11), torch.randint(0, 40, (7, 300)).tolist()
    values[:, 5] = 1.0
    strategy = Strategy.parse(text)

    def drawn() -> list[list[int]]:
        return [strategy.draw(values, output=output, seed=seed).tolist() for seed in range(12)]

    ours = drawn()
    for rows in ([3], [6, 0]):  # a row by itself gives what it gives beside others
        alone = strategy.draw(values[rows], output=[output[row] for row in rows], seed=[row + 1 for row in rows])
        every = strategy.draw(values, output=output, seed=list(range(1, 8)))
        assert alone.tolist() == every[rows].tolist()
    monkeypatch.setattr(native, "library", lambda: None)
    assert choosing() is None
    assert drawn() == ours


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*KINDS]), st.integers(0, 2**31), st.sampled_from([4097, 6011, 50 * WIDTH]))
def test_a_draw_from_all_of_a_vocabulary(kind: str, seed: int, columns: int) -> None:
    values = made(kind, (3, columns), seed)
    uniform = torch.rand(3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    uniform[0] = (0.0, 1 - 2.0**-53, 0.5)[seed % 3]
    assert torch.equal(Dist(values).position(uniform), position(values.double().softmax(-1), uniform))


@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 6), min_size=1, max_size=20))
def test_the_noise_is_the_same(rows: list[tuple[int, ...]]) -> None:
    c0, c1, c2, c3, k0, k1 = zip(*rows, strict=True)
    assert rng.philox_few((c0, c1, c2, c3), (k0, k1)) == rng._by_lanes((c0, c1, c2, c3), (k0, k1))
    places = [(low | high << 32, at, again) for low, high, at, again in zip(k0, k1, c1, c2, strict=True)]
    for draws in (1, 3):
        units = [unit for numbers in rng.uniform_few(places, 7, draws) for unit in numbers]
        assert units == rng._units(places, 7, draws)


def test_several_threads_give_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    values = made("half", (9, 20_011), 2)
    every = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(native, "threads", lambda threads=threads: threads)
        shares = Shares.of(values)
        nucleus = shares.nucleus(torch.full((9, 1), 0.9))
        assert nucleus is not None
        every.append((*kernels().best(values, 70, None)[:2], shares.probs, shares.sums, nucleus.mask(), nucleus.sums))
    for other in every[1:]:
        assert all(torch.equal(a, b) for a, b in zip(every[0], other, strict=True))
