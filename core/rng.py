"""Counter-based noise: a pure function of (seed, position, attempt, stage key, draw index).

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), in int64 torch
operations, so that CPU and GPU give the same bits; its published test vectors are in the tests. torch's global
generator is never touched. A call costs more than its numbers, so `Noise` makes the numbers of many positions at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import RequestError

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_BLOCK = 256  # how many numbers one filling call makes, shared among the rows that need some
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


def to_unit(high: Tensor, low: Tensor) -> Tensor:
    """float64 in [0, 1) with 53 random bits, from two words."""
    return ((high >> 5) * 67108864 + (low >> 6)).double() * (1.0 / 9007199254740992.0)


def uniform(seeds: Tensor, position: Tensor, attempt: Tensor, key: int, draw: Tensor) -> Tensor:
    """float64 in [0, 1): one number for each broadcast element. ``seeds`` int64 [..., 2] (low and high word)."""
    zero = torch.zeros((), dtype=torch.int64, device=position.device)
    words = philox((draw, position, attempt, zero + key), (seeds[..., 0], seeds[..., 1]))
    return to_unit(words[0], words[1])


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
    which = torch.as_tensor(list(indices), dtype=torch.int64)
    k0, k1 = torch.tensor(seed & _MASK), torch.tensor(seed >> 32)
    w0, w1, _, _ = philox((which & _MASK, which >> 32, torch.tensor(_FOLD), torch.tensor(level)), (k0, k1))
    pairs = zip(which.tolist(), w0.tolist(), w1.tolist(), strict=True)
    return [seed if index == 0 else low | high << 32 for index, low, high in pairs]


def seed_words(seeds: Sequence[int]) -> Tensor:
    """int64 [n, 2]: the low and high words of each seed."""
    return torch.tensor([[seed & _MASK, seed >> 32] for seed in seeds], dtype=torch.int64).reshape(-1, 2)


@dataclass
class RowNoise:
    """One row's numbers, ahead of their use: for each stage key and number of draws, a block of positions."""

    seed: int
    attempts: dict[int, int] = field(default_factory=dict)  # rewinds at a position
    blocks: dict[tuple[int, int], tuple[int, Tensor]] = field(
        default_factory=dict
    )  # (key, draws) -> (first position, [n, draws])

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
        blocks = [row.blocks[name] for row in self.rows]
        numbers = [block[position - first] for (first, block), position in zip(blocks, self.positions, strict=True)]
        return (
            torch.stack(numbers).to(self.device, non_blocking=True)
            if numbers
            else torch.empty(0, draws, dtype=torch.float64)
        )

    def _fill(self, missing: list[int], key: int, draws: int) -> None:
        span = max(1, _BLOCK // (len(missing) * draws))
        first = torch.tensor([self.positions[i] for i in missing])
        position = (first[:, None] + torch.arange(span))[..., None]  # [m, span, 1]
        attempt = torch.tensor(
            [
                [self.rows[i].attempts.get(self.positions[i] + j, 0) for j in range(span)]
                if self.rows[i].attempts
                else [0] * span
                for i in missing
            ]
        )[..., None]
        seeds = seed_words([self.rows[i].seed for i in missing])[:, None, None, :]
        numbers = uniform(seeds, position, attempt, key, torch.arange(draws))
        for i, block in zip(missing, numbers, strict=True):
            self.rows[i].blocks[key, draws] = (self.positions[i], block)

    def by_token(self, key: int, ids: Tensor) -> Tensor:
        """float64 [R, C] in [0, 1): a number for each token id (int64 [R, C]), the same for that id in any Dist."""
        device = ids.device
        seeds = seed_words([row.seed for row in self.rows]).to(device)[:, None, :]
        position = torch.tensor(list(self.positions), device=device)[:, None]
        attempts = [row.attempts.get(p, 0) for row, p in zip(self.rows, self.positions, strict=True)]
        return uniform(seeds, position, torch.tensor(attempts, device=device)[:, None], key, ids)

    def select(self, rows: Sequence[int]) -> Noise:
        """The noise of some rows."""
        return Noise([self.rows[i] for i in rows], [self.positions[i] for i in rows], self.device)
