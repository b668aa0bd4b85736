"""What every test may rely on: one `logitmill`, no network, no clock, and golden files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the hub would fail on a train

# No timed tests: machines are shared. CI repeats the same examples, a desk looks for new ones.
settings.register_profile("logitmill", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("logitmill")


ROOT = Path(__file__).resolve().parents[1]


class PlainRoot:
    """Collects the repository's root as a folder.

    It has an ``__init__.py``, so pytest would take it for a package of tests and import it a second time, under the
    name of the clone's folder: two of every class, or an error where that name is no Python name.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    """A conftest is not asked about the folders above it, a registered plugin is."""
    config.pluginmanager.register(PlainRoot())


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--golden``: write the golden files anew instead of comparing with them (``make golden``). ``--parity``: write
    tests/parity/record.json (``make parity``). ``--full``: minutes more.
    """
    parser.addoption("--golden", action="store_true", help="write the golden files anew")
    parser.addoption("--parity", action="store_true", help="write the record of what was held against which peer")
    parser.addoption("--full", action="store_true", help="as many cases as are claimed, where a plain run tries a few")


@pytest.fixture(scope="session")
def save_tiny(bench: ModuleType) -> Callable[..., None]:
    """``save_tiny(folder, positions=256)``: a Llama of random weights that knows 320 tokens, and its tokenizer, as
    save_pretrained leaves them.
    """

    def save(folder: Path, *, positions: int) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=positions, initializer_range=0.3, bos_token_id=0,
            eos_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        bench.tokenizer().save_pretrained(folder)

    return save


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(text, "errors/unknown_stage.txt")`` holds a text against that file in ``golden/`` beside the test."""
    folder = Path(request.path).parent / "golden"

    def check(text: str, name: str) -> None:
        file = folder / name
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"no golden file {file}: write it with `make golden`"
        assert text == file.read_text(encoding="utf-8")

    return check


def _module(name: str) -> ModuleType:
    """A module of tests/ itself, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bench() -> ModuleType:
    """``tests/bench.py``: stages run by hand, without a model."""
    return _module("bench")


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """``tests/small.py``: small models made on the spot, engines over them, and a runner with faults."""
    return _module("small")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """``workshop()``: a new environment over the packages present, to install into and run programs in."""
    make = _module("workshop").Workshop
    return lambda: make(tmp_path_factory.mktemp("workshop") / "env")


@pytest.fixture(scope="session")
def make_engine(small: ModuleType, byte_model: Any) -> Callable[..., Any]:
    """``make_engine(rows=8, max_length=256, wrap=..., lookahead=..., batch_invariant=..., reference=...)`` over
    ``byte_model``.
    """

    def make(**options: Any) -> Any:
        return small.engine(byte_model, **options)

    return make


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to run as many cases as are claimed: ``make test ARGS=--full``."""
    return bool(request.config.getoption("--full"))
