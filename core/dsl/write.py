"""The ways out: text, a dict, a file, and the hash."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from ..errors import StrategyError
from . import render
from .dump import document
from .files import file_trouble
from .layout import format_body, format_program
from .lower import lower, lower_stage, lower_test
from .read import JSON_SUFFIXES, YAML_SUFFIXES, program_of_file

if TYPE_CHECKING:
    from ..stage import Stage
    from ..strategy import Strategy, Test


def to_text(strategy: Strategy) -> str:
    """The canonical text, on one line: definitions expanded, defaults left out."""
    return render.body(lower(strategy))


def to_lines(strategy: Strategy) -> str:
    """The canonical text on as many lines as it needs, without a newline at its end."""
    return format_body(lower(strategy))


def stage_text(stage: Stage) -> str:
    """The canonical text of one stage."""
    return render.stage(lower_stage(stage))


def test_text(test: Test) -> str:
    """The canonical text of a stop test or of an expression."""
    return render.value(lower_test(test))


def to_dict(strategy: Strategy) -> dict[str, Any]:
    """The canonical document, ``{"dsl": 1, "main": {...}}``: arguments named, defaults left out."""
    return document(lower(strategy, named=True))


def fingerprint(strategy: Strategy) -> str:
    """SHA-256, as hex, of the canonical document with patches applied and every default filled in."""
    from ..patch import patched

    full = document(lower(patched(strategy), named=True, defaults=True))
    text = json.dumps(full, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def to_file(strategy: Strategy, path: FilePath) -> None:
    """Save as YAML, JSON or text, by the file's name. Raises StrategyError where it cannot be written."""
    suffix = path.suffix.lower()
    if suffix in YAML_SUFFIXES:
        text = to_yaml(strategy)
    elif suffix in JSON_SUFFIXES:
        text = json.dumps(to_dict(strategy), indent=2, ensure_ascii=False) + "\n"
    else:
        text = to_lines(strategy) + "\n"
    try:
        path.write_text(text, "utf-8")
    except (OSError, ValueError) as error:
        raise StrategyError(f"{path} cannot be written: {file_trouble(error)}", code="file") from None


def to_yaml(strategy: Strategy) -> str:
    """The canonical document as YAML."""
    from ruamel.yaml import YAML  # only those who write YAML pay for it
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        """A string with a line break of Unicode is quoted: in any other style the break would read as spaces."""

    def string(representer: Representer, text: str) -> Any:
        style = '"' if any(char in text for char in "\x85\u2028\u2029") else None
        return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Representer.add_representer(str, string)
    writer = YAML(typ="safe", pure=True)
    writer.Representer = Representer
    writer.default_flow_style = False
    writer.width = 2**30  # folded at two blanks, a line would lose one of them
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None, takes a bool
    stream = io.StringIO()
    writer.dump(to_dict(strategy), stream)
    return stream.getvalue()


def format_text(text: str, file: str | None = None) -> str:
    """A program as ``fmt`` prints it: definitions and comments kept. Raises StrategyError where it does not parse."""
    from .parse import parse_program

    return format_program(parse_program(text, file))


def format_file(path: FilePath) -> str:
    """A file as ``fmt`` prints it: YAML and JSON come out as text."""
    return format_program(program_of_file(path))
