"""What parity tests leave behind: which stage was held against which peer, in how many cases, and how far apart.

``record.json`` holds it file by file, and docs/parity.md is written from that. ``make parity`` writes the record; any
other run holds a file whose tests all ran against it: a count that changed, or a larger difference, is an error.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

RECORD = Path(__file__).parent / "record.json"
ROUNDING = 2e-7  # of a probability: what another processor's float32 may add where this one found no difference

#: stage -> peer -> [cases, the largest difference]
Rows = dict[str, dict[str, list[float]]]


@dataclass
class Parity:
    """``parity.note("top_k", "transformers", difference)`` after each comparison with a peer."""

    rows: Rows = field(default_factory=dict)

    def note(self, stage: str, peer: str, difference: float, cases: int = 1) -> None:
        """``difference``: the largest absolute one, of probabilities (0.0: bitwise equal logits or equal tokens)."""
        row = self.rows.setdefault(stage, {}).setdefault(peer, [0, 0.0])
        row[0] += cases
        row[1] = max(row[1], float(difference)) if not math.isnan(difference) else math.nan


@dataclass
class Files:
    """What each file noted, and which of its tests are still to come."""

    notes: defaultdict[str, Parity] = field(default_factory=lambda: defaultdict(Parity))
    collected: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ran: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    partial: set[str] = field(default_factory=set)  # files of which some tests were left out, or failed

    def whole(self, name: str) -> bool:
        return name not in self.partial and self.ran[name] == self.collected[name]


FILES = pytest.StashKey[Files]()


@pytest.fixture
def difference(request: pytest.FixtureRequest) -> Callable[[torch.Tensor, list[float]], float]:
    """``difference(ours, theirs)``: the largest one of two probabilities of a row of logits, within the ``RTOL`` of the
    test's file; what is kept has to be the same, token by token.

    A token further below the best one than a float32 reaches has no probability, kept or not.
    """

    def check(ours: torch.Tensor, theirs: list[float]) -> float:
        gone, expected = -math.inf, torch.tensor([theirs], dtype=torch.float64)
        far = (expected > gone) & (expected.amax() - expected > torch.finfo(torch.float32).max)
        assert ((ours > gone) | far).tolist() == (expected > gone).tolist()
        found, wanted = ours.softmax(-1).double(), expected.softmax(-1)
        torch.testing.assert_close(found, wanted, rtol=request.module.RTOL, atol=1e-9)
        return float((found - wanted).abs().max())

    return check


def bound(difference: float) -> float:
    """One digit, with room for another processor: three times the difference, rounded up. Nothing stays nothing."""
    if difference == 0.0:
        return 0.0
    size = 10.0 ** math.floor(math.log10(3 * difference))
    return float(f"{math.ceil(3 * difference / size) * size:.0e}")


def stale(rows: Rows, recorded: Rows) -> list[str]:
    """What of a file's notes the record does not hold, in words."""
    found = []
    for stage in sorted(rows.keys() | recorded.keys()):
        for peer in sorted(rows.get(stage, {}).keys() | recorded.get(stage, {}).keys()):
            cases, difference = rows.get(stage, {}).get(peer, [0, 0.0])
            known, most = recorded.get(stage, {}).get(peer, [0, 0.0])
            if cases != known:
                found.append(f"{stage} against {peer}: {cases} cases, recorded are {known}")
            elif not difference <= max(most, ROUNDING):
                found.append(f"{stage} against {peer}: differs by {difference:.3g}, recorded is at most {most:g}")
    return found


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FILES] = Files()


def pytest_itemcollected(item: pytest.Item) -> None:
    files = item.config.stash[FILES]
    if item.path.parent == RECORD.parent:
        files.collected[item.path.name].add(item.nodeid)
        if any("::" in str(argument) for argument in item.config.args):
            files.partial.add(item.path.name)


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[FILES].partial.add(item.path.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.config.stash[FILES].partial.add(item.path.name)
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """After the last test of a file: its notes against the record, where all of it ran."""
    files, name = item.config.stash[FILES], item.path.name
    files.ran[name].add(item.nodeid)
    config = item.config
    if any(config.getoption(word) for word in ("--parity", "--full", "--last-failed")) or not files.whole(name):
        return
    recorded = json.loads(RECORD.read_text("utf-8"))["files"].get(name, {}) if RECORD.is_file() else {}
    found = stale(files.notes[name].rows, recorded)
    if found:
        pytest.fail("docs/parity.md is stale, run `make parity`:\n" + "\n".join(found), pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ``--parity``: write the record, where every test of every file ran."""
    if not session.config.getoption("--parity"):
        return
    files = session.config.stash[FILES]
    left = [name for name in files.collected if not files.whole(name)]
    if left or session.testsfailed:
        raise pytest.UsageError(f"the record is not written: not every test of {', '.join(left)} ran and passed")
    RECORD.write_text(record({name: parity.rows for name, parity in files.notes.items() if parity.rows}), "utf-8")


def record(notes: dict[str, Rows]) -> str:
    """The text of the record: peers' versions, and a line for each file, stage and peer."""
    import torch
    import transformers

    vectors = json.loads((RECORD.parent / "vectors" / "llamacpp-truncations.json").read_text("utf-8"))["peer"]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    peers = {**versions, "llama.cpp": vectors["llama.cpp"]}
    files = {
        name: {
            stage: {peer: [cases, bound(difference)] for peer, (cases, difference) in sorted(row.items())}
            for stage, row in sorted(rows.items())
        }
        for name, rows in sorted(notes.items())
    }
    text = json.dumps({"peers": peers, "files": files}, indent=1)
    return text.replace("[\n     ", "[").replace(",\n     ", ", ").replace("\n    ]", "]") + "\n"


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    return request.config.stash[FILES].notes[request.path.name]
