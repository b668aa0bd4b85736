"""Which dtype, which quantization, how much memory: decided before a weight is read."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .checkpoint import TensorInfo
from .spec import PACKED_BITS, ModelSpec, dtype_name

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

BLOCK = 64
"""Weights that share one scale in nf4 and fp4 (bitsandbytes' default)."""
GROUP = 32
"""Weights that share one scale and one zero in int4."""
UNQUANTIZED = ("embed", "lm_head", "wte", "wpe", "norm", "output_layer")
"""Parts of names whose matrices keep their dtype."""


def own_quantization(config: Mapping[str, Any]) -> str | None:
    """What a checkpoint was quantized with when saved: "nf4", "fp4", "int8", another method's name, or None."""
    inner = config.get("text_config") or {}
    kept = config.get("quantization_config") or inner.get("quantization_config")
    if not kept:
        return None
    if kept.get("quant_method", "bitsandbytes") != "bitsandbytes":
        return str(kept["quant_method"])
    if kept.get("load_in_8bit"):
        return "int8"
    return str(kept.get("bnb_4bit_quant_type", "fp4"))


def settle_quantization(spec: ModelSpec, own: str | None, name: str) -> tuple[str | None, str | None]:
    """(what to quantize with now, a note). A quantized checkpoint keeps its own; asking it for another is a ModelError.

    "nf4" is what is asked where nobody asks, so it does not conflict.
    """
    if own is None or own == spec.quantize:
        return (None if own else spec.quantize), None
    if spec.quantize in (None, "nf4"):
        return None, f"{name} comes quantized ({own}) and stays so"
    raise ModelError(
        f"{name} is already quantized ({own}) and cannot be quantized to {spec.quantize} on top: "
        f"leave quantize out, or load the unquantized model"
    )


def settle_dtype(spec: ModelSpec, stored: str | None, quantize: str | None, device: str) -> torch.dtype:
    """The dtype to compute in. "auto": bfloat16 for a quantized model where the hardware has it, else ``stored``.

    Without such hardware a quantized model runs in float32 on a CPU and float16 on a GPU, but for int4 and int8-packed:
    their kernels take bfloat16 on any CPU. ``stored`` is the checkpoint's own dtype, None where it does not say.
    """
    import torch

    asked = dtype_name(spec.dtype)
    if asked != "auto":
        return _torch_dtype(asked)
    if quantize is None:
        return _torch_dtype(stored) if stored else torch.float32
    if device == "cpu":
        return torch.bfloat16 if quantize in PACKED_BITS or cpu_has_bfloat16() else torch.float32
    if device == "mps":
        return torch.float16
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _torch_dtype(name: str) -> torch.dtype:
    import torch

    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name.removeprefix("torch."), torch.float32)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; where it does not, float32 is faster."""
    import torch

    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cpu_imitates_bfloat16() -> bool:
    """Whether it is a processor of Intel's kind that takes several instructions for each product of bfloat16."""
    return platform.machine().lower() in ("x86_64", "amd64") and not cpu_has_bfloat16()


def settle_device(spec: ModelSpec) -> str:
    """The kind of device to load on: "cpu", "cuda", "cuda:1" or "mps". Raises ModelError for one that is not here."""
    import torch

    asked = str(spec.device)
    kind = asked.partition(":")[0]
    if spec.quantize in PACKED_BITS and (kind not in ("auto", "cpu") or spec.device_map is not None):
        what = f"device={asked!r}" if spec.device_map is None else "a device_map"
        raise ModelError(
            f"quantize={spec.quantize!r} is for kernels of a CPU, and {what} was asked for: "
            "use device='cpu', or quantize='nf4'"
        )
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() and spec.quantize not in PACKED_BITS else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        built = "this torch was built without CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
        raise ModelError(
            f"device={asked!r} was asked for, and there is no GPU to use: {built}. Use device='cpu' or 'auto'"
        )
    if kind == "cuda" and ":" in asked and int(asked.partition(":")[2]) >= torch.cuda.device_count():
        raise ModelError(
            f"device={asked!r} was asked for, and there are {torch.cuda.device_count()} GPUs, numbered from 0"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device='mps' was asked for, and there is no Apple GPU here: use device='cpu' or 'auto'")
    return asked


def quantization_config(spec: ModelSpec, quantize: str | None, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """``quantize`` as transformers takes it. The output head and the embeddings stay as they are (its default)."""
    from transformers import BitsAndBytesConfig

    if quantize is None:
        return None
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=spec.int8_threshold)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantize,
        bnb_4bit_use_double_quant=spec.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def needed_bytes(
    tensors: Mapping[str, TensorInfo], quantize: str | None, itemsize: int, *, as_stored: bool = False
) -> int:
    """Bytes the weights take once loaded, with the largest tensor once more in float32 for the way there."""
    total = largest = 0
    for name, tensor in tensors.items():
        count = prod(tensor.shape)
        largest = max(largest, 4 * count)
        if as_stored:
            total += tensor.nbytes
        elif quantize is None or len(tensor.shape) != 2 or any(part in name for part in UNQUANTIZED):
            total += count * itemsize
        else:
            total += count // 2 + 4 * count // BLOCK if quantize in ("nf4", "fp4") else 0
            total += count // 2 + 4 * count // GROUP if quantize == "int4" else 0
            total += count + 4 * tensor.shape[0] if quantize in ("int8", "int8-packed") else 0
    return total + largest


def free_bytes(device: str) -> int:
    """Memory that loading may use: free RAM within the container's limit, or the free memory of the GPUs asked for."""
    import torch

    if device.startswith("cuda"):
        indices = [int(device.partition(":")[2])] if ":" in device else range(torch.cuda.device_count())
        return sum(int(torch.cuda.mem_get_info(index)[0]) for index in indices)
    import psutil

    free = int(psutil.virtual_memory().available)
    limit = _cgroup("memory.max", "memory/memory.limit_in_bytes")
    used = _cgroup("memory.current", "memory/memory.usage_in_bytes")
    if limit is None or used is None:
        return free
    return max(0, min(free, limit - used + _page_cache()))


def _cgroup(*files: str) -> int | None:
    """The number in the first of ``files`` that is there (cgroups version 2, then 1), None for no limit."""
    for file in files:
        try:
            text = Path("/sys/fs/cgroup", file).read_text("ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def _page_cache() -> int:
    """Bytes of files that this container's use counts and that give way when memory is asked for."""
    for file in ("memory.stat", "memory/memory.stat"):
        try:
            lines = Path("/sys/fs/cgroup", file).read_text("ascii").splitlines()
        except OSError:
            continue
        fields = dict(line.split()[:2] for line in lines)
        return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
    return 0


def check_memory(name: str, needed: int, free: int, device: str, smaller: int | None = None) -> None:
    """Raise ModelError with the figures where ``needed`` bytes exceed ``free``. ``smaller``: bytes taken in nf4."""
    if needed <= free:
        return
    where = "GPU memory" if device.startswith("cuda") else "memory"
    hint = f"quantize='nf4' would take about {gigabytes(smaller)}" if smaller is not None and smaller < needed else ""
    hint = hint or "use a smaller model, or free memory"
    raise ModelError(
        f"out of memory: {name} needs about {gigabytes(needed)} of {where}, and {gigabytes(free)} are free: {hint}"
    )


def gigabytes(count: int) -> str:
    """A size for people: "1.4 GB", "135 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
