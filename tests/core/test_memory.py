"""Choosing among a large vocabulary, again and again, is done in memory that the process has already."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CALLS = 10
COUNT = f"""
import resource
import torch
from logitmill import Strategy

strategy, logits = Strategy.parse("top_p(0.9) | sample"), 1.5 * torch.randn(8, 128_256)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for seed in range({CALLS}):
        strategy.draw(logits, seed=seed)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives freed memory back")
def test_a_call_touches_no_new_pages() -> None:
    """Without ``keep_freed`` it is two thousand a call, and the call takes twice as long."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * CALLS
