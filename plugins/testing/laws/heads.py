"""The law of heads: behind a top_k a stage's on_head stands in for its apply, and nobody can tell which of them ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ....core.dist import Dist
from ....core.loader import registry
from ....core.planner import plan
from ....core.stage import LogitsProcessor, Stage, draw
from ....core.strategy import Strategy
from ....core.tail import Head
from .. import bench
from ..cases import VOCAB, Case, from_tensor, ordinary, repetitive
from ..law import Breach, law, raised
from ..outcome import shown
from ..subjects import siblings

SIZES = (2, 4, 20)  # of the head: few enough to be shown small, enough for a cut in the middle
UNIFORM = [u / 8 for u in range(8)]  # where draws are compared
Rows = Sequence[Stage]  # one stage a row, of one class


def scattered(vocab: int = VOCAB) -> Case:
    """Logits of every float: what is computed in another order rounds to another."""
    return from_tensor(3.0 * torch.randn(5, vocab, generator=torch.Generator().manual_seed(1)), [[]] * 5, [[]] * 5)


@law(frozenset({"logits processor"}), ordinary, scattered, repetitive)
def head(stage: Stage, case: Case) -> Breach | None:
    """Behind a top_k its on_head, where it has one, does what its apply does: the same law, and the same draws."""
    if not plan(Strategy.of(stage), as_written=True, fragment=True).root.nodes[0].on_head:
        return None
    for rows in _values(stage, case.rows):
        for size in SIZES:
            for before, behind in _neighbours():
                breach = _compared(before, rows, behind, size, case)
                if breach is not None:
                    return breach
    return None


def _values(stage: Stage, rows: int) -> Iterator[list[Stage]]:
    """The stage in every row, so its siblings, and then rows of different values."""
    others = [stage, *siblings(stage)]
    for one in others:
        yield [one] * rows
    for first in range(0, len(others) if len(others) > 1 else 0, rows):
        yield [others[(first + row) % len(others)] for row in range(rows)]


def _neighbours() -> Iterator[tuple[list[Stage], list[Stage]]]:
    """What stands before and behind: nothing; what scales and cuts; what relies on the order."""
    make = registry().stage
    yield [], []
    yield [make("temperature", 0.5), make("top_p", 0.8)], []
    yield [], [make("top_p", 0.7)]


def _compared(before: Sequence[Stage], rows: Rows, behind: Sequence[Stage], size: int, case: Case) -> Breach | None:
    if size >= case.vocab:
        return None
    stages: list[Stage | Rows] = [*before, rows, *behind]
    try:
        wanted = _one_by_one(stages, case.dist().unlooked().narrow(size), case)
    except Exception:  # what its apply raises, and at which value, other laws tell
        return None
    where = " | ".join([f"top_k({size})", *map(repr, before), _named(rows), *map(repr, behind)])
    got = _in_one_go(stages, case.dist().narrow(size), case)
    if got is None:
        return None
    if isinstance(got, Breach):
        return Breach(f"'{where}': {got.says}")
    mine, other = got.dense().logits, wanted.dense().logits
    wrong = ~torch.isclose(mine, other, rtol=0, atol=0, equal_nan=True).all(-1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        return Breach(f"'{where}': by on_head {shown(got, row)}, by apply {shown(wanted, row)}", row)
    for u in UNIFORM:
        uniform = torch.full((case.rows, 1), u, dtype=torch.float64)
        by_head, by_apply = draw(got, uniform), draw(wanted, uniform)
        if not torch.equal(by_head, by_apply):
            row = int((by_head != by_apply)[:, 0].nonzero()[0])
            tokens = f"token {int(by_head[row])} by on_head, token {int(by_apply[row])} by apply"
            return Breach(f"'{where}': the number {u:g} draws {tokens}", row)
    return None


def _one_by_one(stages: Sequence[Stage | Rows], dist: Dist, case: Case) -> Dist:
    for stage in stages:
        made, view = bench.bound(stage, dist, case.context(case.dist()))
        dist = made.apply(dist, made.init(view), view)
    return dist


def _in_one_go(stages: Sequence[Stage | Rows], dist: Dist, case: Case) -> Dist | Breach | None:
    """None where a stage says that it cannot, or where nothing finite is left: then all runs stage by stage."""
    head = Head(dist)
    for stage in stages:
        made, view = bench.bound(stage, dist, case.context(case.dist()))
        assert isinstance(made, LogitsProcessor)
        try:
            done = made.on_head(head, view)
        except Exception as error:  # the core goes on stage by stage, and nobody learns of it
            said = raised(error)
            return None if said is None else Breach(f"on_head {said}")
        if not isinstance(done, bool):
            return Breach(f"on_head returns True where it has done it and False where it cannot, not {done!r}")
        if not done:
            return None
    return head.law()


def _named(rows: Rows) -> str:
    """The stage, or the stages of the rows."""
    names = list(dict.fromkeys(map(repr, rows)))
    return names[0] if len(names) == 1 else f"({' / '.join(names)})"


__all__ = ["head"]
