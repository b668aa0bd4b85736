"""Truncations of a wide vocabulary, neither in order nor in float64: the same tokens stay as with all of it in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from logitmill.core import bands
from logitmill.core.dist import Dist
from logitmill.plugins.testing import bench as stages

SIZES = [4097, 43 * 96, 44 * 96 - 1, 6000, 20_000]
VALUES: dict[str, tuple[float, ...]] = {
    "typical": (0.0, 0.1, 0.5, 0.9, 0.995, 1.0),
    "top_n_sigma": (-1.0, 0.0, 0.3, 1.0, 2.5, 30.0),
    "epsilon": (0.0, 1e-35, 2e-5, 0.0005, 0.02, 0.6, 1.0),
    "eta": (0.0, 1e-35, 0.0001, 0.002, 0.1, 1.0),
    "top_a": (0.0, 1e-6, 0.01, 0.2, 1.0),
    "top_h": (0.0, 1e-6, 0.1, 0.4, 0.9, 0.999, 1.0),
    "tail_free": (0.0, 0.3, 0.8, 0.95, 0.999, 1.0),
    "p_less": (0.0,),
}


def zipf(shape: tuple[int, int], random: torch.Generator) -> Tensor:
    falling = -1.1 * torch.arange(1, shape[1] + 1).log()
    table = torch.stack([falling[torch.randperm(shape[1], generator=random)] for _ in range(shape[0])])
    return table + 0.5 * torch.randn(shape, generator=random)


def removed(shape: tuple[int, int], random: torch.Generator, share: float) -> Tensor:
    held = 2 * torch.randn(shape, generator=random)
    return held.masked_fill(torch.rand(shape, generator=random) < share, float("-inf"))


KINDS: dict[str, Callable[[tuple[int, int], torch.Generator], Tensor]] = {
    "zipf": zipf,
    "peaked": lambda shape, random: 6 * zipf(shape, random),
    "plain": lambda shape, random: torch.randn(shape, generator=random) * 3 - 400,
    "flat": lambda shape, random: torch.randn(shape, generator=random) * 0.01,
    "half": lambda shape, random: (20 + zipf(shape, random)).bfloat16().float(),  # full of ties
    "few": lambda shape, random: torch.randint(0, 3, shape, generator=random).float(),
    "mirrored": lambda shape, random: torch.arange(shape[1]).expand(shape).remainder(2) * 0.7,  # |-ln p - H| ties
    "one": lambda shape, random: torch.full(shape, 0.3),
    "huge": lambda shape, random: (torch.randn(shape, generator=random) ** 9) * 1e33,
    "some left": lambda shape, random: removed(shape, random, 0.3),
    "few left": lambda shape, random: removed(shape, random, 0.999),
}


def table(kind: str, columns: int, seed: int) -> Tensor:
    """Three rows, in each of which something is left, the last one with a token that outweighs all others."""
    held = KINDS[kind]((3, columns), torch.Generator().manual_seed(seed)).clone()
    held[:, seed % columns] = torch.where(held[:, seed % columns] > bands.NEG_INF, held[:, seed % columns], 0.1)
    held[2, (7 * seed) % columns] = held[2].amax() + 12.3
    return held


def same(given: Any, logits: Tensor) -> Dist:
    """What a stage, or one for each row, leaves: held against what is left without looking."""
    dist = Dist(logits)
    assert dist.is_wide
    short = stages.run(given, dist, stages.context(dist))
    twin = Dist(logits).unlooked()
    plain = stages.run(given, twin, stages.context(twin))
    assert torch.equal(short.dense().logits.isnan(), plain.logits.isnan())
    assert torch.equal(short.dense().logits.nan_to_num(1.5), plain.logits.nan_to_num(1.5))
    made, rescued = short.rescued, plain.rescued
    assert made is None or rescued is None or torch.equal(made, rescued)
    if short.is_ranked:
        ids = short.candidates[1]
        assert bool((ids.sort(-1).values.diff(dim=-1) > 0).all())  # each token once
    return short


def made(name: str, value: float, **fields: Any) -> Any:
    return stages.stage(name) if name == "p_less" else stages.stage(name, value, **fields)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**31), st.sampled_from(list(KINDS)), st.sampled_from(SIZES))
@pytest.mark.parametrize("name", VALUES)
def test_the_same_tokens_stay(name: str, data: st.DataObject, seed: int, kind: str, columns: int) -> None:
    logits = table(kind, columns, seed)
    drawn = [data.draw(st.sampled_from(VALUES[name]) | st.floats(0.001, 0.999)) for _ in range(3)]
    same(made(name, drawn[0]), logits)
    same([made(name, value) for value in drawn], logits)


@pytest.mark.parametrize("kind", ["zipf", "peaked", "half", "plain"])
@pytest.mark.parametrize("columns", [49_152, 128_256, 262_144])
def test_the_same_tokens_stay_of_a_whole_vocabulary(columns: int, kind: str) -> None:
    logits = table(kind, columns, columns + len(kind))
    for name, values in VALUES.items():
        same(made(name, values[len(values) // 2]), logits)


@pytest.mark.parametrize("least", [2, 50, 5000])
def test_typical_keeps_as_many_as_it_has_to(least: int) -> None:
    for kind in ("zipf", "peaked", "half", "few left"):
        logits = table(kind, 6000, least)
        same(made("typical", 0.2, min_keep=least), logits)
        same([made("typical", value, min_keep=n) for value, n in ((0.2, least), (0.9, 1), (1.0, 3))], logits)


@pytest.mark.parametrize("name", VALUES)
def test_what_is_no_number_is_passed_on(name: str) -> None:
    for fault in (float("nan"), float("inf")):
        logits = table("zipf", 6000, 3)
        logits[1, 17] = fault
        same(made(name, 0.5), logits)


@pytest.mark.parametrize("name", VALUES)
def test_rows_keep_to_themselves(name: str) -> None:
    """Rows that are cut at different depths, one of them undecided: each gets what it gets alone."""
    logits = torch.cat([table("zipf", 6000, 5), table("one", 6000, 5), table("peaked", 6000, 5)])
    together = same(made(name, 0.3), logits).dense().logits
    for row in range(len(logits)):
        assert torch.equal(same(made(name, 0.3), logits[row : row + 1]).dense().logits[0], together[row])


@pytest.mark.parametrize("name", [name for name in VALUES if name != "tail_free"])
def test_nothing_is_put_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor weighed in float64, all of it, where a model's logits are cut."""

    def refuse(self: Dist) -> Tensor:
        raise AssertionError("all tokens were worked on")

    monkeypatch.setattr(Dist, "order", property(refuse))
    monkeypatch.setattr(Dist, "weights", property(refuse))
    for kind in ("zipf", "peaked", "half"):
        dist = Dist(table(kind, 20_000, 1))
        assert stages.run(made(name, 0.3), dist, stages.context(dist)).columns <= dist.columns


