"""What to load, and what loading gives. Importing this imports neither torch nor transformers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

QUANTIZATIONS = ("nf4", "fp4", "int8", "int4", "int8-packed")
BY_BITSANDBYTES = ("nf4", "fp4", "int8")
PACKED_BITS = {"int4": 4, "int8-packed": 8}
"""Those of torch's own weight-only kernels, which run on a CPU."""
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps")

DTYPE_ALIASES = {
    "fp32": "float32",
    "f32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as it was asked for.

    ``model``: a hub id ("owner/name"), a folder, a .gguf file, a .gguf file on the hub ("owner/name/file.gguf"), or
    None for the default model. ``quantize``: None; "nf4", "fp4" or "int8", done by bitsandbytes; "int4" (groups of 32,
    the output head in 8 bits) or "int8-packed", for torch's own kernels on a CPU. A GGUF file whose tensors are Q4_0,
    Q4_1 or Q8_0 keeps their values in "int4". ``double_quant`` quantizes the scales of nf4 and fp4 as well. ``device``:
    "auto", "cpu", "cuda", "cuda:1", "mps". ``dtype``: "auto", "float32", "bfloat16", "float16" or a torch dtype; it is
    what the quantized layers compute in, too. ``int8_threshold`` is LLM.int8's outlier threshold (arXiv 2208.07339):
    above 0 a row's outliers decide which columns of the whole batch are computed in 16 bits, so 0 is what rows
    independent of their neighbours need. ``device_map`` and ``max_memory`` go to accelerate as they are. ``repack``:
    whether layers that are not quantized are laid out anew for this processor.
    """

    model: str | Path | None = None
    quantize: str | None = "nf4"
    double_quant: bool = False
    int8_threshold: float = 6.0
    device: str = "auto"
    dtype: str | torch.dtype = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device_map: Mapping[str, Any] | str | None = None
    max_memory: Mapping[Any, Any] | None = None
    repack: bool = False


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run: in eval mode, without gradients.

    ``name`` is what to call it, ``source`` where it came from in words. ``quantize`` is what its linear layers hold:
    None, "nf4", "fp4", "int8", "int4", "int8-packed", or the method of a checkpoint that came quantized ("gptq", ...).
    ``dtype`` is what it computes in. ``device`` is where token ids go. ``eos_ids`` are those that end its generation,
    as transformers' ``generate`` would; ``context_length`` is in tokens, None where the model states none;
    ``vocab_size`` is the number of logit columns, which may exceed the tokenizer's. ``generation_config`` is as the
    checkpoint ships it. ``notes`` are lines a person should see.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    quantize: str | None
    dtype: torch.dtype
    device: torch.device
    has_chat_template: bool
    eos_ids: tuple[int, ...]
    context_length: int | None
    vocab_size: int
    generation_config: GenerationConfig
    notes: tuple[str, ...] = field(default=())


def choose(what: str, given: object, known: tuple[str, ...], extra: str = "") -> ModelError:
    """The error for a name that is not one of a few, with the nearest one."""
    near = difflib.get_close_matches(str(given).lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ModelError(f"unknown {what} {given!r}: {hint}choose from {', '.join(map(repr, known))}{extra}")


def check_spec(spec: ModelSpec) -> None:
    """Raise ModelError for a spec that no model could satisfy. Looks at nothing but the spec."""
    if spec.quantize is not None and spec.quantize not in QUANTIZATIONS:
        raise choose("quantization", spec.quantize, QUANTIZATIONS, ", or None for no quantization")
    if spec.double_quant and spec.quantize not in ("nf4", "fp4"):
        raise ModelError(
            f"double_quant quantizes the scales of nf4 and fp4, and quantize={spec.quantize!r} was asked for: "
            "choose quantize='nf4' or leave double_quant out"
        )
    if not spec.int8_threshold >= 0:
        raise ModelError(f"int8_threshold is {spec.int8_threshold!r}; it must be 0 or more (0: no outlier columns)")
    dtype_name(spec.dtype)
    kind, colon, index = str(spec.device).partition(":")
    if spec.device != "auto" and (kind not in DEVICES or bool(colon) != index.isdigit() or (colon and kind != "cuda")):
        raise choose("device", spec.device, ("auto", *DEVICES), ", or one GPU as 'cuda:1'")
    if spec.device_map is not None and spec.device != "auto":
        raise ModelError(
            f"device={spec.device!r} and device_map were both given: one of them places the model, leave out the other"
        )


def dtype_name(dtype: object) -> str:
    """'auto', or the plain name of a dtype given as a name or as a torch dtype. Raises ModelError for any other."""
    name = str(dtype).removeprefix("torch.").lower()
    name = DTYPE_ALIASES.get(name, name)
    if name not in ("auto", *DTYPES):
        raise choose("dtype", dtype, ("auto", *DTYPES))
    return name


def require_chat_template(loaded: LoadedModel) -> None:
    """Raise ModelError unless the model's tokenizer can lay out a conversation."""
    if not loaded.has_chat_template:
        raise ModelError(
            f"the tokenizer of {loaded.name} has no chat template, so a conversation cannot be laid out for it: "
            "use an instruction-tuned model, set engine.tokenizer.chat_template, or give plain text (logitmill run)"
        )
