"""A GGUF file turned, once, into a folder that transformers loads in a moment.

The folder lies in logitmill's cache, named by what the file holds. Weights keep their values exactly: each tensor is
stored in the smallest of bfloat16, float16 and float32 that loses nothing. A conversion is made in a folder of its own
and renamed when it is whole, so one that is interrupted leaves nothing behind that looks finished, and two that run at
once end with one of the two.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ..cache import cache_folder
from ..errors import ModelError
from .checkpoint import read_config, read_tensors, weight_files
from .gguf import GgufHeader, read_gguf
from .gguf_tokenizer import check_gguf_tokenizer, gguf_eos_ids, gguf_tokenizer
from .progress import Bar
from .quantize import check_memory, free_bytes, gigabytes
from .quiet import first_line, quiet

if TYPE_CHECKING:
    import torch

VERSION = 1
"""Goes into the key: raised when a conversion's result changes."""
WHOLE = 512 * 2**20
"""Files up to this size are told apart by all their bytes, larger ones by their size, time and samples."""
STALE = 24 * 3600.0
DONE = "converted.json"


def file_key(path: Path) -> str:
    """20 hex digits that differ for different files (and for another VERSION).

    They are noted in the cache for the file at this place, of this size and time: reading all of it takes a while.
    """
    stat = path.stat()
    facts = (
        f"{VERSION} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} {stat.st_dev}"
    )
    note = cache_folder() / "keys" / hashlib.sha256(facts.encode()).hexdigest()
    with suppress(OSError, ValueError):
        kept = note.read_text("ascii")
        if re.fullmatch("[0-9a-f]{20}", kept):
            return kept
    key = _content_key(path, stat)
    with suppress(OSError):  # where the cache cannot be written, the next start reads the file again
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(key, "ascii")
        partial.replace(note)
    return key


