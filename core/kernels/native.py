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
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..cache import cache_folder

FOLDER = Path(__file__).resolve().parent
SOURCES = (
    "account.cpp",
    "choose.cpp",
    "decode.cpp",
    "noise.cpp",
    "products.cpp",
    "repeats.cpp",
    "shares.cpp",
    "tail.cpp",
)
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
THREADED = (("-fopenmp",), ())
"""Tried in turn: without OpenMP a kernel has one thread."""
PATIENCE = 120.0
"""Seconds for the compiler."""
LANES = 16
"""Numbers that they take at a time, as vectors.h has it."""
DIGEST = 32
"""Bytes behind a library that say whether it is whole: to load a part of one ends the process."""


@dataclass(frozen=True)
class Native:
    """The library, and where it lies; or else None, and why. ``kept``: the next start finds it."""

    library: ctypes.CDLL | None
    note: str
    kept: bool = False


_found: Native | None = None
_looking = threading.Lock()


# -- what there is -----------------------------------------------------------------------------------------------------


def library() -> ctypes.CDLL | None:
    """The kernels, compiled at the first call on a machine; None where they cannot be."""
    return found().library


def function(name: str, *takes: Any, gives: Any = None) -> Any:
    """A kernel that takes and gives what these ctypes say, of a library that is there."""
    return _function(library(), name, takes, gives)


@lru_cache(maxsize=64)
def _function(made: ctypes.CDLL, name: str, takes: tuple[Any, ...], gives: Any) -> Any:
    own = made[name]  # a new object each time: its types are nobody else's
    own.argtypes, own.restype = list(takes), gives
    return own


def found(told: Callable[[float], None] = lambda part: None) -> Native:
    """Looks, and compiles, once a process. ``told``: is called with the part of the compiling that is done."""
    global _found
    if _found is None:
        with _looking:
            if _found is None:
                _found = _look(told)
    return _found


def is_to_be_compiled() -> bool:
    """Whether asking for the library will take seconds."""
    if _found is not None or _unfit() is not None:
        return False
    compiler, folder = _compiler(), _folder()
    return compiler is not None and (folder is None or not (folder / _name(compiler)).is_file())


def threads() -> int:
    """How many threads a kernel is to use now."""
    return torch.get_num_threads() if has_threads() else 1


def has_threads() -> bool:
    """Whether a kernel may have several threads: they are then torch's own.

    A process with two OpenMPs has two teams, which take the processor from one another.
    """
    made = library()
    return made is not None and _one_team(made)


@lru_cache(maxsize=4)
def _one_team(made: ctypes.CDLL) -> bool:
    torchs = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        teams = [ctypes.cast(each.omp_get_max_threads, ctypes.c_void_p) for each in (made, ctypes.CDLL(str(torchs)))]
    except (OSError, AttributeError):
        return False
    return teams[0].value == teams[1].value


# -- making it ---------------------------------------------------------------------------------------------------------


def _look(told: Callable[[float], None]) -> Native:
    unfit = _unfit()
    if unfit is not None:
        return Native(None, unfit)
    compiler = _compiler()
    if compiler is None:
        asked = os.environ.get("CXX") or ", ".join(COMPILERS)
        return Native(None, f"there is no C++ compiler (looked for {asked})")
    try:
        return _kept(compiler, told)
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"{shlex.join(compiler)} did not make a library of them: {_told(error)}")


def _unfit() -> str | None:
    """Why they are not even tried here."""
    if os.environ.get("LOGITMILL_NATIVE") == "0":
        return "LOGITMILL_NATIVE=0 turns them off"
    if sys.platform == "win32":
        return "they are not for Windows"
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return "they are written for AVX-512, which this processor does not have"
    return None


def _compiler() -> tuple[str, ...] | None:
    """The compiler's words: CXX may have several of them."""
    named = os.environ.get("CXX")
    for words in [tuple(shlex.split(named))] if named else [(name,) for name in COMPILERS]:
        if words and (path := shutil.which(words[0])) is not None:
            return path, *words[1:]
    return None


def _folder() -> Path | None:
    """Where libraries are kept; None for somebody without a home."""
    try:
        return cache_folder() / "native"
    except RuntimeError:
        return None


def _kept(compiler: Sequence[str], told: Callable[[float], None]) -> Native:
    """The library of the cache folder, made where it is not there, or where what is there is not to be loaded."""
    folder, name = _folder(), _name(compiler)
    if folder is not None and (made := _loaded(folder / name)) is not None:
        return Native(made, str(folder / name), kept=True)
    with tempfile.TemporaryDirectory(prefix="logitmill-") as room:
        new = Path(room) / name
        _compile(compiler, new, told)
        with suppress(OSError):  # a cache that cannot be written, or that nothing may be run from
            if folder is not None:
                _keep(new, folder / name)
                return Native(ctypes.CDLL(str(folder / name)), str(folder / name), kept=True)
        return Native(ctypes.CDLL(str(new)), "for this process alone: the cache folder cannot be used")


def _loaded(place: Path) -> ctypes.CDLL | None:
    """The library at ``place``, if it is whole, and nobody else could have put it there."""
    try:
        stat, data = place.stat(), place.read_bytes()
        own = stat.st_uid in (0, os.getuid()) and not stat.st_mode & 0o022
        whole = hashlib.sha256(data[:-DIGEST]).digest() == data[-DIGEST:]
        return ctypes.CDLL(str(place)) if own and whole else None
    except OSError:
        return None


def _keep(made: Path, place: Path) -> None:
    """A copy of ``made`` with its digest at ``place``: whole or not at all, also where two processes do it at once."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = made.read_bytes()
    handle, part = tempfile.mkstemp(dir=place.parent, prefix=place.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data + hashlib.sha256(data).digest())
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(place)
    except OSError:
        Path(part).unlink()
        raise


def _compile(compiler: Sequence[str], made: Path, told: Callable[[float], None]) -> None:
    """Each source by itself, all at once, and the library of them. Raises what the last way of THREADED raises."""
    for number, threaded in enumerate(THREADED, 1):
        command = [*compiler, *FLAGS, *threaded]
        try:
            _run([*command, "-shared", *_objects(command, made.parent, told), "-o", str(made)])
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
    subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=True
    )  # fmt: skip


def _name(compiler: Sequence[str]) -> str:
    """A file's name that differs where another library would be made."""
    stat = Path(compiler[0]).resolve().stat()
    facts = [str((FLAGS, THREADED)), *compiler, str((stat.st_size, stat.st_mtime_ns)), platform.machine(), _processor()]
    files = [file.read_bytes() for file in sorted((*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")))]
    return hashlib.sha256(b"\0".join([*map(str.encode, facts), *files])).hexdigest()[:20] + ".so"


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


__all__ = ["Native", "found", "function", "has_threads", "is_to_be_compiled", "library", "threads"]
