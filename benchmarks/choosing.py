"""Choosing a token beside transformers' own logits processors and torch.multinomial, on the same logits, in turn.

    python benchmarks/choosing.py            three vocabularies, three batches: some minutes
    python benchmarks/choosing.py --quick    the shapes that the issue of speed is about, within a minute

transformers' processors are called one after another, then softmax and torch.multinomial, as its generate does. Where
it has no such stage the peer is what other engines run: vLLM's dense presence and frequency penalties, and
text-generation-webui's DRY. logitmill's side is a session's ``propose``, which is what its loop runs at each step, and
``Strategy.draw``, which also checks what it is given, plans once, and makes its noise anew.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from peers_of_choosing import PEERS, Peer
from section import Asked, Section
from torch import Tensor

from logitmill import Strategy
from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.planner import plan
from logitmill.core.rng import Noise, RowNoise
from logitmill.core.session import Session
from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.table import markdown
from logitmill.plugins.bench.turns import Spread
from logitmill.plugins.testing.bench import context

VOCABULARIES, BATCHES = (32_768, 49_152, 128_256), (1, 8, 64)
HISTORY, PROMPT = 2000, 500  # tokens of each row, for the penalties, and how many of them were given
WARM, TIMED = 8, 16  # calls of each of logitmill's sides in a turn: behind the peer's work the first find cold caches
ISSUE = (("tail", 49_152, 8), ("top_p", 128_256, 8), ("penalties", 49_152, 8), ("penalties", 128_256, 8))

#: what is compared, by name
WORK: dict[str, str] = {
    "tail": "temperature(0.8) | top_k(50) | top_p(0.95) | sample",
    "top_p": "top_p(0.9) | sample",
    "min_p": "min_p(0.05) | sample",
    "typical": "typical(0.9) | sample",
    "top_n_sigma": "top_n_sigma(1.0) | sample",
    "epsilon": "epsilon(0.0005) | sample",
    "eta": "eta(0.002) | sample",
    "repetition": "repetition(1.1) | sample",
    "penalties": "repetition(1.1) | presence(0.3) | frequency(0.2) | dry(0.8) | sample",
    "watermark": "watermark(0.25, 2.0) | sample",
    "sample": "sample",
    "gumbel": "gumbel",
}


@dataclass(frozen=True)
class Choice:
    """One line: milliseconds of a step, and how many times as fast logitmill was, turn by turn."""

    work: str
    logits: str
    vocabulary: int
    batch: int
    step: Spread  # a session's propose
    draw: Spread  # Strategy.draw
    peer: Spread
    ratio: Spread  # of the step
    ratio_of_draw: Spread


def peaked(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """As a language model's: falling with the logarithm of a token's rank, with noise on them."""
    falling = -1.1 * torch.arange(1, columns + 1).log()
    table = torch.stack([falling[torch.randperm(columns, generator=generator)] for _ in range(rows)])
    return table + 0.5 * torch.randn(rows, columns, generator=generator)


def flat(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Normal, of deviation 1: a nucleus of more than half the vocabulary, which no text has."""
    return torch.randn(rows, columns, generator=generator)


LOGITS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {"peaked": peaked, "flat": flat}


def measure(
    shapes: Iterable[tuple[str, int, int]], turns: int, kinds: Sequence[str] = tuple(LOGITS),
    say: Callable[[str], None] = lambda words: None,
) -> list[Choice]:  # fmt: skip
    """A line for each (work, vocabulary, batch) and kind of logits, ``turns`` turns each."""
    made = []
    for work, vocabulary, batch in shapes:
        for kind in kinds:
            say(f"{work}, {kind} logits, {batch} x {vocabulary:,} ...")
            made.append(_measured(work, kind, vocabulary, batch, turns))
    return made


def _measured(work: str, kind: str, vocabulary: int, batch: int, turns: int) -> Choice:
    generator = torch.Generator().manual_seed(vocabulary + batch)
    table = LOGITS[kind](batch, vocabulary, generator)
    strategy, peer = Strategy.parse(WORK[work]), PEERS[work]
    tokens = torch.randint(0, 4000, (batch, HISTORY), generator=generator) if peer.history else None
    step, draw, theirs = _step(strategy, table, tokens), _draw(strategy, table, tokens), _theirs(peer, table, tokens)
    seconds: dict[str, list[float]] = {"step": [], "draw": [], "peer": []}
    for turn in range(turns + 1):
        for name, run, warm in (("peer", theirs, 0), ("step", step, WARM), ("draw", draw, WARM)):
            taken = [_once(run, turn * 100 + inner) for inner in range(warm + (TIMED if warm else 2))]
            seconds[name].append(statistics.median(taken[warm:]))
    timed = {name: values[1:] for name, values in seconds.items()}  # the first warms up

    def ratio(name: str) -> Spread:
        return Spread.of([b / a for a, b in zip(timed[name], timed["peer"], strict=True)])

    return Choice(
        work, kind, vocabulary, batch, Spread.of(timed["step"]), Spread.of(timed["draw"]), Spread.of(timed["peer"]),
        ratio("step"), ratio("draw"),
    )  # fmt: skip


