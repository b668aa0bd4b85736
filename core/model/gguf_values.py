"""The quantized values of a GGUF file, as torch's weight-only kernels take them, without a way through floats.

Q4_0, Q4_1 and Q8_0 have groups of 32 along a row with a float16 scale, as ``Int4Linear`` has: the values are kept to
the bit, and scales (and Q4_1's minimum, as a zero) are rounded to bfloat16, which the kernel takes. Eight bits become
the sum of two products of four.

Which tensor of the file is which layer is found by what they hold, not by names: the converted model has the same
values as floats. A layer's rows may stand in another order there (llama.cpp reorders query and key for its own rotary
embedding); the order is read off, and each match is checked in full, so a layer either keeps exactly its file's values
or is not matched at all.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .gguf import GgufHeader
from .int_values import int8_as_int4
from .quantize import GROUP

Q4_0, Q4_1, Q8_0 = 2, 3, 8
BYTES = {Q4_0: 18, Q4_1: 20, Q8_0: 34}
"""Bytes of a block of 32 values, by ggml type: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h."""


class GgufValues:
    """The quantized matrices of an open GGUF file."""

    def __init__(self, path: Path, header: GgufHeader) -> None:
        self._header = header
        with path.open("rb") as stream:
            # as a copy that is never made: torch wants memory that could be written
            self._data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self._known: dict[tuple[tuple[int, ...], int], list[str]] = {}
        for name in self.names():
            mark = _mark(self.floats(name, groups=1))
            self._known.setdefault((self._header.shapes[name], mark), []).append(name)

    def names(self) -> Iterator[str]:
        """Matrices of the types that are kept."""
        for name, kind in self._header.types.items():
            shape = self._header.shapes[name]
            if kind in BYTES and len(shape) == 2 and shape[1] % GROUP == 0:
                yield name

    def floats(self, name: str, groups: int | None = None) -> Tensor:
        """float32 ``[n, k]``, or the first ``groups`` groups of each row: as gguf's own dequantization."""
        values, scale, low = self._read(name, groups)
        return (values.float() * scale[..., None] + low[..., None]).flatten(1)

    def parts(self, name: str, order: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(values uint8 ``[n, repeats * k]``, scale, zero ``[n, groups]``) for ``Int4Linear.of``, rows in ``order``."""
        values, scale, low = self._read(name)
        if order is not None:
            values, scale, low = values[order], scale[order], low[order]
        if self._header.types[name] == Q8_0:
            return int8_as_int4(values.flatten(1), scale)
        if self._header.types[name] == Q4_0:
            return (values + 8).flatten(1).to(torch.uint8), scale, torch.zeros_like(scale)
        return values.flatten(1).to(torch.uint8), scale, low + 8 * scale

    def of_layer(self, folder: Path, name: str, embedding: str) -> tuple[Tensor, Tensor, Tensor] | None:
        """``parts`` for the linear layer ``name`` of the model that was converted into ``folder``; None where there are
        none. ``embedding``: the name of the embedding, whose weight a head without one of its own has.
        """
        from safetensors import safe_open

        with safe_open(str(folder / "model.safetensors"), "pt") as stored:
            there = set(stored.keys())
            key = next((key for key in (f"{name}.weight", f"{embedding}.weight") if key in there), None)
            weight = None if key is None else stored.get_tensor(key)
        if weight is None or weight.dim() != 2:
            return None
        found = self.of(weight)
        return self.of(weight.t().contiguous()) if found is None else found

    def of(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """``parts`` of the matrix that ``weight`` (``[n, k]``) was made of; None where there is none."""
        weight = weight.float()
        for name in self._known.get((tuple(weight.shape), _mark(weight)), ()):
            own = self.floats(name)
            if torch.equal(own, weight):
                return self.parts(name)
            order = _order(own, weight)
            if torch.equal(own[order], weight):
                return self.parts(name, order)
        return None

    def _read(self, name: str, most: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(values ``[n, groups, 32]``, signed where the type is symmetric; scale and low end float32 ``[n,
        groups]``).
        """
        kind, (rows, columns) = self._header.types[name], self._header.shapes[name]
        groups, size = columns // GROUP, BYTES[kind]
        start = self._header.offsets[name]
        raw = torch.frombuffer(self._data, dtype=torch.uint8, count=rows * groups * size, offset=start)
        blocks = raw.view(rows, groups, size)[:, :most]
        scale = _half(blocks[..., :2])
        if kind == Q8_0:
            return blocks[..., 2:].contiguous().view(torch.int8), scale, torch.zeros_like(scale)
        nibbles = blocks[..., -GROUP // 2 :]
        values = torch.cat([nibbles & 15, nibbles >> 4], -1)  # the low halves are the first sixteen
        if kind == Q4_0:
            return values.to(torch.int8) - 8, scale, torch.zeros_like(scale)
        return values, scale, _half(blocks[..., 2:4])


def _half(pairs: Tensor) -> Tensor:
    """float32 of two bytes each (``[..., 2]``)."""
    return pairs.contiguous().view(torch.float16)[..., 0].float()


def _mark(weight: Tensor) -> int:
    """A number of what the first group of ``weight``'s rows holds, in whatever order they stand."""
    return int(_rows(weight).sum())


def _rows(weight: Tensor) -> Tensor:
    """int64 ``[n]``: a number of what the first group of each row holds."""
    bits = (weight[:, :GROUP] + 0.0).contiguous().view(torch.int32).long()  # + 0.0 makes one zero of two
    return (bits * torch.arange(1, GROUP + 1)).sum(-1)


def _order(own: Tensor, weight: Tensor) -> Tensor:
    """int64 ``[n]``: the rows of ``own`` in the order in which ``weight`` seems to have them."""
    return _rows(own).argsort()[_rows(weight).argsort().argsort()]
