"""Line charts as SVG, without a library: the same numbers give the same bytes, readable on white and on black.

Both axes are logarithmic: speeds by batch and times by vocabulary are multiples of one another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 360, 240  # pixels of a frame
LEFT, TOP, BETWEEN, RIGHT = 56, 30, 76, 14
LINE = 16  # pixels of a line of the legend
MARK = 3.5  # radius of a point

#: colours that can be told apart by most eyes, on white and on black; a peer's line is dashed
COLOURS = ("#0969da", "#cf5b00", "#1a8f4c", "#a64ca6", "#8a6d00", "#c2334d", "#3c8f9c", "#6e7781")
STYLE = """
text { font: 11px ui-sans-serif, system-ui, sans-serif; fill: #57606a }
.head { font-weight: 600; fill: #24292f }
.frame { stroke: #8c959f; fill: none }
.grid { stroke: #8c959f; stroke-opacity: .25 }
.line { fill: none; stroke-width: 2 }
.peer { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .head { fill: #e6edf3 }
}
"""


@dataclass(frozen=True)
class Series:
    """One line: (x, y) in the order of x, both above 0."""

    name: str
    points: Sequence[tuple[float, float]]
    peer: bool = False


@dataclass(frozen=True)
class Panel:
    """One frame. ``x`` and ``y`` say what its axes are, with the unit."""

    title: str
    x: str
    y: str
    series: Sequence[Series]

    @property
    def xs(self) -> list[float]:
        """Every x that is measured: those are the ticks."""
        return sorted({x for series in self.series for x, _ in series.points})

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest y of the frame: 1, 2 or 5 times a power of ten."""
        values = [y for series in self.series for _, y in series.points]
        below = max((tick for tick in _round_numbers() if tick <= min(values)), default=min(values))
        above = min((tick for tick in _round_numbers() if tick >= max(values)), default=max(values))
        return (below, above) if below < above else (below / 2, above * 2)


def chart(label: str, panels: Sequence[Panel]) -> str:
    """The panels side by side, each with its legend below. ``label`` says for a screen reader what is shown."""
    width = LEFT + WIDTH * len(panels) + BETWEEN * (len(panels) - 1) + RIGHT
    height = TOP + HEIGHT + 44 + LINE * max(len(panel.series) for panel in panels)
    quoted = escape(label, {'"': "&quot;"})
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{quoted}">',
        f"<style>{STYLE}</style>",
    ]
    for place, panel in enumerate(panels):
        lines += _panel(panel, LEFT + place * (WIDTH + BETWEEN))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(panel: Panel, left: int) -> Iterator[str]:
    floor, (low, high), xs = TOP + HEIGHT, panel.ends, panel.xs

    def across(x: float) -> float:
        return left + 12 + (WIDTH - 24) * _share(x, xs[0], xs[-1])

    def up(y: float) -> float:
        return floor - HEIGHT * _share(y, low, high)

    yield f'<text class="head" x="{left}" y="16">{escape(panel.title)}</text>'
    for tick in (tick for tick in _round_numbers() if low <= tick <= high):
        yield f'<path class="grid" d="M{left} {up(tick):.1f}H{left + WIDTH}"/>'
        yield f'<text x="{left - 5}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
    for x in xs:
        yield f'<text x="{across(x):.1f}" y="{floor + 15}" text-anchor="middle">{x:,.0f}</text>'
    yield f'<path class="frame" d="M{left} {TOP}V{floor}H{left + WIDTH}"/>'
    yield f'<text x="{left + WIDTH}" y="{floor + 31}" text-anchor="end">{escape(panel.x)}</text>'
    yield f'<text x="{left + 6}" y="{TOP + 14}">{escape(panel.y)}</text>'
    for number, series in enumerate(panel.series):
        colour = COLOURS[number % len(COLOURS)]
        kind = "line peer" if series.peer else "line"
        points = [(across(x), up(y)) for x, y in series.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="{kind}" stroke="{colour}" points="{path}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{MARK}" fill="{colour}"/>' for x, y in points)
        line = floor + 38 + LINE * number
        yield f'<path class="{kind}" stroke="{colour}" d="M{left} {line}h24"/>'
        yield f'<text x="{left + 30}" y="{line + 4}">{escape(series.name)}</text>'


def _share(value: float, low: float, high: float) -> float:
    """How far ``value`` is on the way from ``low`` to ``high``, on a logarithmic axis."""
    return 0.5 if low == high else math.log(value / low) / math.log(high / low)


def _round_numbers() -> list[float]:
    return [digit * 10.0**power for power in range(-6, 8) for digit in (1, 2, 5)]
