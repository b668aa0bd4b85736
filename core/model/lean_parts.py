"""What a lean decoder step is put together from: the stream that layers add to, its norms, and rotary embeddings."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .lean_attention import Heads

_layer_norm = torch.native_layer_norm

_FIRST = 512
"""Positions of a first table of angles."""


class Norm:
    """RMSNorm over the last dimension.

    A CPU has no kernel for it, and torch does it in eight small ones; it has one for LayerNorm, which of ``[x, -x]``,
    whose mean is 0 and whose variance is the mean square of x, is the same in half the time.
    """

    def __init__(self, norm: Any) -> None:
        self.weight: Tensor = norm.weight
        self.eps: float = norm.variance_epsilon
        self.size = self.weight.shape[0]
        self.shape, self.mirrored = [2 * self.size], None
        if self.weight.device.type == "cpu":
            self.mirrored = torch.cat([self.weight.data, torch.zeros_like(self.weight.data)])

    @property
    def at(self) -> int:
        """Where its weight lies on a CPU, in memory of its own."""
        assert self.mirrored is not None
        return self.mirrored.data_ptr()

    def __call__(self, x: Tensor) -> Tensor:
        if self.mirrored is None or torch.compiler.is_compiling():
            return functional.rms_norm(x, (self.size,), self.weight, self.eps)
        both = _layer_norm(torch.cat([x, -x], -1), self.shape, self.mirrored, None, self.eps)[0]
        return both.narrow(-1, 0, self.size).contiguous()


class Stream(Protocol):
    """What layers read, normed, and add to: ``[n, hidden]``."""

    value: Tensor

    def normed(self, norm: Norm) -> Tensor:
        """What a block of a layer takes."""

    def add(self, x: Tensor) -> None:
        """What it gives back, added in place."""


class Plain:
    """A tensor."""

    def __init__(self, x: Tensor) -> None:
        self.value = x

    def normed(self, norm: Norm) -> Tensor:
        return norm(self.value)

    def add(self, x: Tensor) -> None:
        self.value = x.add_(self.value)


class Mirrored:
    """A tensor and its negative side by side, as a CPU norms it: keeping both is less than making one at each norm."""

    def __init__(self, x: Tensor) -> None:
        self.both = torch.cat([x, -x], -1)
        self.value, self._negative = self.both.chunk(2, -1)

    def normed(self, norm: Norm) -> Tensor:
        normed = _layer_norm(self.both, norm.shape, norm.mirrored, None, norm.eps)[0]
        return normed.narrow(-1, 0, norm.size).contiguous()

    def add(self, x: Tensor) -> None:
        self.value.add_(x)
        self._negative.sub_(x)


def stream(x: Tensor) -> Stream:
    """The kind that is fast where ``x`` lies."""
    return Mirrored(x) if x.device.type == "cpu" and not torch.compiler.is_compiling() else Plain(x)


class Rotary:
    """Rotary embeddings by position, in tables that ``rotary``, a model's own module, is asked for once.

    A layer's queries, keys and values lie in one tensor, in this order: the values are turned by no angle. ``most``:
    positions that may be asked for at all, since the angles of some kinds change beyond.
    """

    def __init__(self, rotary: Any, heads: Heads, like: Tensor, most: int | None) -> None:
        self._rotary, self._like, self._most = rotary, like, most
        turned = [1] * (heads.queries + heads.keys) + [0] * heads.keys
        self._turned = torch.tensor(turned, device=like.device)
        # Smaller ones stay: a step that was captured reads its own.
        self._tables: list[Tensor] = []

    @property
    def table(self) -> Tensor:
        """``[1 + positions, 2, dim]``: cosines and signed sines of what is covered, of no angle first."""
        return self._tables[-1]

    def cover(self, positions: int) -> None:
        """From here on there are angles of the positions below ``positions``."""
        held = len(self._tables[-1]) - 1 if self._tables else 0
        if positions <= held or held == self._most:
            return
        count = max(positions, 2 * held, _FIRST)
        count = count if self._most is None else min(count, self._most)
        cos, sin = (each[0] for each in self._rotary(self._like, torch.arange(count, device=self._like.device)[None]))
        half = sin.shape[-1] // 2
        signed = torch.cat([-sin[:, :half], sin[:, half:]], -1)  # of what comes from the other half, with its sign
        straight = torch.stack([torch.ones_like(cos[:1]), torch.zeros_like(cos[:1])], 1)
        self._tables.append(torch.cat([straight, torch.stack([cos, signed], 1)]))

    def at(self, positions: Tensor) -> Rotation:
        """Of n tokens at ``positions`` (int64, n of them), which are covered.

        An idle slot may be longer than what was covered for those in use: it gets the last angles there are, since
        nothing attends to what it writes.
        """
        table = self.table
        places = (positions.reshape(-1, 1) + 1).clamp(max=len(table) - 1) * self._turned  # [n, heads]
        return Rotation(*table.index_select(0, places.view(-1)).view(*places.shape, *table.shape[1:]).unbind(2))


class Rotation:
    """The angles of one pass, for all its layers: ``cos`` and signed ``sin`` ``[n, heads, dim]``."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin, self.half = cos, sin, cos.shape[-1] // 2

    def of(self, heads: Tensor) -> Tensor:
        """``heads`` ``[n, heads, dim]``, turned."""
        return torch.addcmul(heads * self.cos, heads.roll(self.half, -1), self.sin)
