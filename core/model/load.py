"""Loading a model: found, checked, placed, quantized, quietly. Whatever fails is a ModelError that says what to do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..vocab import Vocab
from .checkpoint import TensorInfo, check_causal, read_config, read_tensors, weight_files
from .convert import DONE, being_made, converted
from .find import Found, find_model
from .hub import pickle_error
from .memory import release
from .quantize import (
    check_memory,
    free_bytes,
    gigabytes,
    needed_bytes,
    own_quantization,
    quantization_config,
    settle_device,
    settle_dtype,
    settle_quantization,
)
from .quiet import first_line, import_libraries, quiet
from .spec import BY_BITSANDBYTES, PACKED_BITS, LoadedModel, ModelSpec, check_spec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")


def load_model(spec: ModelSpec) -> LoadedModel:
    """The model that ``spec`` asks for, ready to run. Raises ModelError."""
    check_spec(spec)
    if spec.device != "auto":
        settle_device(spec)  # before anything is downloaded
    found = find_model(spec)
    import_libraries(bitsandbytes=spec.quantize in BY_BITSANDBYTES)
    device = settle_device(spec)
    folder = converted(found.path, found.name) if found.path.is_file() else found.path
    notes = [*found.notes, *_conversion_notes(folder)]
    config = read_config(folder)
    check_causal(config, found.name, spec.trust_remote_code)
    files = weight_files(folder, spec.allow_pickle)
    if not files:
        raise pickle_error(found.name) if weight_files(folder, True) else _no_weights(folder)
    own = own_quantization(config)
    quantize, note = settle_quantization(spec, own, found.name)
    notes += [note] if note else []
    stored = config.get("dtype") or config.get("torch_dtype") or (config.get("text_config") or {}).get("dtype")
    dtype = settle_dtype(spec, stored, quantize or own, device.partition(":")[0])
    tensors = {
        name: info for file in files if file.suffix == ".safetensors" for name, info in read_tensors(file).items()
    }
    _check_fit(found.name, tensors, spec, quantize, dtype, device, own)
    with quiet() as warnings, _explained(found.name, device):
        tokenizer = _tokenizer(folder, found.name, spec)
        if quantize in PACKED_BITS:
            model = _packed(found, folder, spec, quantize, dtype, notes)
        elif found.path.is_file() and quantize is not None and device == "cpu" and spec.device_map is None:
            model = _from_quantized_cache(folder, spec, quantize, dtype, notes)
        else:
            model = _model(folder, spec, quantize, dtype, device)
            if quantize is None and own is None and spec.repack and device == "cpu":
                from .pack import repack  # it needs the libraries

                repack(model)
                _settle(model, files)
            elif spec.repack and device.startswith("cuda"):
                from .pack import fuse

                fuse(model)
    notes += warnings
    model.requires_grad_(False)
    return _described(found, model, tokenizer, quantize or own, dtype, notes)


def load_vocabulary(spec: ModelSpec) -> Vocab:
    """The tokenizer of a model and the number of its logits, without its weights. Raises ModelError."""
    check_spec(spec)
    found = find_model(spec)
    folder = converted(found.path, found.name) if found.path.is_file() else found.path
    config = read_config(folder)
    with quiet(), _explained(found.name, "cpu"):
        tokenizer = _tokenizer(folder, found.name, spec)
    size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or len(tokenizer)
    return Vocab(int(size), tokenizer)


def _described(
    found: Found,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    quantize: str | None,
    dtype: torch.dtype,
    notes: list[str],
) -> LoadedModel:
    generation = copy.deepcopy(model.generation_config)
    text = model.config.get_text_config()
    embeddings: Any = model.get_input_embeddings()
    eos = next(
        (
            ids
            for ids in (generation.eos_token_id, text.eos_token_id, tokenizer.eos_token_id)
            if ids is not None and ids != []
        ),
        (),
    )
    vocab_size = int(text.vocab_size)
    if len(tokenizer) > vocab_size:
        notes.append(
            f"the tokenizer has {len(tokenizer):,} tokens and the model {vocab_size:,}: the rest cannot be used"
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=found.name,
        source=found.source,
        quantize=quantize,
        dtype=dtype,
        device=embeddings.weight.device,
        has_chat_template=bool(tokenizer.chat_template),
        eos_ids=(int(eos),) if isinstance(eos, int) else tuple(int(i) for i in eos),
        context_length=next(
            (int(v) for key in CONTEXT_KEYS if isinstance(v := getattr(text, key, None), int) and v > 0), None
        ),
        vocab_size=vocab_size,
        generation_config=generation,
        notes=tuple(dict.fromkeys(notes)),
    )


def _model(folder: Path, spec: ModelSpec, quantize: str | None, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The model of a checkpoint folder, in eval mode."""
    from transformers import AutoModelForCausalLM

    placement: Any = spec.device_map
    if placement is None:
        placement = "auto" if spec.device == "auto" and device == "cuda" else {"": device}
    config = quantization_config(spec, quantize, dtype)
    # given as None it would hide the quantization that a checkpoint states for itself
    options = {} if config is None else {"quantization_config": config}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(folder),
        dtype=dtype,
        device_map=placement,
        max_memory=None if spec.max_memory is None else dict(spec.max_memory),
        trust_remote_code=spec.trust_remote_code,
        use_safetensors=None if spec.allow_pickle else True,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ModelError(
            f"the checkpoint {folder} lacks {len(missing)} weights ({shown}), which would be random: fetch it again"
        )
    ready: PreTrainedModel = model.eval()
    return ready


