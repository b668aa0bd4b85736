"""Noise: the published generator, and numbers that depend on nothing but what they are a function of."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitmill.core.errors import RequestError
from logitmill.core.rng import (
    Noise,
    RowNoise,
    check_seed,
    fold,
    folded,
    fresh_seed,
    philox,
    philox_few,
    seed_words,
    stage_key,
    to_unit,
    uniform,
    uniform_few,
    units,
)  # fmt: skip

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SEEDS = st.integers(0, 2**64 - 1)

# Random123 1.14, tests/kat_vectors: philox4x32 10 (counter, key, output)
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter: Any, key: Any, expected: Any, device: str) -> None:
    words = philox(
        tuple(torch.tensor(c, device=device) for c in counter), tuple(torch.tensor(k, device=device) for k in key)
    )
    assert tuple(int(word) for word in words) == expected


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """The definition in Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_equals_the_definition_in_plain_integers(words: list[int]) -> None:
    got = philox(tuple(torch.tensor(w) for w in words[:4]), tuple(torch.tensor(w) for w in words[4:]))  # type: ignore[arg-type]
    assert [int(word) for word in got] == plain_philox(words[:4], words[4:])


def test_units_are_in_range_and_exact() -> None:
    top = torch.tensor(0xFFFFFFFF)
    assert float(to_unit(top, top)) == 1.0 - 2.0**-53
    assert float(to_unit(torch.tensor(0), torch.tensor(0))) == 0.0
    assert float(to_unit(torch.tensor(1 << 31), torch.tensor(0))) == 0.5


WORD = st.integers(0, 2**32 - 1)


@given(
    rows=st.integers(1, 3),
    columns=st.sampled_from([1, 2, 15, 16, 17, 70, 20_000]),
    words=st.lists(WORD, min_size=5, max_size=5),
    wide=st.lists(st.booleans(), min_size=6, max_size=6),
    how=st.sampled_from(["every row's own", "one for all", "every other", "no rows"]),
    seed=SEEDS,
)
def test_a_number_for_each_token_of_a_row_is_the_same_by_a_kernel(
    rows: int, columns: int, words: list[int], wide: list[bool], how: str, seed: int
) -> None:
    """Of words that are a number for all, or each row's own, and tokens that lie in memory in any way."""
    rest = [torch.tensor(word) + torch.arange(rows)[:, None] * own for word, own in zip(words, wide, strict=False)]
    rest = [(word if own else word[0, 0]) & 0xFFFFFFFF for word, own in zip(rest, wide, strict=False)]
    tokens = torch.randint(0, 2**32, (rows, 2 * columns), generator=torch.Generator().manual_seed(seed % 2**63))
    first = {
        "every row's own": tokens[:, :columns],
        "one for all": tokens[:1, :columns].expand(rows, -1),
        "every other": tokens[:, ::2],
        "no rows": tokens[0, :columns],
    }[how]
    by_words = philox((first, *rest[:3]), (rest[3], rest[4]))
    wanted = to_unit(by_words[0], by_words[1])
    assert torch.equal(units((first, *rest[:3]), (rest[3], rest[4])), wanted)


