"""The pages say what is: generated ones are fresh, examples parse, messages are the real ones, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from logitmill import Strategy, StrategyError
from logitmill.core.dsl.check import CODES
from logitmill.core.dsl.files import read_yaml

ROOT = Path(__file__).resolve().parents[2]


def test_generated_pages_are_fresh(build: ModuleType) -> None:
    assert build.stale() == {}, "run `make docs`"


def test_a_page_that_differs_is_told_with_the_difference(build: ModuleType, tmp_path: Path) -> None:
    build.write(tmp_path)
    assert build.stale(tmp_path) == {}
    (tmp_path / "hooks.md").write_text("old\n", "utf-8")
    (tmp_path / "cli.md").unlink()
    (tmp_path / "stages" / "top_p.svg").write_text("<svg/>\n", "utf-8")
    (tmp_path / "stages" / "of_old.md").write_text("# of_old\n", "utf-8")
    told = build.stale(tmp_path)
    assert sorted(told) == ["cli.md", "hooks.md", "stages/of_old.md", "stages/top_p.svg"]
    assert "-old" in told["hooks.md"].splitlines()
    build.write(tmp_path)
    assert build.stale(tmp_path) == {}
    assert not (tmp_path / "stages" / "of_old.md").exists()


def test_the_pages_are_the_same_in_any_order_of_discovery_and_on_any_terminal(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.built()
    monkeypatch.setenv("COLUMNS", "43")
    assert build.built() == first
    script = f"import runpy; b = runpy.run_path({str(ROOT / 'docs' / 'build.py')!r}); print(hash(str(b['built']())))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": "0", "COLUMNS": width},
            capture_output=True,
            check=True,
        ).stdout
        for width in ("30", "200")
    }
    assert len(runs) == 1


def test_every_hook_is_documented(build: ModuleType) -> None:
    page = (ROOT / "docs" / "hooks.md").read_text("utf-8")
    for name, _ in build.hooks():
        assert f"## {name}\n" in page


def test_nothing_of_this_machine_is_in_the_pages(page: Path) -> None:
    text = page.read_text("utf-8")
    assert str(ROOT) not in text
    assert not re.search(r"(?<![\w.])/(home|root|tmp|Users)/", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{target}: {file.name} has no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text("utf-8"))
        waiting += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert set((ROOT / "docs").rglob("*.md")) <= seen


def test_paths_named_in_the_pages_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    rooms = "core|samplers|stopping|plugins|tests|docs|examples|benchmarks"
    for path in re.findall(rf"`((?:{rooms})/[\w./-]*)`", text):
        assert (ROOT / path).exists() or path == "benchmarks/results/", f"{page.name} names {path}, which is not there"


def test_every_strategy_parses(strategy_block: Any) -> None:
    strategy = Strategy.parse(strategy_block.text, trusted=True, file=str(ROOT / "examples" / "page.decode"))
    assert Strategy.parse(strategy.to_text()) == strategy


def test_every_yaml_example_is_a_strategy(yaml_block: Any) -> None:
    strategy = Strategy.from_dict(read_yaml(yaml_block.text))
    assert strategy.complete


def test_every_json_example_is_canonical(json_block: Any) -> None:
    document = json.loads(json_block.text)
    assert Strategy.from_dict(document).to_dict() == document


def test_every_message_shown_is_the_real_one(text_block: Any) -> None:
    shown = text_block.text.rstrip("\n")
    if not shown.startswith(("error:", "warning:")):
        return
    program = shown.splitlines()[1].removeprefix("  | ")
    if shown.startswith("error:"):
        with pytest.raises(StrategyError) as caught:
            Strategy.parse(program)
        assert str(caught.value) == shown
    else:
        assert shown in [str(warning) for warning in Strategy.parse(program).check()]


def test_every_warning_is_documented_in_its_own_words() -> None:
    page = (ROOT / "docs" / "language.md").read_text("utf-8")
    for code, words in CODES.items():
        assert f"| `{code}` | {words} |" in page


def test_every_error_code_documented_is_one_that_is_raised() -> None:
    page = (ROOT / "docs" / "language.md").read_text("utf-8")
    table = page.partition("## Errors")[2].partition("## Warnings")[0]
    codes = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    rooms = ("core", "samplers", "stopping")
    source = "".join(file.read_text("utf-8") for room in rooms for file in (ROOT / room).rglob("*.py"))
    assert len(codes) > 20
    assert {code for code in codes if f'"{code}"' not in source} == set()


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.*")), ids=lambda file: file.name)
def test_strategy_files_of_the_examples_are_whole_and_bounded(file: Path) -> None:
    if file.suffix in (".decode", ".yaml"):
        strategy = Strategy.load(file)
        assert strategy.complete
        assert "no-bound" not in [warning.code for warning in strategy.check()]


def test_every_python_block_is_a_program(python_block: Any, blocks: Callable[[Path], list[Any]]) -> None:
    compile(python_block.text, str(python_block), "exec")
