"""What a part of the benchmarks gives: a table, the ratios in it by name, and what of it can be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from logitmill.plugins.bench.chart import Panel
from logitmill.plugins.bench.measure import Line
from logitmill.plugins.bench.turns import Spread


@dataclass(frozen=True)
class Asked:
    """How to measure: how often each side runs, the interpreters of peers that want one of their own, whom to tell."""

    turns: int
    say: Callable[[str], None]
    pythons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A table with its title. ``ratios`` have names that do not change with versions: those are what is held.

    ``lines`` are of whole generations, for the picture of tokens a second by batch; ``panels`` are pictures of its own.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    ratios: dict[str, Spread]
    lines: Sequence[Line] = ()
    panels: Sequence[Panel] = ()
