"""The header of a GGUF file: its metadata and where its tensors lie, checked against the file's size.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import ModelError

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """``metadata`` by key; ``shapes`` of the tensors in torch's order; ``types`` their ggml types; ``offsets`` where
    they begin in the file.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    offsets: dict[str, int]

    @property
    def architecture(self) -> str:
        """llama.cpp's name for the architecture."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(map(prod, self.shapes.values()))


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def scalar(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        size = self.scalar("Q")
        if size > len(self.data) - self.at:
            raise struct.error("a string beyond the end")
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, count = self.scalar("I"), self.scalar("Q")
            if count > len(self.data) - self.at:
                raise struct.error("an array beyond the end")
            if inner in SCALARS:
                code = f"<{count}{SCALARS[inner]}"
                values = struct.unpack_from(code, self.data, self.at)
                self.at += struct.calcsize(code)
                return list(values)
            return [self.value(inner) for _ in range(count)]
        if kind not in SCALARS:
            raise struct.error(f"a value of unknown type {kind}")
        return self.scalar(SCALARS[kind])


def read_gguf(path: Path) -> GgufHeader:
    """The header of ``path``. Raises ModelError for what is no GGUF, an unread version or byte order, or a cut file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        magic = stream.read(4)
        if magic != b"GGUF":
            raise ModelError(
                f"{path} is no GGUF file: it starts with {magic!r}, not b'GGUF'. Fetch it again{_pointer(magic)}"
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            reader.at = 4
            try:
                version = reader.scalar("I")
                if version not in (2, 3):
                    raise ModelError(
                        f"{path} is GGUF version {version} (or big-endian); versions 2 and 3 are read. Convert it anew"
                    )
                header, end = _read(reader)
            except (struct.error, IndexError) as error:
                raise ModelError(
                    f"{path} is truncated: its header ends early ({size:,} bytes). Fetch it again"
                ) from error
    if end > size:
        raise ModelError(f"{path} is truncated: {size:,} bytes of {end:,}. Fetch it again")
    if not header.architecture:
        raise ModelError(f"{path} names no architecture (general.architecture), so what model it holds cannot be known")
    return header


def _pointer(magic: bytes) -> str:
    return " (it looks like a git-lfs pointer: git lfs pull)" if magic == b"vers" else ""


def _read(reader: _Reader) -> tuple[GgufHeader, int]:
    """The header, and the offset at which the last tensor ends."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    tensors, pairs = reader.scalar("Q"), reader.scalar("Q")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        metadata[key] = reader.value(reader.scalar("I"))
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, int] = {}
    offsets: dict[str, int] = {}
    last = 0
    for _ in range(tensors):
        name = reader.text()
        dims = [reader.scalar("Q") for _ in range(reader.scalar("I"))]
        kind, offset = reader.scalar("I"), reader.scalar("Q")
        shapes[name], types[name], offsets[name] = tuple(reversed(dims)), kind, offset
        try:
            block, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            block, nbytes = 1, 0  # a type newer than the gguf package: its size is unknown, the conversion will say so
        last = max(last, offset + prod(dims) // block * nbytes)
    alignment = int(metadata.get("general.alignment", 32)) or 32
    start = -(-reader.at // alignment) * alignment
    offsets = {name: start + offset for name, offset in offsets.items()}
    return GgufHeader(metadata, shapes, types, offsets), start + last if tensors else reader.at
