"""Line charts: where points lie, and what is written beside them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from logitmill.plugins.bench.chart import HEIGHT, LEFT, TOP, WIDTH, Panel, Series, chart
from logitmill.plugins.bench.measure import Line
from logitmill.plugins.bench.pictures import by_batch
from logitmill.plugins.bench.turns import Spread

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(chart("a chart", panels))


def points(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    lines = [line.attrib["points"].split() for line in svg.iter(f"{SVG}polyline")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line)] for line in lines]


def test_axes_are_logarithmic():
    [line] = points(drawn(Panel("t", "batch", "tokens/s", [Series("a", [(1, 10), (2, 100), (4, 1000)])])))
    (x1, y1), (x2, y2), (x4, y4) = line
    assert abs((x2 - x1) - (x4 - x2)) < 0.11  # rounded to a tenth of a pixel
    assert (y1, y4) == (TOP + HEIGHT, TOP)
    assert y2 == TOP + HEIGHT / 2


def test_nothing_lies_outside_its_frame():
    panel = Panel("t", "x", "y", [Series("a", [(1, 0.37), (32, 923)]), Series("b", [(8, 77)])])
    for line in points(drawn(panel, panel))[:2]:
        for x, y in line:
            assert LEFT <= x <= LEFT + WIDTH
            assert TOP <= y <= TOP + HEIGHT


def test_one_value_alone_is_in_the_middle():
    [[(x, y)]] = points(drawn(Panel("t", "x", "y", [Series("a", [(8, 10)])])))
    assert x == LEFT + WIDTH / 2
    assert TOP < y < TOP + HEIGHT


def test_names_ticks_and_the_label_for_a_screen_reader():
    text = chart('a "chart" of <b>', [Panel("t & u", "batch", "ms", [Series("a < b", [(1, 2), (8, 3)], peer=True)])])
    svg = ElementTree.fromstring(text)
    assert svg.attrib["aria-label"] == 'a "chart" of <b>'
    words = [element.text for element in svg.iter(f"{SVG}text")]
    assert {"t & u", "a < b", "batch", "ms", "1", "8", "2", "5"} <= set(words)
    assert len(re.findall('class="line peer"', text)) == 2  # the line and its sample in the legend


def spread(value: float) -> Spread:
    return Spread(value, value, value)


def line(weights: str, strategy: str, batch: int, ours: float, theirs: float | None = None) -> Line:
    if theirs is None:
        return Line("m", weights, strategy, batch, spread(ours))
    return Line("m", weights, strategy, batch, spread(ours), "peer 1", "float32", spread(theirs), spread(ours / theirs))


def test_a_panel_for_each_strategy_and_one_line_for_a_peer_measured_twice():
    lines = [
        line("nf4", "greedy", 8, 80, 40), line("nf4", "greedy", 1, 10, 5), line("int8", "greedy", 1, 12, 7),
        line("int8", "greedy", 8, 90, 40), line("nf4", "sampled", 1, 9, 4),
    ]  # fmt: skip
    greedy, sampled = by_batch(lines)
    assert {s.name: (list(s.points), s.peer) for s in greedy.series} == {
        "logitmill, nf4": ([(1, 10), (8, 80)], False),
        "logitmill, int8": ([(1, 12), (8, 90)], False),
        "peer 1, float32": ([(1, 6), (8, 40)], True),
    }
    assert [s.name for s in sampled.series] == ["logitmill, nf4", "peer 1, float32"]


def test_one_batch_is_no_picture():
    assert by_batch([line("nf4", "greedy", 1, 10), line("int8", "greedy", 1, 12)]) == []
