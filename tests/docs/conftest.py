"""What the pages hold, and a place where their examples run: a folder of its own, a tiny model for the default one."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: the word behind the fence, its text, and the line it starts at."""

    page: str
    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page.relative_to(ROOT).as_posix(), m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in found]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``page``: every page; ``strategy_block`` and its like: every block of that kind on any page."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
    for name in metafunc.fixturenames:
        kind, _, rest = name.partition("_block")
        if name.endswith("_block") and not rest:
            found = [block for page in PAGES for block in blocks_of(page) if block.kind == kind]
            metafunc.parametrize(name, found, ids=str)


@pytest.fixture
def blocks() -> Callable[[Path], list[Block]]:
    return blocks_of


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """docs/build.py."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, save_tiny: Callable[..., None]) -> Path:
    """A chat model of random weights that knows 320 tokens, as save_pretrained leaves it."""
    folder = tmp_path_factory.mktemp("model") / "tiny-chat"
    save_tiny(folder, positions=1024)
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return folder


@pytest.fixture
def place(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the examples in it, to stand in; ``load()`` gives the tiny model where the default one is meant."""
    import logitmill
    from logitmill.core import engine, loader

    real = engine.load

    def load(model: Any = None, *args: Any, **options: Any) -> Any:
        return real(tiny_folder if model is None else model, *args, **options)

    monkeypatch.setattr(logitmill, "load", load)  # first: reading it takes it from the engine's module
    monkeypatch.setattr(engine, "load", load)
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("acme-samplers", "tides", "__pycache__")
    )
    monkeypatch.chdir(tmp_path)
    before, failed = set(loader.plugins().met), []

    class Watch:
        @logitmill.hookimpl
        def on_finish(self, result: Any) -> None:
            failed.extend([] if result.error is None else [result.error])

    logitmill.register(Watch())
    yield tmp_path
    assert failed == []
    for name in set(loader.plugins().met) - before:
        loader.plugins().remove(name)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
