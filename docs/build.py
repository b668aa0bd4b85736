"""Write the pages that state facts about the code: stages.md, the pages and pictures under stages/, parity.md,
hooks.md, cli.md.

    python docs/build.py            write them anew; remove what is there of stages that are gone
    python docs/build.py --check    say which are stale, with the head of the difference, and exit 1

Only what logitmill itself registers is written, whatever else is installed, so the pages are the same on every machine.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

from building.commands import cli_page  # noqa: E402  # found beside this file
from building.hooks import hooks, hooks_page  # noqa: E402
from building.parity import page as parity_page  # noqa: E402
from building.stages import builtin_registry, files  # noqa: E402

NOTICE = "<!-- Written by docs/build.py from the code. Change the code, then run `make docs`. -->"
SHOWN = 20  # lines of a stale page's difference


def built() -> dict[str, str]:
    """Every generated file's name, from docs/, and its text."""
    registry = builtin_registry()
    pages = {"hooks.md": hooks_page(), "cli.md": cli_page(), "parity.md": parity_page(registry)}
    plain = {name: "\n".join(lines) for name, lines in pages.items()} | dict(files(registry))
    return {name: text if name.endswith(".svg") else f"{NOTICE}\n\n{text.rstrip()}\n" for name, text in plain.items()}


def orphans(made: dict[str, str], folder: Path = DOCS) -> list[Path]:
    """Pages and pictures under stages/ that nothing registered any more stands behind."""
    return [file for file in sorted((folder / "stages").glob("*")) if f"stages/{file.name}" not in made]


def stale(folder: Path = DOCS) -> dict[str, str]:
    """Files that are not what the code says now, each with the difference."""
    made = built()
    found = {f"stages/{file.name}": "nothing is registered under this name" for file in orphans(made, folder)}
    for name, text in made.items():
        file = folder / name
        held = file.read_text("utf-8") if file.is_file() else ""
        if held != text:
            lines = difflib.unified_diff(
                held.splitlines(), text.splitlines(), f"docs/{name}", "as the code has it", lineterm=""
            )
            found[name] = "\n".join(list(lines)[:SHOWN])
    return found


def write(folder: Path = DOCS) -> None:
    """Write every file, and remove the orphans."""
    made = built()
    (folder / "stages").mkdir(exist_ok=True)
    for file in orphans(made, folder):
        file.unlink()
        print(f"docs/stages/{file.name}: removed")
    for name, text in made.items():
        (folder / name).write_text(text, "utf-8", newline="\n")
    print(f"docs/: {len(made)} files")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the generated pages and pictures of docs/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file is stale")
    if not parser.parse_args().check:
        write()
        return 0
    outdated = stale()
    for name, difference in outdated.items():
        print(f"docs/{name} is stale: run `make docs`\n{difference}\n", file=sys.stderr)
    return 1 if outdated else 0


__all__ = ["built", "builtin_registry", "hooks", "stale", "write"]

if __name__ == "__main__":
    sys.exit(main())
