"""``logitmill new-plugin``: a package of stages to start from, whole and working."""

from __future__ import annotations

import datetime
import importlib.util
import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from ...core.errors import UsageError
from .output import line

#: file of the package -> its template
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    "src/$module/__init__.py": "hooks.py",
    "src/$module/gap.py": "gap.py",
    "src/$module/lines.py": "lines.py",
    "tests/test_gap.py": "test_gap.py",
    "tests/test_laws.py": "test_laws.py",
    "tests/test_lines.py": "test_lines.py",
}
LICENSES = {"mit": "MIT", "apache-2.0": "Apache-2.0"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
OLDEST = "0.1"  # the first logitmill whose plugin interface the templates speak


@click.command("new-plugin", short_help="Write a package of stages to start from.")
@click.argument("name", metavar="NAME")
@click.option(
    "--dir", "parent", type=click.Path(path_type=Path, file_okay=False), default=Path(), metavar="DIR",
    help="Where the package's folder goes. Default: here.",
)  # fmt: skip
@click.option(
    "--vendor", metavar="VENDOR", help="What stands before the dot of its stages. Default: NAME's first word."
)
@click.option(
    "--license", "licence", type=click.Choice([*LICENSES, "none"]), default="mit", show_default=True,
    help="The licence file it comes with.",
)  # fmt: skip
def command(name: str, parent: Path, vendor: str | None, licence: str) -> None:
    """Write a package of stages for logitmill: NAME is its distribution's name, as in acme-samplers.

    It has a logits processor, a stopping criterion, tests that hold both to logitmill's laws, and settings for pytest,
    ruff and mypy. It installs and passes all of them at once: change it from there.
    """
    vendor = re.split(r"[-_]", name)[0].lower() if vendor is None else vendor
    module = name.replace("-", "_").lower()
    check_name(name, module, vendor)
    folder = parent / name
    check_folder(folder)
    written = write(folder, name, module, vendor, licence)
    line(f"wrote {folder}: {len(written)} files")
    for step in (
        f"cd {folder}",
        'pip install -e ".[dev]"',
        "pytest",
        "ruff check . && ruff format --check . && mypy",
        f"logitmill stages {vendor}.gap",
    ):
        line(f"  {step}")


def check_name(name: str, module: str, vendor: str) -> None:
    """Raise UsageError for names that could not be installed, imported or written in a strategy."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a package: words of letters and digits joined by '-' or '_', a letter first, "
            "as in acme-samplers"
        )
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UsageError(f"{module!r} is a word of Python and cannot be a module: choose another name")
    if module == "tests":
        raise UsageError("'tests' is the folder of the package's own tests: choose another name")
    spec = importlib.util.find_spec(module)
    installed = spec is not None and spec.origin is not None  # a mere folder has no origin
    if installed or module in sys.stdlib_module_names:
        raise UsageError(
            f"a module {module!r} is here already, of Python or of an installed package: choose another name"
        )
    check_vendor(vendor, module)


def check_vendor(vendor: str, module: str) -> None:
    """Raise UsageError for a word that cannot stand before the dot of a stage's name, or that is taken."""
    from ... import __all__ as face
    from ...core.loader import plugins
    from ...core.registry import WORDS

    if not (vendor.isascii() and vendor.isidentifier()) or vendor.startswith("_"):
        raise UsageError(
            f"{vendor!r} cannot stand before a stage's dot: letters, digits and '_', a letter first (--vendor)"
        )
    if vendor in WORDS or keyword.iskeyword(vendor):
        raise UsageError(f"{vendor!r} is a word of the language or of Python: choose another with --vendor")
    if vendor in face or vendor in ("core", "samplers", "stopping", "plugins", "testing", "logitmill"):
        raise UsageError(f"{vendor!r} is a name of logitmill's own: choose another with --vendor")
    met = plugins()
    books = (met.registry.entries, met.registry.schedules)
    taken = next((e for book in books for key, e in book.items() if key.split(".")[0] == vendor), None)
    if taken is not None:
        raise UsageError(
            f"{vendor!r} is taken: the plugin {taken.plugin!r} registers {taken.name!r}; choose another (--vendor)"
        )
    if module in met.met:
        raise UsageError(
            f"a plugin {module!r} is installed already, from {met.met[module].origin}: choose another name"
        )


def check_folder(folder: Path) -> None:
    """Raise UsageError where something is in the way; a new repository (nothing but .git) is not."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file: choose another name or --dir")
    if folder.is_dir() and any(item.name != ".git" for item in folder.iterdir()):
        raise UsageError(f"{folder} is there already, and not empty: choose another name or --dir")


def write(folder: Path, name: str, module: str, vendor: str, licence: str) -> list[Path]:
    """Write the package. Returns its files."""
    words = {
        "distribution": name,
        "module": module,
        "vendor": vendor,
        "oldest": OLDEST,
        "year": str(datetime.datetime.now(datetime.UTC).year),
        "license_line": f'license = "{LICENSES[licence]}"\nlicense-files = ["LICENSE"]\n'
        if licence in LICENSES
        else "",
    }
    contents = {Template(path).substitute(words): _filled(template, words) for path, template in FILES.items()}
    contents[f"src/{module}/py.typed"] = ""
    if licence in LICENSES:
        contents["LICENSE"] = _filled(f"LICENSE-{licence}", words)
    for path, text in contents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8", newline="\n")
    return [folder / path for path in contents]


def _filled(template: str, words: dict[str, str]) -> str:
    text = files(__package__).joinpath("templates", f"{template}.tmpl").read_text("utf-8")
    return Template(text).substitute(words)


__all__ = ["command"]
