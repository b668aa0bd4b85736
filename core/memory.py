"""Memory for tables of a vocabulary's size, kept by the process from one call to the next."""

from __future__ import annotations

import torch

_LARGEST = 31 << 20  # bytes: just below the most that glibc ever takes from its heap


def keep_freed() -> None:
    """Make glibc keep large blocks that were freed, as it does in any process that has loaded a model.

    At first it returns a block of more than 128 KB to the system, and every later one is made of new pages, whose
    first touch costs more than what is worked out in it. Once a block was freed, blocks of up to its size come from
    the heap, and twice that may stay free there (mallopt(3), M_MMAP_THRESHOLD). The block is never touched: it costs
    nothing. Other allocators take no notice.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
