"""A model whose text is known, packages made on the spot, and the program in this process or one of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

CYCLE = "abcdefghijklmnopqrstuvwxyz. "


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, no colour, one width, nobody's plugins but the built-in ones and those a test makes."""
    for name in ("LOGITMILL_PLUGINS", "LOGITMILL_STRICT_PLUGINS", "LOGITMILL_DEBUG", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="session")
def alphabet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a chat model that answers any text ending in "a" with "bcdefgh", and goes round after "z. "."""
    return alphabet_model(tmp_path_factory.mktemp("alphabet"))


def alphabet_model(folder: Path) -> str:
    """A Llama whose layers pass their input on, and whose head knows for each token the one that follows."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", bos_token="<begin>")
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}a"
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=512, tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding = torch.nn.init.orthogonal_(torch.empty(len(tokenizer), 256))
        model.model.embed_tokens.weight.copy_(embedding)
        follows = list(range(len(tokenizer)))
        ids = tokenizer(CYCLE)["input_ids"]
        for this, following in zip(ids, [*ids[1:], ids[0]], strict=True):
            follows[this] = following
        model.lm_head.weight.zero_()
        for this, following in enumerate(follows):
            model.lm_head.weight[following] += embedding[this]
        for place, token in enumerate(ids):  # and whatever comes before, an earlier letter is likelier than a later one
            model.lm_head.weight[token] += 0.3 * (1 - place / len(ids)) * embedding.sum(0)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def logitmill() -> Callable[..., Result]:
    """``logitmill("check", "greedy", input="...")``: the program in this process."""
    from logitmill.plugins.cli.main import commands

    def call(*args: str, **extra: Any) -> Result:
        return CliRunner().invoke(commands, list(args), **extra)

    return call


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``program("run", "a", piped=b"...", env={...})``: the program in a process of its own."""

    def call(
        *args: str, piped: bytes | None = None, env: Mapping[str, str] | None = None, path: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "logitmill", *args],
            input=piped, stdin=None if piped is not None else subprocess.DEVNULL, capture_output=True,
            env=environment(env, path), timeout=300, check=False,
        )  # fmt: skip

    return call


def environment(extra: Mapping[str, str] | None = None, path: Path | None = None) -> dict[str, str]:
    """This process's environment with more, and with ``path`` among the places modules are found."""
    made = {**os.environ, "OMP_NUM_THREADS": "1", **(extra or {})}
    if path is not None:
        made["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return made


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """``installed("acme", {"acme_x": "source"}, plugins={"acme": "acme_x"})``: a package as pip would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def make(distribution: str, modules: Mapping[str, str], **groups: Mapping[str, str]) -> Path:
        for name, source in modules.items():
            file = site.joinpath(*name.split(".")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n", encoding="utf-8")
        lines = [
            f"[logitmill.{group}]\n" + "".join(f"{n} = {v}\n" for n, v in entries.items())
            for group, entries in groups.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        importlib.invalidate_caches()
        return site

    yield make
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """``fresh.discover()``: the plugins of this process, met anew, in place of the ones it has until the test ends."""
    from logitmill.core import loader

    def discover(**options: Any) -> loader.Plugins:
        found = loader.Plugins(**options)
        monkeypatch.setattr(loader, "_plugins", found)
        found.discover()
        return found

    return SimpleNamespace(discover=discover, Plugins=loader.Plugins)