def _once(run: Callable[[int], object], turn: int) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    run(turn)
    return 1e3 * (time.perf_counter() - begin)


def _step(strategy: Strategy, table: Tensor, tokens: Tensor | None) -> Callable[[int], object]:
    """What a loop runs at each step; counts of the history are kept from one to the next, as there."""
    before = [row.tolist() for row in tokens] if tokens is not None else [[] for _ in table]
    first = context(Dist(table), [row[:PROMPT] for row in before], [row[PROMPT:] for row in before])
    session = Session.opened(plan(strategy), first)
    noise, positions = [RowNoise(row) for row in range(len(table))], [len(row) for row in before]

    def step(turn: int) -> object:
        dist = Dist(table)
        ctx = Context(first.history, first.vocab, dist, Noise(noise, [place + turn for place in positions]))
        return session.propose(dist, ctx)

    return step


def _draw(strategy: Strategy, table: Tensor, tokens: Tensor | None) -> Callable[[int], object]:
    if tokens is None:
        return lambda turn: strategy.draw(table, seed=turn)
    before, behind = tokens[:, :PROMPT], tokens[:, PROMPT:]
    return lambda turn: strategy.draw(table, prompt=before, output=behind, seed=turn)


def _theirs(peer: Peer, table: Tensor, tokens: Tensor | None) -> Callable[[int], object]:
    ids = torch.zeros(len(table), 1, dtype=torch.int64) if tokens is None else tokens
    processors = peer.make()

    def choose(turn: int) -> Tensor:
        scores = table
        for process in processors:
            scores = process(ids, scores)
        return torch.multinomial(scores.softmax(-1), 1)

    return choose


def choosing(asked: Asked) -> Section:
    """The section: the shapes that the targets name, on logits like a language model's."""
    return section(measure(ISSUE, max(3, 3 * asked.turns), ("peaked",), asked.say))


def section(choices: Sequence[Choice]) -> Section:
    head = ("work", "logits", "vocabulary", "batch", "a step, ms", "Strategy.draw, ms", "peer, ms", "step", "draw")
    rows = [
        (
            choice.work, choice.logits, f"{choice.vocabulary:,}", str(choice.batch), f"{choice.step.median:.3g}",
            f"{choice.draw.median:.3g}", f"{choice.peer.median:.3g}", _times(choice.ratio),
            _times(choice.ratio_of_draw),
        )
        for choice in choices
    ]  # fmt: skip
    used = dict.fromkeys(choice.work for choice in choices)
    notes = [*(f"{work}: `{WORK[work]}`, beside {PEERS[work].name}." for work in used)]
    ratios = {
        f"choosing: {choice.work}, {choice.vocabulary}, {choice.batch}": choice.ratio
        for choice in choices
        if choice.logits == "peaked"
    }
    return Section("Choosing a token, beside transformers", head, rows, notes, ratios)


def _times(spread: Spread) -> str:
    return f"{spread.median:.1f} ({spread.lowest:.1f} to {spread.highest:.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the shapes of the targets alone")
    parser.add_argument("--work", nargs="+", choices=list(WORK), help="these alone")
    parser.add_argument("--turns", type=int, default=9, help="how often each side runs, in turn")
    given = parser.parse_args(arguments)
    shapes = [(work, size, batch) for work in WORK for size in VOCABULARIES for batch in BATCHES]
    if given.quick:
        shapes = [*ISSUE, *((work, 49_152, 8) for work in WORK if work not in ("tail", "penalties"))]
    shapes = [shape for shape in shapes if given.work is None or shape[0] in given.work]
    made = section(measure(shapes, given.turns, say=lambda words: print(words, file=sys.stderr, flush=True)))
    for fact, value in machine().items():
        print(f"- {fact}: {value}")
    print("", *markdown(made.head, made.rows), "", *made.notes, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
