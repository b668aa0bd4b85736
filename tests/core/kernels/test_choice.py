"""The Triton kernel, where triton is: interpreted on a CPU, run on a GPU, and compiled for one that is not here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton, which torch for CUDA brings, is not here")

COMPILE = """
import re, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from logitmill.core.kernels import choice
for steps, few in (([], None), ([1, 2, 3, 4], None), ([2, 1, 3], (0, 50)), ([3, 1, 2], (2, 1000))):
    constants = choice.constants_of(steps, few)
    types = choice.SIGNATURE | dict.fromkeys(constants, "constexpr")
    source = ASTSource(choice._choose, types, constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": choice.WARPS})
    assert made.asm["cubin"]
    assert not re.search(r"div\\.(full|approx)", made.asm["ptx"]), "a division that is not IEEE's"
    assert ".local" not in made.asm["ptx"], "registers do not suffice"
"""


def run(*arguments: str, interpreted: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_INTERPRET": "1"} if interpreted else {}
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


def test_it_does_what_the_stages_do() -> None:
    cases = str(Path(__file__).with_name("kernel_cases.py"))
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", cases, interpreted=not torch.cuda.is_available())


def test_it_compiles_for_an_h100_and_divides_exactly() -> None:
    run("-c", COMPILE, interpreted=False)
