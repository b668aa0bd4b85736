"""GGUF files: read, converted exactly and once, and nothing half-made left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import logitmill as lm
from logitmill.core.cache import cache_folder
from logitmill.core.errors import ModelError
from logitmill.core.model import convert
from logitmill.core.model.convert import DONE, converted
from logitmill.core.model.gguf import read_gguf
from logitmill.core.model.load import load_model, load_vocabulary
from logitmill.core.model.spec import ModelSpec

Maker = Callable[..., Path]
SMOL = {
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": False,
}


def leftovers(cache: Path) -> list[str]:
    return [entry.name for entry in (cache / "gguf").glob(".*")] if (cache / "gguf").exists() else []


def test_header_says_what_the_gguf_package_says(make_gguf: Maker) -> None:
    path = make_gguf(SMOL)
    header, reader = read_gguf(path), gguf.GGUFReader(path)
    assert header.shapes == {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    assert header.types == {tensor.name: int(tensor.tensor_type) for tensor in reader.tensors}
    assert header.metadata["tokenizer.ggml.tokens"] == reader.fields["tokenizer.ggml.tokens"].contents()
    assert header.metadata["llama.context_length"] == 128


def test_a_cut_gguf_is_an_error_wherever_it_is_cut(make_gguf: Maker, tmp_path: Path) -> None:
    whole = make_gguf(SMOL).read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(4, 200, 7), len(whole) // 3, len(whole) // 2, len(whole) - 64]:
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"truncated.*Fetch it again"):
            read_gguf(cut)


def test_files_that_are_no_gguf(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    for content, message in [
        (b"", "no GGUF file"),
        (b"PK\x03\x04" * 9, "no GGUF file: it starts with"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"GGUF\x00\x00\x00\x03" + bytes(40), "GGUF version 50331648"),
        (b"GGUF\x03\x00\x00\x00" + bytes(40), "names no architecture"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            read_gguf(file)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_values_are_exactly_what_transformers_reads(make_gguf: Maker, cache: Path, kind: str, tied: bool) -> None:
    path = make_gguf(SMOL, quantization=gguf.GGMLQuantizationType[kind], tied=tied)
    theirs = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    ours = load_model(ModelSpec(path, quantize=None, dtype="float32"))
    assert {name for name, _ in ours.model.named_parameters()} == {name for name, _ in theirs.named_parameters()}
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value)
    stored = load_file(converted(path, "tiny") / "model.safetensors")
    wide = {tensor.dtype for name, tensor in stored.items() if "proj" in name}
    assert wide <= {"F16": {torch.float16, torch.bfloat16}, "BF16": {torch.bfloat16}}.get(kind, {torch.float32})


def test_a_conversion_is_made_once(make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_gguf(SMOL)
    folder = converted(path, "tiny")
    assert folder.is_relative_to(cache)
    assert leftovers(cache) == []
    monkeypatch.setattr(convert, "_convert", None)
    moved = path.rename(path.with_name("tiny-moved.gguf"))
    os.utime(moved, (0, 0))
    shutil.copy(moved, path)
    assert converted(path, "tiny") == folder


def test_another_file_is_another_conversion(make_gguf: Maker, cache: Path) -> None:
    first = converted(make_gguf(SMOL), "tiny")
    assert converted(make_gguf(SMOL | {"tokenizer.ggml.eos_token_id": 0}), "tiny") != first


def test_a_file_is_read_for_its_key_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it changes, wherever it changes; and again where the note is lost or is none."""
    path, read = tmp_path / "a.gguf", []
    path.write_bytes(b"GGUF" * 100)
    whole = convert._content_key
    monkeypatch.setattr(convert, "_content_key", lambda *args: read.append(args) or whole(*args))
    first = convert.file_key(path)
    assert (convert.file_key(path), len(read)) == (first, 1)
    path.write_bytes(b"GGUF" * 99 + b"GGUX")  # of the same size
    second = convert.file_key(path)
    assert (second == first, len(read)) == (False, 2)
    for note in (cache / "keys").iterdir():
        note.write_text("nonsense", "ascii")
    assert (convert.file_key(path), len(read)) == (second, 3)
    copy = tmp_path / "b.gguf"
    copy.write_bytes(path.read_bytes())
    assert convert.file_key(copy) == second  # what it holds counts, not its name


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(errno.EIO, "broken")])
def test_an_interrupted_conversion_leaves_nothing(
    make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def breaks(path: Path, header: Any, folder: Path, bar: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(convert, "_convert", breaks)
        with pytest.raises((type(error), ModelError)):
            converted(make_gguf(SMOL), "tiny")
    assert list((cache / "gguf").iterdir()) == []
    assert (converted(make_gguf(SMOL), "tiny") / DONE).is_file()


def test_what_a_killed_process_left_is_swept(make_gguf: Maker, cache: Path) -> None:
    host = socket.gethostname()
    (cache / "gguf").mkdir(parents=True)
    dead, alive, elsewhere, old = (
        cache / "gguf" / name
        for name in (
            f".x.{host}.999999999.ab.tmp", f".x.{host}.{os.getpid()}.ab.tmp", ".x.other.1.ab.tmp", ".x.other.2.ab.tmp",
        )
    )  # fmt: skip
    for folder in (dead, alive, elsewhere, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    converted(make_gguf(SMOL), "tiny")
    assert [folder.exists() for folder in (dead, alive, elsewhere, old)] == [False, True, True, False]


def test_two_at_once_end_with_one(make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_gguf(SMOL)
    both = threading.Barrier(2)

    def write(path: Path, header: Any, folder: Path, bar: Any) -> None:
        (folder / "model.safetensors").write_text(threading.current_thread().name)
        (folder / DONE).write_text("{}")
        both.wait(30)

    monkeypatch.setattr(convert, "_convert", write)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(converted(path, "tiny"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert len(set(folders)) == 1
    assert (folders[0] / "model.safetensors").read_text() in {thread.name for thread in threads}
    assert leftovers(cache) == []


def test_a_damaged_conversion_is_made_again(make_gguf: Maker, cache: Path) -> None:
    folder = converted(make_gguf(SMOL), "tiny")
    (folder / DONE).unlink()
    assert converted(make_gguf(SMOL), "tiny") == folder
    assert (folder / DONE).is_file()


def test_a_full_disk_is_told_before_and_during(make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_gguf(SMOL)
    usage = shutil.disk_usage(cache.parent)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(ModelError, match=r"the disk is full: .* needs about .* and has 0 MB free.*LOGITMILL_CACHE"):
            converted(path, "tiny")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "_convert", full)
    with pytest.raises(ModelError, match="the disk is full"):
        converted(path, "tiny")
    assert list((cache / "gguf").iterdir()) == []


def test_a_cache_that_cannot_be_used_is_told(make_gguf: Maker, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(ModelError, match=r"the cache folder .* cannot be used .*LOGITMILL_CACHE"):
        converted(make_gguf(SMOL), "tiny")


def test_too_little_memory_is_told_with_figures(make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "free_bytes", lambda device: 10_000)
    with pytest.raises(ModelError, match=r"out of memory: converting tiny.gguf needs about .* 0 MB are free"):
        converted(make_gguf(SMOL), "tiny")


def test_models_that_cannot_be_converted(make_gguf: Maker, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"architecture 'martian'.*Use the model's original folder"):
        converted(make_gguf(SMOL, architecture="martian"), "tiny")
    with pytest.raises(ModelError, match="holds no tokenizer"):
        converted(make_gguf(tokens=False), "tiny")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("LOGITMILL_CACHE")
    assert cache_folder().name in ("logitmill", "cache")


def test_digits_are_split_where_the_file_says_so(make_gguf: Maker, cache: Path) -> None:
    ids = {}
    for split in ("smollm", "gpt-2"):
        loaded = load_model(ModelSpec(make_gguf(SMOL | {"tokenizer.ggml.pre": split}), quantize=None))
        ids[split] = loaded.tokenizer("  12 1234")["input_ids"]
        assert loaded.notes == ()
        assert loaded.tokenizer.decode(ids[split]) == "  12 1234"
    singles = load_model(ModelSpec(make_gguf(SMOL), quantize=None)).tokenizer
    assert all(not (text.strip().isdigit() and len(text) > 1) for text in map(singles.decode, ids["smollm"]))
    assert len(ids["smollm"]) > len(ids["gpt-2"])


def test_an_unknown_split_is_noted(make_gguf: Maker, cache: Path) -> None:
    path = make_gguf(SMOL | {"tokenizer.ggml.pre": "mystery"})
    for _ in range(2):  # from the conversion, and from the cache
        assert "pre-tokenizer 'mystery' is not known here" in load_model(ModelSpec(path, quantize=None)).notes[0]


@pytest.mark.parametrize(("flag", "split", "begins"), [
    (True, "smollm", True), (False, "smollm", False), (None, "smollm", False),
    (None, "llama-bpe", True), (False, "llama-bpe", False),
])  # fmt: skip
def test_bos_begins_a_text_where_the_file_says_so(
    make_gguf: Maker, cache: Path, flag: bool | None, split: str, begins: bool
) -> None:
    metadata = {key: value for key, value in SMOL.items() if key != "tokenizer.ggml.add_bos_token"}
    metadata |= {"tokenizer.ggml.pre": split} | ({} if flag is None else {"tokenizer.ggml.add_bos_token": flag})
    tokenizer = load_model(ModelSpec(make_gguf(metadata), quantize=None)).tokenizer
    plain = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    assert tokenizer("the cat")["input_ids"] == ([1] if begins else []) + plain
    assert 1 not in plain


def test_every_end_of_turn_ends_generation(make_gguf: Maker, cache: Path) -> None:
    loaded = load_model(ModelSpec(make_gguf(SMOL | {"tokenizer.ggml.eot_token_id": 0}), quantize=None))
    assert loaded.eos_ids == (2, 0)
    assert loaded.generation_config.eos_token_id == [2, 0]
    assert loaded.model.generation_config.eos_token_id == [2, 0]


def test_template_and_special_tokens_survive(make_gguf: Maker, cache: Path) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    loaded = load_model(ModelSpec(make_gguf(SMOL | {"tokenizer.chat_template": template}), quantize=None))
    assert loaded.has_chat_template
    text = loaded.tokenizer.apply_chat_template([{"role": "user", "content": "the cat"}], tokenize=False)
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert (ids[0], ids[-1]) == (1, 2)
    assert loaded.tokenizer.decode(ids) == text


def test_quantized_weights_are_kept_and_are_the_same(make_gguf: Maker, cache: Path) -> None:
    path = make_gguf(SMOL)
    inputs = torch.arange(12).reshape(2, 6)
    for quantize, double in [("nf4", False), ("nf4", True), ("fp4", False), ("int8", False)]:
        spec = ModelSpec(path, quantize=quantize, double_quant=double, dtype="float32")
        before = set(converted(path, "tiny").iterdir())
        first = load_model(spec)
        logits = first.model(inputs).logits
        kept = set(converted(path, "tiny").iterdir()) - before
        assert len(kept) == 1
        assert json.loads((kept.pop() / DONE).read_text())["quantize"] == quantize
        second = load_model(spec)
        assert (first.quantize, second.quantize) == (quantize, quantize)
        assert torch.equal(second.model(inputs).logits, logits)


def test_a_cache_that_takes_no_quantized_weights_is_a_note(
    make_gguf: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_gguf(SMOL)
    converted(path, "tiny")
    usage = shutil.disk_usage(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    loaded = load_model(ModelSpec(path))
    assert loaded.quantize == "nf4"
    assert "not kept for the next start: the disk is full" in loaded.notes[0]


def test_a_damaged_conversion_is_made_anew(make_gguf: Maker, cache: Path) -> None:
    path = make_gguf(SMOL)
    for name in ("config.json", "model.safetensors"):
        (converted(path, "tiny") / name).write_bytes(b"")
        with lm.load(path, quantize=None, max_length=64) as engine:
            assert engine.generate([[1, 2]], "greedy until max_tokens(2)")[0].error is None
    (converted(path, "tiny") / "config.json").write_bytes(b"")
    assert load_vocabulary(ModelSpec(path)).size == engine.vocab.size
