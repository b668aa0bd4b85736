"""The kernels of this folder for a CPU: C++ that the machine's own compiler makes a library of, once.

torch has no call for a rotation, a norm or a cut of many rows; put together of its calls, one of them takes as long as
the arithmetic of ten. Where there is a compiler (CXX, c++, g++ or clang++) the first use compiles the sources for this
processor, in a few seconds, into the cache folder, and later starts load what is there. Everything that asks for
``library`` has another way for where it is None: no AVX-512, no compiler, Windows, or LOGITMILL_NATIVE=0.
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
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..cache import cache_folder

FOLDER = Path(__file__).resolve().parent
SOURCES = ("choose.cpp", "decode.cpp", "noise.cpp", "products.cpp", "repeats.cpp", "shares.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
THREADED = (("-fopenmp",), ())
"""Tried in turn: without OpenMP a kernel has one thread."""
PATIENCE = 120.0
"""Seconds for the compiler."""


@dataclass(frozen=True)
class Native:
    """The library, and where it lies; or else None, and why."""

    library: ctypes.CDLL | None
    note: str


_found: Native | None = None
_looking = threading.Lock()


def library() -> ctypes.CDLL | None:
    """The kernels, compiled at the first call on a machine; None where they cannot be."""
    return found().library


def function(name: str, *takes: Any) -> Any:
    """A kernel that takes arguments of these ctypes, of a library that is there."""
    made = library()
    assert made is not None
    own = made[name]  # a new object each time: its types are nobody else's
    own.argtypes, own.restype = list(takes), None
    return own


def found(told: Callable[[float], None] = lambda part: None) -> Native:
    """Looks, and compiles, once a process. ``told``: is called with the part of the compiling that is done."""
    global _found
    with _looking:
        if _found is None:
            _found = _look(told)
        return _found


def is_to_be_compiled() -> bool:
    """Whether asking for the library will take seconds."""
    compiler = _compiler()
    return _found is None and _unfit() is None and compiler is not None and not _place(compiler).is_file()


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


def _look(told: Callable[[float], None]) -> Native:
    unfit, compiler = _unfit(), _compiler()
    if unfit is not None or compiler is None:
        return Native(None, unfit or "there is no C++ compiler (CXX, c++, g++, clang++)")
    try:
        return _kept(compiler, told)
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"{compiler} did not make a library of them: {_told(error)}")


def _unfit() -> str | None:
    """Why they are not even tried here."""
    if os.environ.get("LOGITMILL_NATIVE") == "0":
        return "LOGITMILL_NATIVE=0 turns them off"
    if sys.platform == "win32":
        return "they are not for Windows"
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return "they are written for AVX-512, which this processor does not have"
    return None


def _compiler() -> str | None:
    """The path of the compiler."""
    named = os.environ.get("CXX")
    return next((path for name in ((named,) if named else COMPILERS) if (path := shutil.which(name))), None)


def _place(compiler: str) -> Path:
    """Where the library of this compiler is kept."""
    return cache_folder() / "native" / f"{_key(compiler)}.so"


def _kept(compiler: str, told: Callable[[float], None]) -> Native:
    """The library of the cache folder, made where it is not there, or where what is there cannot be loaded."""
    place = _place(compiler)
    with suppress(OSError):
        return Native(ctypes.CDLL(str(place)), str(place))
    with tempfile.TemporaryDirectory(prefix="logitmill-") as room:
        made = Path(room) / place.name
        _compile(compiler, made, told)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            own = place.with_name(f"{place.name}.{os.getpid()}")
            shutil.copyfile(made, own)
            own.replace(place)  # whole or not at all, also where two processes make it at once
        except OSError:  # the cache cannot be written: this process has them, and the next one compiles again
            return Native(ctypes.CDLL(str(made)), "compiled anew: the cache folder cannot be written")
    return Native(ctypes.CDLL(str(place)), str(place))


def _compile(compiler: str, made: Path, told: Callable[[float], None]) -> None:
    """Each source by itself, all at once, and the library of them. Raises what the last way of THREADED raises."""
    for number, threaded in enumerate(THREADED, 1):
        try:
            objects = _objects([compiler, *FLAGS, *threaded], made.parent, told)
            _run([compiler, *FLAGS, *threaded, "-shared", *objects, "-o", str(made)])
        except subprocess.SubprocessError:
            if number == len(THREADED):
                raise
        else:
            return


def _objects(command: Sequence[str], folder: Path, told: Callable[[float], None]) -> list[str]:
    objects = [str(folder / f"{Path(name).stem}.o") for name in SOURCES]
    with ThreadPoolExecutor(len(SOURCES)) as pool:
        running = [
            pool.submit(_run, [*command, "-c", str(FOLDER / name), "-o", made])
            for name, made in zip(SOURCES, objects, strict=True)
        ]
        for number, each in enumerate(as_completed(running), 1):
            each.result()
            told(number / len(SOURCES))
    return objects


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)


def _key(compiler: str) -> str:
    """20 hex digits that differ where another library would be made."""
    stat = Path(compiler).resolve().stat()
    facts = [str((FLAGS, THREADED)), compiler, str((stat.st_size, stat.st_mtime_ns)), platform.machine(), _processor()]
    files = [file.read_bytes() for file in sorted((*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")))]
    return hashlib.sha256(b"\0".join([*map(str.encode, facts), *files])).hexdigest()[:20]


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


__all__ = ["Native", "found", "function", "is_to_be_compiled", "library", "threads"]
