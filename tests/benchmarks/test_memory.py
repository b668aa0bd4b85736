"""The memory of a process: what its weights and its cache are counted to be, and what stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PARAMETERS = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64) + 64  # of both layers, and the last norm
TABLE = 320 * 64
HEADS, DIM = 2, 16
ROTARY = 2 * DIM // 2 * 4  # bytes: the frequencies, and the same as they were at first


@pytest.mark.parametrize(("weights", "size"), [("float32", 4), ("bfloat16", 2)])
def test_what_is_counted(program: Callable[[str], Any], small: Path, weights: str, size: int):
    """Layers that are laid out anew and joined are counted once; the head is not tied here."""
    memory = program("memory")
    found = memory.held(str(small), weights)
    assert found["how"] == weights
    assert found["weights"] == size * (PARAMETERS + 2 * TABLE) + ROTARY
    rows, positions = memory.ROWS, memory.PROMPT + memory.TOKENS
    assert found["cache"] == size * rows * positions * 2 * 2 * HEADS * DIM  # keys and values of two layers
    assert found["resident"] > found["weights"] + found["cache"]
    assert found["most"] is None or found["most"] >= 0.9 * found["resident"]


def test_four_bits_are_counted_as_they_lie(program: Callable[[str], Any], small: Path):
    """Half a byte a value, four bytes a group of 32; the head in 8 bits with two bytes a row."""
    found = program("memory").held(str(small), "int4")
    matrices = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)
    norms = 2 * (PARAMETERS - matrices)
    assert found["weights"] == matrices // 2 + matrices // 32 * 4 + (TABLE + 2 * 320) + 2 * TABLE + norms + ROTARY


def test_a_tied_head_is_counted_once(program: Callable[[str], Any]):
    import torch
    from torch import nn

    from logitmill.core.model.packed import OneDnnLinear

    table = nn.Embedding(32, 16)
    tied = OneDnnLinear(table.weight.detach(), tied=table.weight)
    own = OneDnnLinear(torch.zeros(48, 16))
    counted = list(program("memory").tensors(nn.ModuleList([table, tied, own, own.part(0, 16), own.part(16, 48)])))
    assert sorted(tensor.numel() for tensor in counted) == [32 * 16, 48 * 16]


def test_the_section_is_of_processes_of_their_own(program: Callable[[str], Any], small: Path):
    memory, said = program("memory"), []
    asked = program("section").Asked(1, said.append)
    section = memory.memory(asked, str(small), ("float32",))
    assert said == ["the memory of a process, weights float32 ..."]
    [row] = section.rows
    assert len(row) == len(section.head)
    [(name, ratio)] = section.ratios.items()
    assert name == "memory: float32, what is allowed beside the process"
    process, allowed = (
        float(row[section.head.index(f"{what}, MB")].replace(",", "")) for what in ("process", "allowed")
    )
    assert allowed == 601  # next to nothing in weights and cache
    assert ratio.median == pytest.approx(allowed / process, rel=0.01)


def test_a_process_that_fails_is_told(program: Callable[[str], Any]):
    with pytest.raises(SystemExit, match=r"(?s)--alone int4 -m /no/such/model failed:.*no folder or file"):
        program("memory").started("/no/such/model", "int4")
