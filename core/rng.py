"""Counter-based noise: a pure function of (seed, position, attempt, stage key, draw index).

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), in int64 torch
operations, or on a CPU by a kernel: the bits are the same everywhere; its published test vectors are in the tests.
torch's global generator is never touched. A call costs more than its numbers, so `Noise` makes the numbers of many
positions at once.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from .errors import RequestError
from .kernels import noise
from .transfer import to_device

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_BLOCK = 256  # how many numbers one filling call makes at most, shared among the rows that need some
_GROWTH = 4  # a row's next block is so many times the last: who draws once pays for one number
_FEW = 2048  # up to so many numbers Python's integers are faster than tensors
_FOLD = 0x464F4C44  # counter word that keeps folded seeds apart from every stage's noise

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Philox4x32-10. Counter and key words are int64 tensors holding values in [0, 2**32); they broadcast.

    Four words out.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """32 by 32 bits to (high, low) words.

    int64 wraps modulo 2**64, which keeps both words; the shift's sign is masked away.
    """
    product = b * a
    return (product >> 32) & _MASK, product & _MASK


def philox_few(
    counter: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]], key: tuple[Sequence[int], Sequence[int]]
) -> tuple[tuple[int, ...], ...]:
    """`philox` of n counters and keys given as words, n numbers each; the same four words out.

    Without a kernel a lane of 64 bits holds the product of two words, so that one multiplication of Python integers
    serves all of them.
    """
    found = noise.philox((*counter, *key))
    return _by_lanes(counter, key) if found is None else found


def _by_lanes(
    counter: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]], key: tuple[Sequence[int], Sequence[int]]
) -> tuple[tuple[int, ...], ...]:
    count = len(counter[0])
    c0, c1, c2, c3 = map(_packed, counter)
    k0, k1 = map(_packed, key)
    mask, weyl0, weyl1 = _lanes(count)
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) & mask ^ c1 ^ k0, p1 & mask, (p0 >> 32) & mask ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + weyl0) & mask, (k1 + weyl1) & mask
    return tuple(struct.unpack(f"<{count}Q", word.to_bytes(8 * count, "little")) for word in (c0, c1, c2, c3))


def _packed(words: Sequence[int]) -> int:
    return int.from_bytes(struct.pack(f"<{len(words)}Q", *words), "little")


@lru_cache(maxsize=64)
def _lanes(count: int) -> tuple[int, int, int]:
    """The low half of every lane, and the two Weyl constants in each."""
    mask, weyl0, weyl1 = (_packed([word] * count) for word in (_MASK, *_WEYL))
    return mask, weyl0, weyl1


def to_unit(high: Tensor, low: Tensor) -> Tensor:
    """float64 in [0, 1) with 53 random bits, from two words."""
    return ((high >> 5) * 67108864 + (low >> 6)).double() * (1.0 / 9007199254740992.0)


def units(counter: Words, key: tuple[Tensor, Tensor]) -> Tensor:
    """`to_unit` of the first two words that `philox` makes of these: float64, of the shape that they broadcast to."""
    found = noise.rows(counter[0], (*counter[1:], *key))
    if found is None:
        high, low, _, _ = philox(counter, key)
        found = to_unit(high, low)
    return found


def uniform(seeds: Tensor, position: Tensor, attempt: Tensor, key: int, draw: Tensor) -> Tensor:
    """float64 in [0, 1): one number for each broadcast element. ``seeds`` int64 [..., 2] (low and high word)."""
    zero = torch.zeros((), dtype=torch.int64, device=position.device)
    return units((draw, position, attempt, zero + key), (seeds[..., 0], seeds[..., 1]))


def uniform_few(places: Sequence[tuple[int, int, int]], key: int, draws: int) -> list[list[float]]:
    """`uniform` without tensors: for each place (seed, position, attempt) ``draws`` numbers, the same ones."""
    units = noise.uniform(places, key, draws)
    if units is None:
        units = _units(places, key, draws)
    return [units[i : i + draws] for i in range(0, len(units), draws)]


def _units(places: Sequence[tuple[int, int, int]], key: int, draws: int) -> list[float]:
    counter = (
        list(range(draws)) * len(places),
        [position for _, position, _ in places for _ in range(draws)],
        [attempt for _, _, attempt in places for _ in range(draws)],
        [key] * (len(places) * draws),
    )
    seeds = [seed for seed, _, _ in places for _ in range(draws)]
    high, low, _, _ = philox_few(counter, ([seed & _MASK for seed in seeds], [seed >> 32 for seed in seeds]))
    return [((h >> 5) * 67108864 + (w >> 6)) * (1.0 / 9007199254740992.0) for h, w in zip(high, low, strict=True)]


def _uniform_many(places: Sequence[tuple[int, int, int]], key: int, draws: int) -> list[list[float]]:
    seeds = seed_words([seed for seed, _, _ in places])[:, None]
    rest = torch.tensor([place[1:] for place in places])  # [n, 2]
    numbers: list[list[float]] = uniform(seeds, rest[:, :1], rest[:, 1:], key, torch.arange(draws)).tolist()
    return numbers


def stage_key(name: str) -> int:
    """32 bits of SHA-256 of a stage's label, or of its name and occurrence."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def check_seed(seed: object) -> int:
    """A seed is an integer in [0, 2**64)."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise RequestError(f"a seed is an integer from 0 to 2**64 - 1, got {seed!r}")
    return seed


def fresh_seed() -> int:
    """A seed from the system, short enough to be typed again."""
    return secrets.randbits(32)


def fold(seed: int, index: int, level: int = 0) -> int:
    """The seed of prompt ``index`` under one seed for many prompts. fold(seed, 0) == seed.

    ``level`` keeps apart what is folded for different reasons: 0 for prompts, 1 for the rows of a search.
    """
    return folded(seed, [index], level)[0]


def folded(seed: int, indices: Sequence[int], level: int = 0) -> list[int]:
    """``fold`` for many indices in one call."""
    check_seed(seed)
    low, high = _folds(seed, indices, level)
    return [seed if i == 0 else a | b << 32 for i, a, b in zip(indices, low, high, strict=True)]


def _folds(seed: int, indices: Sequence[int], level: int) -> tuple[Iterable[int], Iterable[int]]:
    """The low and high words of the folded seeds."""
    count = len(indices)
    if count <= _FEW:
        words = philox_few(
            ([i & _MASK for i in indices], [i >> 32 for i in indices], [_FOLD] * count, [level] * count),
            ([seed & _MASK] * count, [seed >> 32] * count),
        )
        return words[0], words[1]
    which = torch.as_tensor(list(indices), dtype=torch.int64)
    k0, k1 = torch.tensor(seed & _MASK), torch.tensor(seed >> 32)
    w0, w1, _, _ = philox((which & _MASK, which >> 32, torch.tensor(_FOLD), torch.tensor(level)), (k0, k1))
    return w0.tolist(), w1.tolist()


def seed_words(seeds: Sequence[int]) -> Tensor:
    """int64 [n, 2]: the low and high words of each seed."""
    return torch.tensor([[seed & _MASK, seed >> 32] for seed in seeds], dtype=torch.int64).reshape(-1, 2)


@dataclass
class RowNoise:
    """One row's numbers, ahead of their use: for each stage key and number of draws, a block of positions."""

    seed: int
    attempts: dict[int, int] = field(default_factory=dict)  # rewinds at a position
    blocks: dict[tuple[int, int], tuple[int, list[list[float]]]] = field(
        default_factory=dict
    )  # (key, draws) -> (first position, the numbers of that and the following positions)

    def clone(self, seed: int | None = None) -> RowNoise:
        """A copy for a forked row, with its own seed where one is given."""
        if seed is None or seed == self.seed:
            return RowNoise(self.seed, dict(self.attempts), dict(self.blocks))
        return RowNoise(seed)

    def retry(self, position: int) -> None:
        """The token at ``position`` was taken back: the next draw there is a fresh one."""
        self.attempts[position] = self.attempts.get(position, 0) + 1
        self.blocks.clear()


