"""Lines as a table and a page."""

from __future__ import annotations

import json
from pathlib import Path

from logitmill.plugins.bench import table
from logitmill.plugins.bench.measure import Line
from logitmill.plugins.bench.turns import Spread

ALONE = Line("m", "nf4 in bfloat16", "temperature(0.8) | sample", 1, Spread(99.94, 12.34, 1234.5))
BESIDE = Line(
    "m", "float32", "greedy", 8, Spread(200.4, 190.0, 210.0), "vLLM 1.2", "bfloat16", Spread(100.2, 99.0, 101.0),
    Spread(2.0, 1.881, 2.126), "7 of 8",
)  # fmt: skip


def test_alone():
    assert table.columns([ALONE]) == ("weights", "strategy", "batch", "logitmill, tokens/s")
    assert table.cells(ALONE, 4)[3] == "99.9 (12.3 to 1,234)"
    assert table.brief(ALONE, 4) == table.cells(ALONE, 4)


def test_beside_a_peer():
    head = table.columns([BESIDE])
    assert head[4:] == ("vLLM 1.2, tokens/s", "its weights", "ratio", "same greedy tokens")
    assert table.cells(BESIDE, 8)[3:] == (
        "200 (190 to 210)", "100 (99.0 to 101)", "bfloat16", "2.00 (1.88 to 2.13)", "7 of 8"
    )  # fmt: skip
    assert table.brief(BESIDE, 8)[3:] == ("200", "100", "bfloat16", "2.00 (1.88 to 2.13)", "7 of 8")


def test_a_page_and_its_files(tmp_path: Path):
    facts = {"date": "2026-01-02", "processor": "p"}
    page = table.page("Title", facts, [ALONE], ["A note."])
    rows = [line for line in page.splitlines() if line.startswith("| nf4")]
    assert rows == [r"| nf4 in bfloat16 | temperature(0.8) \| sample | 1 | 99.9 (12.3 to 1,234) |"]
    assert "- date: 2026-01-02" in page
    document = table.document(facts, [BESIDE], notes=["A note."])
    made = table.write(tmp_path / "new", "bench", page, document, "<svg/>")
    assert [file.name for file in made] == ["bench.md", "bench.json", "bench.svg"]
    assert (tmp_path / "new" / "bench.md").read_text("utf-8") == page
    kept = json.loads((tmp_path / "new" / "bench.json").read_text("utf-8"))
    assert kept["machine"] == facts
    assert kept["lines"][0]["ratio"] == {"median": 2.0, "lowest": 1.881, "highest": 2.126}
    assert kept["notes"] == ["A note."]