def test_tail_free_puts_those_rows_in_order_that_their_best_tokens_do_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = torch.cat([table("peaked", 20_000, 1), table("zipf", 20_000, 1)[:1]])
    sorted_rows: list[int] = []
    whole = torch.Tensor.gather

    def watched(self: Tensor, *args: Any, **fields: Any) -> Tensor:
        if self.dtype == torch.float64 and self.shape[1] == 20_000:
            sorted_rows.append(len(self))
        return whole(self, *args, **fields)

    expected = same(made("tail_free", 0.995), logits).dense().logits
    monkeypatch.setattr(torch.Tensor, "gather", watched)
    dist = Dist(logits)
    assert torch.equal(stages.run(made("tail_free", 0.995), dist, stages.context(dist)).dense().logits, expected)
    assert sorted_rows == [1]


@pytest.mark.parametrize("name", ["epsilon", "eta", "top_a", "p_less", "top_n_sigma"])
def test_tokens_next_to_the_threshold(name: str) -> None:
    """A hundred logits on every float32 around the cut: it lies between two of them."""
    value = {"epsilon": 0.001, "eta": 0.01, "top_a": 0.02, "top_n_sigma": 1.0}.get(name, 0.0)
    logits = table("zipf", 6000, 9)[:1]
    low, high, stays = float(logits.amin()), float(logits.amax()), torch.zeros(100, dtype=torch.bool)
    for _ in range(60):  # to write them there moves the cut
        middle = torch.tensor((low + high) / 2).view(torch.int32)
        logits[0, 1000:1100] = (middle + torch.arange(-50, 50, dtype=torch.int32)).view(torch.float32)
        stays = same(made(name, value), logits).dense().logits[0, 1000:1100] > bands.NEG_INF
        if 0 < int(stays.sum()) < 100:
            break
        low, high = (low, (low + high) / 2) if bool(stays.all()) else ((low + high) / 2, high)
    assert 0 < int(stays.sum()) < 100
