"""What choosing a token costs under a strategy, by vocabulary and rows, without a model: pipeline, law and draw.

The logits fall with the logarithm of a token's rank, as a language model's do, with noise on them: how many tokens a
truncation keeps, and so what it costs, is then about what it is on text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .sampling import pipeline
from .turns import Spread

if TYPE_CHECKING:
    from torch import Tensor

#: what is measured where nothing is asked for
STAGES = (
    "greedy",
    "sample",
    "sampled",
    "top_p(0.95) | sample",
    "min_p(0.05) | sample",
    "typical(0.95) | sample",
    "top_n_sigma(1) | sample",
    "repetition(1.1) | sample",
)
HISTORY = 256  # tokens of each row so far
RUNS, SECONDS = 200, 0.25  # at most so many steps are timed, for at most so long
FEWEST = 5  # steps


@dataclass(frozen=True)
class Cost:
    """``milliseconds`` of one step: the choice of ``batch`` tokens out of ``vocabulary``."""

    strategy: str
    batch: int
    vocabulary: int
    milliseconds: Spread


def costs(
    strategies: Sequence[str], batches: Sequence[int], vocabularies: Sequence[int], device: str = "cpu"
) -> Iterator[Cost]:
    """One cost after another. Raises StrategyError for a strategy that is none, or needs a model's tokenizer."""
    whole = {text: pipeline(text) for text in strategies}
    for text, strategy in whole.items():
        for batch in batches:
            for vocabulary in vocabularies:
                yield Cost(text, batch, vocabulary, _measured(strategy, _logits(batch, vocabulary).to(device)))


def _logits(rows: int, columns: int) -> Tensor:
    """float32 [rows, columns], the same for the same shape."""
    import torch

    generator = torch.Generator().manual_seed(columns)
    falling = -1.1 * torch.arange(1, columns + 1).log()
    shuffled = torch.stack([falling[torch.randperm(columns, generator=generator)] for _ in range(rows)])
    return shuffled + 0.5 * torch.randn(rows, columns, generator=generator)


def _measured(strategy: Any, table: Tensor) -> Spread:
    """Milliseconds of a step: the median, and the middle half of the steps."""
    from ...core.dist import Dist
    from ...core.planner import plan
    from ...core.session import Fault, Session
    from ..testing.bench import context

    rows, columns = table.shape
    built = plan(strategy)
    kept: dict[Any, Any] = {}
    before = [[(7 * row + 13 * place) % columns for place in range(HISTORY)] for row in range(rows)]
    session = end = None
    taken: list[float] = []
    for turn in range(RUNS + 2):
        dist = Dist(table.clone())  # a step's own: what one step worked out is not the next one's
        ctx = context(dist, before, seeds=[turn * rows + row for row in range(rows)], prepared=kept)
        session = session or Session.opened(built, ctx)
        _wait(table)
        begin = time.perf_counter()
        try:
            session.propose(dist, ctx)
        except Fault as fault:
            raise fault.cause from None  # a stage that needs a tokenizer, say: its own words are enough
        _wait(table)
        taken.append(1e3 * (time.perf_counter() - begin))
        end = end or time.perf_counter() + SECONDS
        if len(taken) >= FEWEST + 2 and time.perf_counter() > end:
            break
    ordered = sorted(taken[2:])  # the first ones warm up
    quarter = len(ordered) // 4
    return Spread.of(ordered[quarter : len(ordered) - quarter])


def _wait(table: Tensor) -> None:
    """Until the device has done what it was given."""
    if table.is_cuda:
        import torch

        torch.cuda.synchronize(table.device)