def _content_key(path: Path, stat: os.stat_result) -> str:
    digest = hashlib.sha256(f"{VERSION} {stat.st_size}".encode())
    with path.open("rb") as stream:
        if stat.st_size <= WHOLE:
            while block := stream.read(2**22):
                digest.update(block)
        else:
            digest.update(str(stat.st_mtime_ns).encode())
            for index in range(65):
                stream.seek(index * (stat.st_size - 2**20) // 64)
                digest.update(stream.read(2**20))
    return digest.hexdigest()[:20]


def converted(path: Path, name: str) -> Path:
    """The folder that ``path``, a GGUF file, was converted to, converting it first where that has not been done, or
    where what was made has been damaged since.

    Raises ModelError for a broken file, an architecture transformers does not convert, too little memory or disk.
    """
    folder = cache_folder() / "gguf" / f"{path.stem[:40]}-{file_key(path)}"
    if (folder / DONE).is_file():
        if _is_sound(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    header = read_gguf(path)
    check_gguf_tokenizer(path, header)
    needed = 4 * header.parameters
    check_memory(f"converting {path.name}", int(1.3 * needed), free_bytes("cpu"), "cpu")
    with being_made(folder, needed) as partial, Bar(f"converting {name} (once)") as bar:
        _convert(path, header, partial, bar)
    return folder


def _is_sound(folder: Path) -> bool:
    """Whether the configuration and the weights of a folder can be read."""
    try:
        read_config(folder)
        files = weight_files(folder, allow_pickle=False)
        for file in files:
            read_tensors(file)
    except ModelError:
        return False
    return bool(files)


@contextmanager
def being_made(folder: Path, needed: int) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that becomes it when the block ends well, and is gone when it does not.

    ``needed``: bytes it will take, checked first. Where another process was faster, its folder stays and ours goes.
    """
    parent = folder.parent
    partial = parent / f".{folder.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise _full(parent, needed, free)
        partial.mkdir()
        yield partial
        for file in (*partial.iterdir(), partial):
            _sync(file)
        if not (folder / DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)  # not made here, or damaged since
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / DONE).is_file():
                raise
        _sync(parent)
    except SafetensorError as error:  # safetensors reports the system's errors as text
        if "No space left" not in str(error):
            raise
        raise _full(parent, needed, shutil.disk_usage(parent).free) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(parent, needed, shutil.disk_usage(parent).free) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ModelError(
                f"the cache folder {parent} cannot be written ({error.strerror}): set LOGITMILL_CACHE to one that can"
            ) from error
        raise ModelError(
            f"the cache folder {parent} cannot be used ({error}): set LOGITMILL_CACHE to another"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _full(parent: Path, needed: int, free: int) -> ModelError:
    return ModelError(
        f"the disk is full: {parent} needs about {gigabytes(needed)} more and has {gigabytes(free)} free. "
        "Free some, or set LOGITMILL_CACHE to a folder on another disk"
    )


def _sync(path: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(parent: Path) -> None:
    """Remove temporary folders whose process is gone; those of other machines after a day."""
    for path in parent.glob(".*.tmp"):
        _, host, process, _ = path.name.removesuffix(".tmp").rsplit(".", 3)
        try:
            old = time.time() - path.stat().st_mtime > STALE
        except OSError:  # just renamed or removed by its owner
            continue
        if old or (host == socket.gethostname() and process.isdigit() and not _alive(int(process))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _convert(path: Path, header: GgufHeader, folder: Path, bar: Bar) -> None:
    """Write config.json, generation_config.json, the tokenizer and the weights of ``path`` into ``folder``."""
    from safetensors.torch import save_file

    with quiet():
        model = _dequantized(path, header, lambda part: bar.reach(0.4 + 0.3 * part))
        tokenizer, notes = gguf_tokenizer(path, header)
        tokenizer.save_pretrained(folder)
        bar.reach(0.9)
    state = {name: _smallest_exact(tensor) for name, tensor in _untied(model.state_dict()).items()}
    bar.reach(0.95)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(
        max((tensor.dtype for tensor in state.values()), key=lambda dtype: dtype.itemsize)
    ).removeprefix("torch.")
    eos = gguf_eos_ids(header)
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    generation = model.generation_config
    if eos:
        generation.eos_token_id = eos[0] if len(eos) == 1 else eos
    generation.save_pretrained(folder)
    (folder / DONE).write_text(json.dumps({"version": VERSION, "source": path.name, "notes": notes}), "utf-8")
    bar.reach(1.0)


def _dequantized(path: Path, header: GgufHeader, progress: Callable[[float], None]) -> Any:
    """The model of ``path`` in float32 (or the file's own float dtype), by transformers."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {}
    try:
        from transformers import GgufConfig
    except ImportError:  # versions before 5.23 always dequantize
        pass
    else:
        options["quantization_config"] = GgufConfig(dequantize=True)
    try:
        with _watched(len(header.shapes), progress):
            return AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, **options)
    except Exception as error:  # a GGUF is anyone's, and what transformers makes of it may raise anything
        if "Unrecognized configuration class" in str(error):
            raise ModelError(f"{path} is no causal language model (architecture {header.architecture!r})") from error
        raise ModelError(
            f"{path} (architecture {header.architecture!r}) cannot be converted by transformers: {first_line(error)}. "
            "Use the model's original folder or hub id"
        ) from error


@contextmanager
def _watched(count: int, progress: Callable[[float], None]) -> Iterator[None]:
    """Send the progress of transformers' own loop over the tensors to ``progress`` instead of its tqdm bar."""
    import transformers.modeling_gguf_pytorch_utils

    module: Any = transformers.modeling_gguf_pytorch_utils

    def watch(tensors: Any, **_: Any) -> Iterator[Any]:
        for done, tensor in enumerate(tensors):
            progress(done / max(count, 1))
            yield tensor

    kept = module.tqdm
    module.tqdm = watch
    try:
        yield
    finally:
        module.tqdm = kept


def _untied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each storage once, under its first name: tied weights are tied again on loading."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    kept = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if place not in seen or not tensor.numel():
            kept[name] = tensor.contiguous()
        seen.add(place)
    return kept


def _smallest_exact(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in the smallest of bfloat16, float16 and float32 that keeps every value."""
    import torch

    if tensor.dtype != torch.float32:
        return tensor
    for dtype in (torch.bfloat16, torch.float16):
        small = tensor.to(dtype)
        if torch.equal(small.float(), tensor):
            return small
    return tensor
