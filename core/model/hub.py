"""Files of the Hugging Face hub, brought into its cache. Only what is needed, and only after a look at config.json."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .checkpoint import check_causal, weight_files
from .quantize import check_memory, free_bytes
from .quiet import first_line
from .spec import ModelSpec

TEXTS = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.md"]
TIMEOUT = 20.0
LEAST_BYTES = {None: 2.0, "nf4": 0.5, "fp4": 0.5, "int8": 1.0}
"""Bytes a weight takes at the very least: what cannot fit even so is not downloaded."""
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
    "*.tiktoken",
)


class HubUnreachableError(ModelError):
    """The hub did not answer, and the cache has not got the model."""


def hub_folder(name: str, spec: ModelSpec) -> Path:
    """The snapshot of hub model ``name``, complete. Raises ModelError, or HubUnreachableError where nothing answers."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        kept = try_to_load_from_cache(name, "config.json", revision=spec.revision)
    except HFValidationError as error:
        raise ModelError(
            f"no model {name!r}: it is no folder here and no hub id (owner/name) either; "
            "give a hub id, a folder, or a .gguf file"
        ) from error
    cached = Path(kept).parent if isinstance(kept, str) else None
    if cached is not None and _complete(cached, spec):
        return cached
    info = _ask(name, spec.revision, incomplete=cached is not None)
    files = [str(entry.rfilename) for entry in info.siblings or ()]
    if "config.json" not in files:
        ggufs = [file for file in files if file.endswith(".gguf")]
        raise ModelError(
            f"{name} on the hub has no config.json: "
            + (
                f"it holds GGUF files; name one, as in {name}/{ggufs[0]}"
                if ggufs
                else "it is no model in transformers' form"
            )
        )
    config = json.loads(hub_file(name, "config.json", spec.revision).read_text("utf-8"))
    check_causal(config, name, spec.trust_remote_code)
    patterns = list(TEXTS)
    if any(file.endswith(".safetensors") for file in files):
        patterns += [file for file in files if file.endswith(".safetensors") and "/" not in file]
    elif spec.allow_pickle:
        patterns += ["pytorch_model*.bin"]
    else:
        raise pickle_error(name)
    count = getattr(info.safetensors, "total", None) or 0
    check_memory(name, int(count * LEAST_BYTES[spec.quantize]), _room(), "cpu")
    if spec.trust_remote_code:
        patterns += ["*.py"]
    return Path(_brought(name, lambda: snapshot_download(name, revision=spec.revision, allow_patterns=patterns)))


def _complete(folder: Path, spec: ModelSpec) -> bool:
    """Whether a cached snapshot has all that loading needs."""
    has_tokenizer = any(next(folder.glob(pattern), None) for pattern in TOKENIZERS)
    return (folder / "config.json").is_file() and has_tokenizer and bool(weight_files(folder, spec.allow_pickle))


def _room() -> int:
    """All memory a model could be put into: the CPU's and every GPU's."""
    import torch

    return free_bytes("cpu") + (free_bytes("cuda") if torch.cuda.is_available() else 0)


def hub_file(name: str, file: str, revision: str | None) -> Path:
    """One file of hub repository ``name``: from the cache, else downloaded. Raises ModelError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        info = _ask(name, revision, incomplete=False)
    if file not in [entry.rfilename for entry in info.siblings or ()]:
        raise ModelError(f"{name} on the hub has no file {file}")
    return Path(_brought(name, lambda: hf_hub_download(name, file, revision=revision)))


def pickle_error(name: str) -> ModelError:
    """The refusal of weights that run code when they are read."""
    return ModelError(
        f"{name} has its weights as pickles only (pytorch_model.bin), and reading a pickle can run any code: "
        "use a repository with safetensors, or pass allow_pickle=True if you trust its author"
    )


def _ask(name: str, revision: str | None, *, incomplete: bool) -> Any:
    """What the hub says about a repository; one request, so that a missing network is known at once."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return HfApi().model_info(name, revision=revision, timeout=TIMEOUT)
    except GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: accept its terms on https://huggingface.co/{name} and log in (hf auth login or HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"no model {name!r}: neither a folder here nor a public model on the hub "
            "(a private one needs hf auth login or HF_TOKEN)"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name} on the hub has no revision {revision!r}: give a branch, a tag or a commit of it"
        ) from error
    except HfHubHTTPError as error:
        raise HubUnreachableError(
            f"the hub answered with an error about {name}: {first_line(error)}; try again later"
        ) from error
    except Exception as error:  # the transport's errors share no base but Exception
        state = "its copy in the hub cache is incomplete" if incomplete else "the hub cache has no copy of it"
        raise HubUnreachableError(
            f"no network: {name} could not be asked for on the hub ({first_line(error)}), and {state}; "
            "connect, set HF_HOME to a cache that has it, or give a folder or a .gguf file"
        ) from error


def _brought(name: str, download: Any) -> str:
    """The path a download gives, its failures as ModelError."""
    try:
        return str(download())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(
                f"the disk is full: {name} cannot be downloaded. Free some, or set HF_HOME to another disk"
            ) from error
        raise HubUnreachableError(
            f"downloading {name} broke off: {first_line(error)}; start again to go on from there"
        ) from error
