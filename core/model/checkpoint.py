"""What a checkpoint folder says about itself before any weight is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import ModelError

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1, "U64": 8, "U32": 4, "U16": 2}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor: its shape and its size in bytes, 0 where the dtype is unknown."""

    shape: tuple[int, ...]
    nbytes: int


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder. Raises ModelError where it cannot be read."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON ({error}): fetch the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{file} holds a {type(config).__name__}, not an object: fetch the model again")
    return config


def check_causal(config: Mapping[str, Any], name: str, trust_remote_code: bool) -> None:
    """Raise ModelError unless ``config`` is of a causal language model that may be loaded here."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING and config.get("auto_map"):
        if not trust_remote_code:
            raise ModelError(
                f"{name} is of type {kind!r}, which needs Python code from its own repository: "
                "read that code, then pass trust_remote_code=True"
            )
        if "AutoModelForCausalLM" not in config["auto_map"]:
            raise ModelError(f"{name} is no causal language model: its own code offers {', '.join(config['auto_map'])}")
        return
    if kind not in CONFIG_MAPPING:
        import transformers

        raise ModelError(
            f"{name} is of type {kind!r}, which transformers {transformers.__version__} does not know: "
            "upgrade transformers, or check config.json"
        )
    causal = {cls for value in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for cls in _names(value)}
    classes = [str(cls) for cls in config.get("architectures") or ()]
    fits = any(cls in causal for cls in classes) if classes else kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if fits and not (config.get("is_encoder_decoder") and not classes):
        return
    what = classes[0] if classes else f"a {kind} model"
    if config.get("is_encoder_decoder"):
        why = "an encoder-decoder"
    elif what.endswith("Model"):
        why = "a model without a language head"
    else:
        why = "made for another task"
    raise ModelError(
        f"{name} is no causal language model: {what} is {why}. "
        "Give a model whose class ends in ForCausalLM or LMHeadModel"
    )


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def weight_files(folder: Path, allow_pickle: bool) -> list[Path]:
    """The weight files transformers would read from ``folder``, all shards of the index; [] where one is missing."""
    for index, single in (
        ("model.safetensors.index.json", "model.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin"),
    )[: 2 if allow_pickle else 1]:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            shards = sorted(set(json.loads((folder / index).read_text("utf-8"))["weight_map"].values()))
            files = [folder / shard for shard in shards]
            return files if all(file.is_file() for file in files) else []
    return []


def read_tensors(file: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, from its header. Raises ModelError for a broken or truncated file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > size - 8:
            raise ModelError(f"{file} is truncated or no safetensors file ({size:,} bytes): fetch it again")
        try:
            header = json.loads(stream.read(length))
            entries = {key: value for key, value in header.items() if key != "__metadata__"}
            end = max((value["data_offsets"][1] for value in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} is no safetensors file: its header cannot be read. Fetch it again") from error
    if size < 8 + length + end:
        raise ModelError(f"{file} is truncated: {size:,} bytes of {8 + length + end:,}. Fetch it again")
    return {
        key: TensorInfo(tuple(value["shape"]), prod(value["shape"]) * BYTES.get(value["dtype"], 0))
        for key, value in entries.items()
    }
