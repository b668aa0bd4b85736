"""Compiling the kernels of a CPU: once, whole or not at all, and a reason where there are none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from logitmill.core.kernels import native

here = pytest.mark.skipif(native.library() is None, reason=f"no kernels here: {native.found().note}")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder with nothing in it, and no memory of what was found."""
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOGITMILL_NATIVE", raising=False)
    monkeypatch.setattr(native, "_found", None)
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Sources that compile in no time."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "small.cpp").write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(native, "FOLDER", folder)
    monkeypatch.setattr(native, "SOURCES", ("small.cpp",))
    return folder


def test_it_can_be_turned_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITMILL_NATIVE", "0")
    assert native.found() == native.Native(None, "LOGITMILL_NATIVE=0 turns them off")
    assert not cache.exists()


def test_another_processor(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert native.library() is None
    assert "AVX-512" in native.found().note


@here
def test_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert native.library() is None
    assert "no C++ compiler" in native.found().note


@here
def test_a_compiler_that_fails_says_why(cache: Path, quick: Path) -> None:
    (quick / "small.cpp").write_text("this is no C++\n")
    assert native.library() is None
    note = native.found().note
    assert "did not make a library" in note
    assert "small.cpp:1" in note
    assert not list(cache.rglob("*.so*"))


@here
def test_a_compiler_that_is_none(cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    assert native.library() is None
    assert "false" in native.found().note


@here
def test_how_far_it_is_can_be_told(cache: Path, quick: Path) -> None:
    told: list[float] = []
    assert native.is_to_be_compiled()
    native.found(told.append)
    assert told == [1.0]
    assert not native.is_to_be_compiled()


@here
def test_it_is_compiled_once(cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.found()
    assert first.library is not None
    assert first.library.answer() == 42
    assert [file.name for file in (cache / "native").iterdir()] == [Path(first.note).name]
    assert not native.is_to_be_compiled()
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    monkeypatch.setattr(native, "_found", None)
    assert native.found().note == first.note


@here
def test_other_sources_are_another_library(cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.found()
    (quick / "small.cpp").write_text('extern "C" int answer() { return 43; }\n')
    monkeypatch.setattr(native, "_found", None)
    second = native.found()
    assert second.library is not None
    assert second.library.answer() == 43
    assert second.note != first.note


@here
@pytest.mark.parametrize("how", ["cut", "zeros"])
def test_what_is_not_whole_is_made_again(cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    place = Path(native.found().note)
    name = place.with_name("aside.so")
    place.rename(name)  # the library that is loaded stays as it is
    whole = name.read_bytes()
    place.write_bytes(whole[: len(whole) // 2] if how == "cut" else whole[:4096] + bytes(len(whole) - 4096))
    monkeypatch.setattr(native, "_found", None)
    found = native.found()
    assert found.library is not None
    assert found.library.answer() == 42


@here
def test_a_cache_that_cannot_be_written(cache: Path, quick: Path) -> None:
    cache.write_text("a file, where a folder should be")
    found = native.found()
    assert found.library is not None
    assert found.library.answer() == 42
    assert not found.kept
    assert "cannot be used" in found.note


@here
def test_somebody_without_a_home(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(native, "cache_folder", homeless)
    monkeypatch.setattr(native, "_found", None)
    assert native.is_to_be_compiled()
    assert native.found().library is not None
    assert not native.found().kept


@here
def test_what_others_may_write_is_not_loaded(cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(native.found().note)
    place.chmod(0o666)
    monkeypatch.setattr(native, "_found", None)
    assert native.found().library is not None
    assert not place.stat().st_mode & 0o022, "made anew"
    assert [file.name for file in place.parent.iterdir()] == [place.name], "no part of one is left"


@here
def test_a_compiler_of_several_words(cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = native._compiler()
    assert compiler is not None
    monkeypatch.setenv("CXX", f"{compiler[0]} -DANSWER=43")
    (quick / "small.cpp").write_text('extern "C" int answer() { return ANSWER; }\n')
    made = native.library()
    assert made is not None
    assert made.answer() == 43


@here
def test_a_compiler_that_is_not_there_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "nosuchcompiler -O2")
    assert "nosuchcompiler" in native.found().note
    assert not native.is_to_be_compiled()


@here
def test_what_a_compiler_says_may_be_in_no_encoding(
    cache: Path, quick: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "odd"
    script.write_text("#!/bin/sh\nprintf 'error: \\377\\n' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert "error: " in native.found().note


@here
def test_threads_are_torchs_own_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.threads() == torch.get_num_threads()
    monkeypatch.setattr(native, "_one_team", lambda made: False)
    assert native.threads() == 1


@here
@pytest.mark.skipif(os.name != "posix", reason="a compiler's warnings are looked at on POSIX alone")
def test_the_sources_have_no_warnings() -> None:
    import subprocess

    compiler = native._compiler()
    assert compiler is not None
    # GCC 12 takes its own intrinsics for uninitialized, and has an opinion on vectors as template arguments
    quiet = ["-Wno-uninitialized", "-Wno-maybe-uninitialized", "-Wno-ignored-attributes", "-Wno-psabi"]
    for name in native.SOURCES:
        command = [*compiler, *native.FLAGS, "-fopenmp", "-Wall", "-Wextra", "-Werror", *quiet, "-fsyntax-only"]
        done = subprocess.run([*command, str(native.FOLDER / name)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
