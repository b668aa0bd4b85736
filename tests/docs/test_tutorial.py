"""The tutorial of docs/extending.md, run as it is written: its commands in order, its files as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logitmill.plugins.testing import fixtures
from logitmill.testing import laws

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
KINDS = {
    "logits processor": "processors", "sampler": "samplers", "combinator": "combinators", "search": "searches",
    "signal": "signals", "stopping criterion": "criteria", "schedule": "schedules",
}  # fmt: skip


def tutorial() -> str:
    """The page from the tutorial's heading to the next."""
    text = PAGE.read_text("utf-8")
    start = text.index("\n## A package in fifteen minutes\n")
    return text[start : text.index("\n## ", start + 1)]


def write(text: str, folder: Path) -> None:
    """A file whose name stands in its first line."""
    name = re.match(r"# ([\w./-]+)\n", text)
    assert name, f"a file of the tutorial begins with its name: {text.splitlines()[0]}"
    file = folder / name[1]
    assert file.resolve().is_relative_to(folder.resolve())
    assert file.parent.is_dir(), f"{file.parent} is not there yet"
    file.write_text(text, "utf-8")


def test_the_tutorial_runs_as_it_is_written(workshop: Callable[[], Any], tmp_path: Path) -> None:
    shop, folder, told = workshop(), tmp_path, ""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", tutorial(), re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks].count("bash") >= 4
    for kind, text in blocks:
        if kind == "py":
            write(text, folder)
        elif kind == "text":
            for line in text.splitlines():
                assert line.strip() in told, f"the page shows what was not said:\n{line}\n\n{told}"
        else:
            assert kind == "bash", f"a block of {kind!r}"
            for line in text.splitlines():
                command, _, remark = line.partition("  # ")
                if command.startswith("cd "):
                    folder = folder / command.removeprefix("cd ")
                    continue
                done = shop.run(command, folder, fails=remark == "fails")
                told = done.stdout + done.stderr
    [wheel] = (folder / "dist").glob("*.whl")
    assert wheel.name.startswith("tide_pool-0.1.0-")


def test_every_law_is_on_the_page_in_its_own_words() -> None:
    rows = []
    for law in laws().values():
        kinds = "all" if len(law.kinds) == len(KINDS) else ", ".join(KINDS[kind] for kind in KINDS if kind in law.kinds)
        rows.append(f"| `{law.name}` | {law.says} | {kinds} |")
    assert "\n".join(rows) in PAGE.read_text("utf-8")


def test_every_fixture_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert fixtures.__all__
    for name in fixtures.__all__:
        assert f"| `{name}` | " in page