# Each of these rejects a sound generator with probability 1e-6 (two-sided normal bound, 4.9 sigma), whichever way it is
# walked.
@pytest.mark.parametrize("walk", ["position", "draw", "seed", "key", "attempt"])
def test_uniform_along_every_word(walk: str) -> None:
    n, bins = 200_000, 64
    line = torch.arange(n)
    fixed = torch.tensor(7)
    seeds = seed_words([12345])
    if walk == "seed":
        seeds = torch.stack([line & 0xFFFFFFFF, line >> 32], -1)
    if walk == "key":
        u = torch.cat([uniform(seeds, torch.arange(200), fixed, key, fixed) for key in range(n // 200)])
    else:
        at = {name: line if name == walk else fixed for name in ("position", "attempt", "draw")}
        u = uniform(seeds, at["position"], at["attempt"], 99, at["draw"])
    assert u.dtype == torch.float64
    assert bool(((u >= 0) & (u < 1)).all())
    bound = 4.9
    assert abs(float(u.mean()) - 0.5) < bound * math.sqrt(1 / 12 / n)
    assert abs(float((u[1:] * u[:-1]).mean()) - 0.25) < bound * math.sqrt(7 / 144 / (n - 1)) * 1.5  # serial correlation
    counts = torch.histc(u.float().clamp(max=1 - 1e-7), bins, 0, 1)
    chi = float(((counts - n / bins) ** 2 / (n / bins)).sum())
    assert (
        abs(chi - (bins - 1)) < bound * math.sqrt(2 * (bins - 1)) * 1.3
    )  # chi-square is skewed: a margin above the normal bound


@given(
    st.lists(st.tuples(SEEDS, st.integers(0, 5000)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.randoms(),
)
def test_a_rows_numbers_depend_on_nothing_else(rows: list[tuple[int, int]], key: int, draws: int, random: Any) -> None:
    def alone(seed: int, position: int) -> torch.Tensor:
        return uniform(seed_words([seed]), torch.tensor([position]), torch.tensor([0]), key, torch.arange(draws))

    noise = [RowNoise(seed) for seed, _ in rows]
    start = [position for _, position in rows]
    for _ in range(4):  # steps in any company, other stages asking in between, rows dropped and positions jumped
        chosen = random.sample(range(len(rows)), random.randint(1, len(rows)))
        step = Noise([noise[i] for i in chosen], [start[i] for i in chosen])
        if random.random() < 0.5:
            step.uniform(key ^ 1, draws)
        got = step.uniform(key, draws)
        assert torch.equal(got, torch.stack([alone(rows[i][0], start[i])[0:draws] for i in chosen]))
        assert torch.equal(got, step.uniform(key, draws))
        for i in chosen:
            start[i] += random.choice([0, 1, 1, 1, 300, -1]) if start[i] else 1


def test_blocks_of_any_size_hold_the_same_numbers() -> None:
    """A row that fills alone makes 256 positions at a time, one of 300 rows a single one: both are the same stream."""
    alone, crowd = RowNoise(5), [RowNoise(5), *(RowNoise(i) for i in range(6, 305))]
    for position in (0, 1, 2, 255, 256, 700):
        one = Noise([alone], [position]).uniform(3)
        many = Noise(crowd, [position] * 300).uniform(3)
        assert torch.equal(one[0], many[0])


def test_more_draws_begin_with_the_fewer() -> None:
    assert torch.equal(Noise([RowNoise(5)], [9]).uniform(3, 4)[:, :2], Noise([RowNoise(5)], [9]).uniform(3, 2))


def test_stages_positions_and_seeds_are_apart() -> None:
    seen = {
        float(Noise([RowNoise(seed)], [position]).uniform(stage_key(name)))
        for seed in (0, 1, 2**32, 2**63)
        for position in range(5)
        for name in ("sample", "sample#2", "xtc", "heat")
    }
    assert len(seen) == 4 * 5 * 4


def test_an_attempt_is_a_fresh_draw_at_that_position_alone() -> None:
    row, other = RowNoise(11), RowNoise(11)
    before = [float(Noise([row], [p]).uniform(1)) for p in range(6)]
    row.retry(3)
    after = [float(Noise([row], [p]).uniform(1)) for p in range(6)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False, True, True]
    row.retry(3)
    assert float(Noise([row], [3]).uniform(1)) not in (before[3], after[3])
    ids = torch.arange(10)[None]
    assert not torch.equal(Noise([row], [3]).by_token(1, ids), Noise([other], [3]).by_token(1, ids))
    assert torch.equal(Noise([row], [4]).by_token(1, ids), Noise([other], [4]).by_token(1, ids))


def test_an_attempt_is_part_of_a_clone_and_not_of_a_fork() -> None:
    row = RowNoise(11)
    row.retry(3)
    first = Noise([row], [3]).uniform(1)
    assert torch.equal(Noise([row.clone()], [3]).uniform(1), first)
    assert not torch.equal(Noise([row.clone(12)], [3]).uniform(1), first)
    twin = row.clone()
    twin.retry(3)
    assert torch.equal(Noise([row], [3]).uniform(1), first)  # the original did not move


@given(SEEDS, st.integers(0, 3000), st.integers(0, 2**32 - 1))
def test_noise_by_token_is_a_function_of_the_token(seed: int, position: int, key: int) -> None:
    noise = Noise([RowNoise(seed), RowNoise(seed ^ 1)], [position, position + 1])
    whole = noise.by_token(key, torch.arange(40).expand(2, -1))
    ids = torch.tensor([[3, 8, 39], [0, 1, 17]])
    assert torch.equal(noise.by_token(key, ids), whole.gather(1, ids))
    assert torch.equal(noise.select([1]).by_token(key, ids[1:]), whole.gather(1, ids)[1:])


def test_select_and_empty() -> None:
    noise = Noise([RowNoise(i) for i in range(5)], [1, 2, 3, 4, 5])
    assert torch.equal(noise.select([4, 0]).uniform(2), noise.uniform(2)[[4, 0]])
    assert noise.select([]).uniform(2, 3).shape == (0, 3)


@pytest.mark.parametrize("device", DEVICES)
def test_any_device_gives_the_bits_of_the_cpu(device: str) -> None:
    seeds, line = seed_words([3, 2**64 - 1, 17, 0]), torch.arange(1000)
    expected = uniform(seeds[:, None], line, torch.tensor(0), 5, torch.tensor(1))
    got = uniform(
        seeds[:, None].to(device), line.to(device), torch.tensor(0, device=device), 5, torch.tensor(1, device=device)
    )
    assert torch.equal(got.cpu(), expected)


# -- seeds -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(SEEDS)
def test_folding_by_zero_is_the_seed_itself(seed: int) -> None:
    assert fold(seed, 0) == seed
    assert fold(seed, 0, level=1) == seed
    many = folded(seed, range(50))
    assert many == [fold(seed, i) for i in range(50)]
    below = folded(seed, range(1, 50), level=1)
    assert len({*many, *below}) == 99  # levels do not meet: a collision has odds of 1 in 2**51
    assert all(0 <= s < 2**64 for s in many + below)


@pytest.mark.parametrize("seed", [-1, 2**64, True, False, 1.0, "1", None, 0.5])
def test_wrong_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(RequestError, match="a seed is an integer from 0 to"):
        check_seed(seed)
    with pytest.raises(RequestError):
        fold(seed, 1)


def test_seeds_of_the_system_can_be_typed_again() -> None:
    seeds = [fresh_seed() for _ in range(20)]
    assert len(set(seeds)) > 15
    assert all(0 <= check_seed(seed) < 2**32 for seed in seeds)


@settings(max_examples=20)
@given(st.integers(0, 2**63))
def test_the_global_generator_is_never_touched(seed: int) -> None:
    state = torch.random.get_rng_state()
    Noise([RowNoise(seed)], [0]).uniform(1)
    folded(seed, range(3))
    assert torch.equal(torch.random.get_rng_state(), state)


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6), min_size=1, max_size=40))
def test_many_lanes_of_one_integer_equal_the_definition(rows: list[list[int]]) -> None:
    columns = list(zip(*rows, strict=True))
    got = philox_few(tuple(columns[:4]), tuple(columns[4:]))  # type: ignore[arg-type]
    assert [list(words) for words in zip(*got, strict=True)] == [plain_philox(row[:4], row[4:]) for row in rows]


@given(
    st.lists(st.tuples(SEEDS, st.integers(0, 2**31), st.integers(0, 9)), min_size=1, max_size=9),
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
)
def test_few_numbers_are_the_bits_of_many(places: list[tuple[int, int, int]], key: int, draws: int) -> None:
    seeds = seed_words([seed for seed, _, _ in places])[:, None]
    rest = torch.tensor([place[1:] for place in places])
    expected = uniform(seeds, rest[:, :1], rest[:, 1:], key, torch.arange(draws))
    assert torch.equal(torch.tensor(uniform_few(places, key, draws), dtype=torch.float64), expected)


def test_more_rows_than_few_have_the_same_numbers() -> None:
    rows = [RowNoise(seed) for seed in range(3000)]
    crowd = Noise(rows, [4] * 3000).uniform(9)
    assert torch.equal(crowd[:5], Noise([RowNoise(seed) for seed in range(5)], [4] * 5).uniform(9))
    assert folded(5, range(3000))[:7] == folded(5, range(7))