def _from_quantized_cache(
    folder: Path, spec: ModelSpec, quantize: str, dtype: torch.dtype, notes: list[str]
) -> PreTrainedModel:
    """A converted GGUF quantized on the CPU: quantizing takes longer than reading, so the result is kept beside it."""
    import bitsandbytes

    options = {
        "nf4": "-double" * spec.double_quant,
        "fp4": "-double" * spec.double_quant,
        "int8": f"-{spec.int8_threshold:g}",
    }[quantize]
    name = str(dtype).removeprefix("torch.")
    kept = folder / f"{quantize}{options}-{name}-bnb{bitsandbytes.__version__}"
    if (kept / DONE).is_file():
        return _model(kept, spec, None, dtype, "cpu")
    model = _model(folder, spec, quantize, dtype, "cpu")
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    try:
        with being_made(kept, size) as partial:
            model.save_pretrained(partial)
            (partial / DONE).write_text(json.dumps({"quantize": quantize}), "utf-8")
    except ModelError as error:
        notes.append(f"the quantized weights are not kept for the next start: {error}")
    return model


def _packed(
    found: Found, folder: Path, spec: ModelSpec, quantize: str, dtype: torch.dtype, notes: list[str]
) -> PreTrainedModel:
    """A model quantized for torch's own kernels. A GGUF file keeps its values, and what is made of it is kept."""
    from . import pack
    from .gguf import read_gguf
    from .gguf_values import GgufValues
    from .packed_folder import load_packed, packed_name, save_packed

    files = weight_files(folder, spec.allow_pickle)
    if not found.path.is_file():
        model = _model(folder, spec, None, dtype, "cpu")
        notes += pack.quantize(model, PACKED_BITS[quantize])
        _settle(model, files)
        return model
    kept = folder / packed_name(quantize, dtype)
    ready = load_packed(folder, kept, dtype)
    if ready is not None:
        _settle(ready, list(kept.iterdir()))
        return ready
    model = _model(folder, spec, None, dtype, "cpu")
    values = GgufValues(found.path, read_gguf(found.path))
    embedding = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
    notes += pack.quantize(model, PACKED_BITS[quantize], lambda name: values.of_layer(folder, name, embedding))
    problem = save_packed(model, folder, kept, dtype)
    _settle(model, files)
    notes += [problem] if problem else []
    return model


def _settle(model: PreTrainedModel, files: Sequence[Path]) -> None:
    """Packed weights into huge pages, and ``files`` that little is left in let go."""
    from .pages import settle

    release(model, sum(file.stat().st_size for file in files), settle(model))


def _tokenizer(folder: Path, name: str, spec: ModelSpec) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=spec.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(
            f"{name} has no tokenizer that can be read: {first_line(error)}. "
            f"It needs tokenizer.json, or its vocabulary files, in {folder}"
        ) from error
    return tokenizer


def _check_fit(
    name: str,
    tensors: dict[str, TensorInfo],
    spec: ModelSpec,
    quantize: str | None,
    dtype: torch.dtype,
    device: str,
    own: str | None,
) -> None:
    """Raise ModelError where the weights cannot fit, before they are read. Offloading counts the CPU's memory, too."""
    needed = needed_bytes(tensors, quantize, dtype.itemsize, as_stored=own is not None)
    free = free_bytes(device)
    if spec.device_map is not None or spec.max_memory is not None:
        return
    if spec.device == "auto" and device == "cuda" and quantize is None:
        free += free_bytes("cpu")
    smaller = None if own is not None else needed_bytes(tensors, "nf4", dtype.itemsize)
    check_memory(name, needed, free, device, smaller)


@contextmanager
def _explained(name: str, device: str) -> Iterator[None]:
    """Errors of the libraries as ModelError."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(_no_room(name, device)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise ModelError(_no_room(name, device)) from error
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"{name}: config.json and the weights do not belong together (shapes differ). Fetch both again"
            ) from error
        raise ModelError(f"{name} cannot be loaded: {first_line(error)}") from error
    except ModelError:
        raise
    except Exception as error:  # config.json and the weights are anyone's: what is wrong with them may raise anything
        raise ModelError(f"{name} cannot be loaded: {first_line(error)}") from error


def _no_room(name: str, device: str) -> str:
    where = "GPU memory" if device.startswith("cuda") else "memory"
    return (
        f"out of memory while loading {name}: {gigabytes(free_bytes(device))} of {where} are free now. "
        "Use a smaller model, quantize='nf4', or free memory"
    )


def _no_weights(folder: Path) -> ModelError:
    return ModelError(
        f"{folder} holds no complete set of weights (model.safetensors, or all shards of its index): "
        "fetch the model again"
    )


def _conversion_notes(folder: Path) -> list[str]:
    file = folder / DONE
    return [str(line) for line in json.loads(file.read_text("utf-8"))["notes"]] if file.is_file() else []
