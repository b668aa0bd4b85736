"""Lines as a table: Markdown for a file, cells for a terminal, a document for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .choosing import Cost
from .measure import Line
from .turns import Spread


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def speed(spread: Spread | None) -> str:
    """Tokens a second: the median, and in what range the turns lay."""
    if spread is None:
        return ""
    return f"{number(spread.median)} ({number(spread.lowest)} to {number(spread.highest)})"


def ratio(spread: Spread | None) -> str:
    """How many times as fast: the median, and in what range the turns lay."""
    return "" if spread is None else f"{spread.median:.2f} ({spread.lowest:.2f} to {spread.highest:.2f})"


def columns(lines: Sequence[Line]) -> tuple[str, ...]:
    """The head of the table, as far as there is something to tell."""
    peer = next((line.peer for line in lines if line.peer), None)
    found = ["weights", "strategy", "batch", "logitmill, tokens/s"]
    found += [f"{peer}, tokens/s", "its weights", "ratio"] if peer is not None else []
    return (*found, *(["same greedy tokens"] if any(line.same_tokens for line in lines) else []))


def cells(line: Line, width: int) -> tuple[str, ...]:
    """A row of the table, in ``width`` columns."""
    row = (
        line.weights, line.strategy, str(line.batch), speed(line.speed), speed(line.peer_speed),
        line.peer_weights or "", ratio(line.ratio), line.same_tokens or "",
    )  # fmt: skip
    return row[:width]


def brief(line: Line, width: int) -> tuple[str, ...]:
    """A row for a terminal: beside a peer the range of the ratio says enough."""
    row = cells(line, width)
    if line.peer_speed is None:
        return row
    return (*row[:3], number(line.speed.median), number(line.peer_speed.median), *row[5:])


def cost_columns(costs: Sequence[Cost]) -> tuple[str, ...]:
    """The head of a table of costs: a column for each vocabulary."""
    return ("strategy", "batch", *(f"{size:,} tokens, ms" for size in dict.fromkeys(c.vocabulary for c in costs)))


def cost_rows(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """A row for each strategy and batch: the median, and where the middle half of the steps lay."""
    rows: dict[tuple[str, int], list[str]] = {}
    for cost in costs:
        ms = cost.milliseconds
        shown = f"{ms.median:.3g} ({ms.lowest:.3g} to {ms.highest:.3g})"
        rows.setdefault((cost.strategy, cost.batch), []).append(shown)
    return [(strategy, str(batch), *shown) for (strategy, batch), shown in rows.items()]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table. A strategy's ``|`` is no border."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |".replace("|  |", "| |")


def document(facts: dict[str, str], lines: Sequence[Line | Cost], **more: Any) -> dict[str, Any]:
    """Everything that was measured, as JSON would have it."""
    return {"machine": facts, "lines": [asdict(line) for line in lines], **more}


def page(title: str, facts: dict[str, str], lines: Sequence[Line], notes: Sequence[str]) -> str:
    """A Markdown page: what it was measured on, the table, and what has to be known to read it."""
    head = columns(lines)
    named = {"model": ", ".join(dict.fromkeys(line.model for line in lines)), **facts}
    return titled(title, named, markdown(head, [cells(line, len(head)) for line in lines]), notes)


def titled(title: str, facts: dict[str, str], shown: Iterable[str], notes: Sequence[str]) -> str:
    """A page around lines of Markdown."""
    return "\n".join([f"# {title}", "", *(f"- {k}: {v}" for k, v in facts.items()), "", *shown, "", *notes, ""])


def write(folder: Path, name: str, text: str, data: dict[str, Any], picture: str | None = None) -> list[Path]:
    """name.md, name.json and, with a picture, name.svg in ``folder``. Returns what was written. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {f"{name}.md": text, f"{name}.json": json.dumps(data, indent=1) + "\n"}
    if picture is not None:
        made[f"{name}.svg"] = picture
    for file, content in made.items():
        (folder / file).write_text(content, "utf-8", newline="\n")
    return [folder / file for file in made]
