"""What was measured, as charts."""

from __future__ import annotations

from collections.abc import Sequence

from .chart import Panel, Series
from .choosing import Cost
from .measure import Line


def by_batch(lines: Sequence[Line]) -> list[Panel]:
    """Tokens a second by batch: a panel for each strategy, a line for each kind of weights and each peer.

    Nothing where only one batch was measured.
    """
    if len({line.batch for line in lines}) < 2:
        return []
    return [
        Panel(f"{strategy}: tokens a second, all rows together", "batch", "tokens/s", _series(lines, strategy))
        for strategy in dict.fromkeys(line.strategy for line in lines)
    ]


def by_vocabulary(costs: Sequence[Cost]) -> list[Panel]:
    """Milliseconds of choosing by vocabulary: a panel for each batch. Nothing where only one size was measured."""
    if len({cost.vocabulary for cost in costs}) < 2:
        return []
    found: dict[int, dict[str, list[tuple[float, float]]]] = {}
    for cost in sorted(costs, key=lambda cost: cost.vocabulary):
        points = found.setdefault(cost.batch, {}).setdefault(cost.strategy, [])
        points.append((cost.vocabulary, cost.milliseconds.median))
    return [
        Panel(
            f"choosing {batch} token{'s' * (batch > 1)}: milliseconds a step", "vocabulary", "ms",
            [Series(name, points) for name, points in found[batch].items()],
        )
        for batch in sorted(found)
    ]  # fmt: skip


def _series(lines: Sequence[Line], strategy: str) -> list[Series]:
    ours: dict[str, list[tuple[float, float]]] = {}
    theirs: dict[str, list[tuple[float, float]]] = {}
    for line in sorted(lines, key=lambda line: line.batch):
        if line.strategy != strategy:
            continue
        ours.setdefault(f"logitmill, {line.weights}", []).append((line.batch, line.speed.median))
        if line.peer_speed is not None:
            theirs.setdefault(f"{line.peer}, {line.peer_weights}", []).append((line.batch, line.peer_speed.median))
    return [Series(name, points) for name, points in ours.items()] + [
        Series(name, _means(points), peer=True) for name, points in theirs.items()
    ]


def _means(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """One point for each x: a peer that was measured beside several kinds of weights was measured several times."""
    xs = dict.fromkeys(x for x, _ in points)
    return [(x, sum(y for at, y in points if at == x) / sum(at == x for at, _ in points)) for x in xs]
