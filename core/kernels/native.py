"""The kernels of this folder for a CPU: C++ that the machine's own compiler makes a library of, once.

torch has no call for a rotation, a norm or a cut of many rows; put together of its calls, one of them takes as long as
the arithmetic of ten. Where there is a compiler (CXX, c++, g++ or clang++) the first use compiles the sources for this
processor, in a second or two, into the cache folder, and later starts load what is there. Everything that asks for
``library`` has another way for where it is None: no compiler, Windows, or LOGITMILL_NATIVE=0.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..cache import cache_folder

FOLDER = Path(__file__).resolve().parent
SOURCES = ("decode.cpp",)
COMPILERS = ("c++", "g++", "clang++")
ALWAYS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
BETTER = (("-march=native", "-fopenmp"), ("-march=native",), ())
"""Flags that not every compiler takes, the best first. Without OpenMP a kernel has one thread."""
PATIENCE = 120.0
"""Seconds for the compiler."""


@dataclass(frozen=True)
class Native:
    """The library, and where it lies; or else None, and why."""

    library: ctypes.CDLL | None
    note: str


def library() -> ctypes.CDLL | None:
    """The kernels, compiled at the first call on a machine; None where they cannot be."""
    return found().library


@cache
def found() -> Native:
    """Looks once a process."""
    if os.environ.get("LOGITMILL_NATIVE") == "0":
        return Native(None, "LOGITMILL_NATIVE=0 turns them off")
    if sys.platform == "win32":
        return Native(None, "they are not for Windows")
    compiler = _compiler()
    if compiler is None:
        return Native(None, "there is no C++ compiler (CXX, c++, g++, clang++)")
    try:
        return _kept(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"{compiler} did not make a library of them: {_told(error)}")


@cache
def threads_of_kernels() -> bool:
    """Whether a kernel may have several threads: they are then torch's own.

    A process with two OpenMPs has two teams, which take the processor from one another.
    """
    try:
        mapped = Path("/proc/self/maps").read_text("ascii", "replace")
    except OSError:
        return False
    files = {line.rsplit("/", 1)[-1] for line in mapped.splitlines() if "/" in line}
    return len([name for name in files if name.startswith(("libgomp", "libomp", "libiomp"))]) <= 1


def threads() -> int:
    """How many threads a kernel is to use now."""
    return torch.get_num_threads() if threads_of_kernels() else 1


def _compiler() -> str | None:
    """The path of the compiler."""
    named = os.environ.get("CXX")
    return next((path for name in ((named,) if named else COMPILERS) if (path := shutil.which(name))), None)


def _kept(compiler: str) -> Native:
    """The library of the cache folder, made where it is not there, or where what is there cannot be loaded."""
    folder, name = cache_folder() / "native", f"{_key(compiler)}.so"
    with suppress(OSError):
        return Native(ctypes.CDLL(str(folder / name)), str(folder / name))
    with tempfile.TemporaryDirectory(prefix="logitmill-") as room:
        made = Path(room) / name
        _compile(compiler, made)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own = folder / f"{name}.{os.getpid()}"
            shutil.copyfile(made, own)
            own.replace(folder / name)  # whole or not at all, also where two processes make it at once
            made = folder / name
        except OSError:  # the cache cannot be written: this process has them, and the next one compiles again
            return Native(ctypes.CDLL(str(made)), "compiled anew: the cache folder cannot be written")
        return Native(ctypes.CDLL(str(made)), str(made))


def _compile(compiler: str, made: Path) -> None:
    sources = [str(FOLDER / name) for name in SOURCES]
    for number, better in enumerate(BETTER, 1):
        command = [compiler, *ALWAYS, *better, *sources, "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=number == len(BETTER))
        if done.returncode == 0:
            return


def _key(compiler: str) -> str:
    """20 hex digits that differ where another library would be made."""
    stat = Path(compiler).resolve().stat()
    facts = [str((ALWAYS, BETTER)), compiler, str((stat.st_size, stat.st_mtime_ns)), platform.machine(), _processor()]
    files = sorted((*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")))
    return hashlib.sha256(b"\0".join([*map(str.encode, facts), *(file.read_bytes() for file in files)])).hexdigest()[:20]


def _processor() -> str:
    """What this processor has, as far as the system says it: a cache folder may be shared by several machines."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.node()} {platform.processor()}"


def _told(error: Exception) -> str:
    """The compiler's first complaint."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = [line.strip() for line in str(said or "").splitlines() if "error" in line.lower()]
    return lines[0] if lines else str(error)


__all__ = ["Native", "found", "library", "threads"]
