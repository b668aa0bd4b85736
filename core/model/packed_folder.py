"""A packed model kept on disk, so that the next start reads what this one made: no weight is converted twice.

The folder holds the tensors as the kernels take them, in torch's layout for this processor (both are in its name), and
how they lie in the model. A model is built from its configuration without memory, then given those tensors, buffers
that no checkpoint has included; it takes tens of milliseconds. What was written is read back and run at once, and
thrown away unless it gives the very same logits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from ..errors import ModelError
from .convert import DONE, being_made
from .pack import put
from .packed import Int4Linear, Int8Linear, PackedLinear, Slice, StandIn

VERSION = 2
"""Goes into the folder's name: raised when what lies in it changes."""
TENSORS, PLAN = "packed.safetensors", "packed.json"


def packed_name(quantize: str, dtype: torch.dtype) -> str:
    """The folder's name, which says all that its content depends on besides the model."""
    name = str(dtype).removeprefix("torch.")
    return f"{quantize}-{name}-v{VERSION}-{torch.backends.cpu.get_cpu_capability()}-torch{torch.__version__}"


def load_packed(source: Path, folder: Path, dtype: torch.dtype) -> PreTrainedModel | None:
    """The model of ``source`` (a checkpoint folder) with the tensors of ``folder``; None where that was not
    finished.
    """
    from safetensors.torch import load_file

    if not (folder / DONE).is_file():
        return None
    try:
        plan: list[dict[str, Any]] = json.loads((folder / PLAN).read_text("utf-8"))
        tensors = {name: _loose(tensor) for name, tensor in load_file(str(folder / TENSORS)).items()}
    except (OSError, ValueError, SafetensorError):  # damaged since: it is made anew
        (folder / DONE).unlink(missing_ok=True)
        return None
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(source)), dtype=dtype)
    for entry in plan:
        put(model.get_submodule(entry["block"]), entry["names"], entry["ranges"], _layer(entry, tensors))
    for name, tensor in tensors.items():
        if not name.startswith("packed."):
            _place(model, name, tensor)
    model.generation_config = GenerationConfig.from_pretrained(str(source))
    model.eval()
    return model


def save_packed(model: PreTrainedModel, source: Path, folder: Path, dtype: torch.dtype) -> str | None:
    """Keep ``model``. Returns what a person should know where that could not be done."""
    from safetensors.torch import save_file

    plan, tensors = _described(model)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    try:
        with being_made(folder, size) as partial:
            save_file(tensors, partial / TENSORS)
            (partial / PLAN).write_text(json.dumps(plan), "utf-8")
            (partial / DONE).write_text(json.dumps({"version": VERSION}), "utf-8")
            if not _same(model, load_packed(source, partial, dtype)):
                raise ModelError("they did not read back the same")
    except ModelError as error:
        return f"the packed weights are not kept for the next start: {error}"
    return None


def _described(model: PreTrainedModel) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """(how the packed layers lie in the model, every tensor by its name)."""
    plan: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    parts: dict[int, tuple[dict[str, Any], PackedLinear]] = {}  # by the layer that they are of
    for path, block in model.named_modules():
        for name, child in block.named_children():
            part = getattr(child, "part_of", None)
            whole = part.whole if isinstance(part, Slice) else child
            if not isinstance(whole, PackedLinear):
                continue
            if id(whole) not in parts:
                entry: dict[str, Any] = {"block": path, "names": [], "ranges": [], "key": f"packed.{len(plan)}"}
                entry["kind"] = type(whole).__name__
                entry["repeats"], entry["outputs"] = getattr(whole, "repeats", 1), whole.out_features
                plan.append(entry)
                tensors |= {f"{entry['key']}.{key}": tensor.contiguous() for key, tensor in whole.named_buffers()}
                parts[id(whole)] = entry, whole
            entry, _ = parts[id(whole)]
            entry["names"].append(name)
            entry["ranges"].append([part.start, part.stop] if isinstance(part, Slice) else [0, whole.out_features])
    packed = {id(module) for module in model.modules() if isinstance(module, StandIn)}
    for path, module in model.named_modules(remove_duplicate=False):
        if id(module) in packed:
            continue
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        tensors |= {f"{path}.{name}".lstrip("."): tensor.detach().contiguous().clone() for name, tensor in own}
    return plan, tensors


def _layer(entry: dict[str, Any], tensors: dict[str, Tensor]) -> PackedLinear:
    own = {key: tensors.get(f"{entry['key']}.{key}") for key in ("packed", "scales", "values", "scale", "bias")}
    if entry["kind"] == "Int4Linear":
        packed, scales = own["packed"], own["scales"]
        assert packed is not None
        assert scales is not None
        return Int4Linear(packed, scales, own["bias"], repeats=entry["repeats"], out_features=entry["outputs"])
    values, scale = own["values"], own["scale"]
    assert values is not None
    assert scale is not None
    return Int8Linear(values, scale, own["bias"])


def _loose(tensor: Tensor) -> Tensor:
    """A tensor of the file that keeps no more of it mapped than itself, and that only while its data lie there.

    What is small is copied: a vector of a few kilobytes would keep the whole file. safetensors gives views, and a view
    keeps what it is of, other data put in it or not; ``detach`` is the same memory and no view.
    """
    return tensor.clone() if tensor.dim() < 2 else tensor.detach()


def _place(model: nn.Module, name: str, tensor: Tensor) -> None:
    """``tensor`` as the parameter or buffer of that name."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    if last in module._parameters:
        module._parameters[last] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[last] = tensor


def _same(model: PreTrainedModel, read: PreTrainedModel | None) -> bool:
    """Whether both give the same logits of a few tokens, bit for bit."""
    if read is None or any(tensor.is_meta for tensor in (*read.parameters(), *read.buffers())):
        return False
    size = int(model.config.get_text_config(decoder=True).vocab_size)
    ids = torch.arange(8)[None] % size
    with torch.no_grad():
        return torch.equal(model(input_ids=ids).logits, read(input_ids=ids).logits)