class Noise:
    """The noise of R rows at their present positions."""

    def __init__(self, rows: Sequence[RowNoise], positions: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.rows, self.positions, self.device = rows, positions, device

    def uniform(self, key: int, draws: int = 1) -> Tensor:
        """float64 [R, draws] in [0, 1) for the stage with this key."""
        name = (key, draws)
        missing = [
            i
            for i, (row, position) in enumerate(zip(self.rows, self.positions, strict=True))
            if name not in row.blocks or not 0 <= position - row.blocks[name][0] < len(row.blocks[name][1])
        ]
        if missing:
            self._fill(missing, key, draws)
        numbers = []
        for row, position in zip(self.rows, self.positions, strict=True):
            first, block = row.blocks[name]
            numbers.append(block[position - first])
        return to_device(numbers, torch.float64, torch.device(self.device)).reshape(-1, draws)

    def _fill(self, missing: list[int], key: int, draws: int) -> None:
        name = (key, draws)
        last = max(len(self.rows[i].blocks[name][1]) if name in self.rows[i].blocks else 0 for i in missing)
        span = max(1, min(_GROWTH * last, _BLOCK // (len(missing) * draws)))
        places = []
        for i in missing:
            row, first = self.rows[i], self.positions[i]
            places += [(row.seed, p, row.attempts.get(p, 0)) for p in range(first, first + span)]
        numbers = uniform_few(places, key, draws) if len(places) * draws <= _FEW else _uniform_many(places, key, draws)
        for n, i in enumerate(missing):
            self.rows[i].blocks[name] = (self.positions[i], numbers[n * span : (n + 1) * span])

    def by_token(self, key: int, ids: Tensor) -> Tensor:
        """float64 [R, C] in [0, 1): a number for each token id (int64 [R, C]), the same for that id in any Dist."""
        device = ids.device
        words = [[row.seed & _MASK, row.seed >> 32] for row in self.rows]
        seeds = to_device(words, torch.int64, device)[:, None, :]
        position = to_device(self.positions, torch.int64, device)[:, None]
        attempts = [row.attempts.get(p, 0) for row, p in zip(self.rows, self.positions, strict=True)]
        return uniform(seeds, position, to_device(attempts, torch.int64, device)[:, None], key, ids)

    def select(self, rows: Sequence[int]) -> Noise:
        """The noise of some rows."""
        return Noise([self.rows[i] for i in rows], [self.positions[i] for i in rows], self.device)
