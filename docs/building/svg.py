"""Bar charts as SVG: whole pixels, no dates, no random names, so that the same numbers give the same bytes anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

HEIGHT = 115  # pixels of the tallest bar
PITCH, BAR, GAP = 12, 9, 3  # pixels from one bar to the next, of a bar, and from the frame to the first
LEFT, TOP, BETWEEN, RIGHT, BOTTOM = 34, 26, 44, 8, 22
SCALES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
SLACK = 1e-4  # of a probability: how far another processor's rounding may be

#: colours that can be read on white and on black; the second of each where the reader's system is dark
STYLE = """
text { font: 11px ui-sans-serif, system-ui, sans-serif; fill: #57606a }
.head { font-weight: 600; fill: #24292f }
.frame { stroke: #8c959f; fill: none }
.before { stroke: #8c959f; fill: #8c959f; fill-opacity: .22 }
.after { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .head { fill: #e6edf3 }
  .after { fill: #4493f8 }
}
"""


@dataclass(frozen=True)
class Panel:
    """One chart: probabilities of the same tokens before and after."""

    title: str
    before: Sequence[float]
    after: Sequence[float]

    @property
    def scale(self) -> float:
        """The probability at the top of the frame."""
        most = max(*self.before, *self.after)
        return next(scale for scale in SCALES if most <= scale + SLACK)

    @property
    def width(self) -> int:
        return GAP + PITCH * len(self.before)


def pixels(probability: float, scale: float) -> int:
    """The height of a bar; what is there at all can be seen."""
    return max(1, round(probability / scale * HEIGHT)) if probability > SLACK / 100 else 0


def chart(label: str, panels: Sequence[Panel]) -> str:
    """The panels side by side. ``label`` says for a screen reader what is shown."""
    width = LEFT + sum(panel.width for panel in panels) + BETWEEN * (len(panels) - 1) + RIGHT
    height = TOP + HEIGHT + BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label, {chr(34): "&quot;"})}">',
        f"<style>{STYLE}</style>",
    ]
    left = LEFT
    for panel in panels:
        lines += _panel(panel, left)
        left += panel.width + BETWEEN
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(panel: Panel, left: int) -> Iterator[str]:
    floor, scale = TOP + HEIGHT, panel.scale
    yield f'<text class="head" x="{left}" y="14">{escape(panel.title)}</text>'
    yield f'<text x="{left - 4}" y="{TOP + 8}" text-anchor="end">{scale:g}</text>'
    yield f'<text x="{left - 4}" y="{floor}" text-anchor="end">0</text>'
    yield f'<path class="frame" d="M{left} {TOP}V{floor}H{left + panel.width}"/>'
    for number, (before, after) in enumerate(zip(panel.before, panel.after, strict=True)):
        x = left + GAP + PITCH * number
        yield from _bar("before", x, pixels(before, scale), BAR, floor)
        yield from _bar("after", x + 2, pixels(after, scale), BAR - 4, floor)
    last = len(panel.before) - 1
    middle = GAP + BAR // 2
    yield f'<text x="{left + middle}" y="{floor + 14}" text-anchor="middle">0</text>'
    yield f'<text x="{left + middle + PITCH * last}" y="{floor + 14}" text-anchor="middle">{last}</text>'


def _bar(kind: str, x: int, height: int, width: int, floor: int) -> Iterator[str]:
    if height:
        yield f'<rect class="{kind}" x="{x}" y="{floor - height}" width="{width}" height="{height}"/>'
