"""What the loop costs beside the model and the sampler, what traces and a start cost, and what a queue gains.

    python benchmarks/loop.py                    the default model in int4, about two minutes on 2 cores
    python benchmarks/loop.py --quick            fewer steps and requests, within a minute
    python benchmarks/loop.py --weights nf4 --model FOLDER

The loop's own time is what is left of a step without the runner's forward and without running the pipeline and drawing.
Three observers listen to every step. A start is a whole process of `logitmill run`, up to the first character on its
standard output; the first of them, which may convert the model, does not count.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from section import Asked, Section

import logitmill as lm
from logitmill import hookimpl
from logitmill.core.loader import plugins
from logitmill.core.session import Session
from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.measure import prompts_of
from logitmill.plugins.bench.table import markdown, ratio
from logitmill.plugins.bench.turns import Spread

SAMPLED = "temperature(0.8) | top_k(50) | top_p(0.95) | sample"
OBSERVERS = 3
ROWS = 8
BATCHES = (1, ROWS)


@dataclass(frozen=True)
class Size:
    """How much to measure."""

    tokens: int = 128  # of a generation whose steps are timed
    turns: int = 5
    starts: int = 3
    requests: int = 64
    median: float = 40.0  # of the lengths in the queue

    @classmethod
    def quick(cls) -> Size:
        return cls(tokens=48, turns=2, starts=2, requests=32, median=12.0)


@dataclass
class Clock:
    """Seconds of each step, of the runner in it, and of pipelines and draws."""

    steps: list[float] = field(default_factory=list)
    runner: list[float] = field(default_factory=list)
    choosing: list[float] = field(default_factory=list)

    @property
    def own(self) -> list[float]:
        """Seconds of each step that are the loop's, but for those that prefill or end something."""
        kept = zip(self.steps[2:-1], self.runner[2:-1], self.choosing[2:-1], strict=True)
        return [step - runner - choosing for step, runner, choosing in kept]


class Listener:
    """Counts steps."""

    heard = 0

    @hookimpl
    def on_step(self, step: Any) -> None:
        self.heard += 1


@contextmanager
def listeners(count: int) -> Iterator[None]:
    """So many observers for engines that are loaded meanwhile."""
    names = [f"listener {number}" for number in range(count)]
    for name in names:
        plugins().add(Listener(), name)
    try:
        yield
    finally:
        for name in names:
            plugins().remove(name)


@contextmanager
def clocked(engine: Any) -> Iterator[Clock]:
    """Times every step of the engine's loop."""
    clock = Clock()
    step, propose = engine.loop.step, Session.propose

    def timed(target: list[float], run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            try:
                return run(*args)
            finally:
                target[-1] += time.perf_counter() - begin

        return call

    def one_step() -> Any:
        for target in (clock.steps, clock.runner, clock.choosing):
            target.append(0.0)
        return timed(clock.steps, step)()

    engine.loop.step = one_step
    engine.runner.decode = timed(clock.runner, engine.runner.decode)
    Session.propose = timed(clock.choosing, propose)  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        del engine.loop.step, engine.runner.decode
        Session.propose = propose  # type: ignore[method-assign]


@dataclass(frozen=True)
class Cost:
    """Of one batch size, in milliseconds: a step, and what of it is the loop's own; a step with a trace beside one
    without, turn by turn.
    """

    batch: int
    step: float
    own: float
    traced: Spread


def cost(engine: Any, batch: int, size: Size) -> Cost:
    """The loop's own time and a trace's, from generations in turn."""
    prompts = prompts_of(engine.tokenizer, batch)

    def steps(turn: int, *, trace: bool) -> Clock:
        with clocked(engine) as clock:
            made = engine.generate(
                prompts, f"{SAMPLED} until max_tokens({size.tokens})", seed=turn, trace=trace, progress=False
            )
        for completion in made:
            completion.raise_for_error()
        return clock

    steps(0, trace=False), steps(0, trace=True)
    plain, ratios = [], []
    for turn in range(1, size.turns + 1):
        off, on = steps(turn, trace=False), steps(turn, trace=True)
        plain.append(off)
        ratios.append(statistics.median(on.steps[2:-1]) / statistics.median(off.steps[2:-1]))
    whole = statistics.median(step for clock in plain for step in clock.steps[2:-1])
    own = statistics.median(part for clock in plain for part in clock.own)
    return Cost(batch, 1e3 * whole, 1e3 * own, Spread.of(ratios))


def start(model: str | None, weights: str, times: int) -> Spread:
    """Seconds from the start of a process to the first character, of ``times`` starts after one that is not counted."""
    command = [
        sys.executable,
        "-m",
        "logitmill",
        "run",
        "Once upon a time",
        "-q",
        weights,
        "-s",
        "greedy until max_tokens(4)",
    ]
    found = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        with subprocess.Popen(
            [*command, *(("-m", model) if model else ())], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            if not process.stdout.read(1):
                raise SystemExit(f"no text came from: {' '.join(command)}")
            found.append(time.perf_counter() - begin)
            process.stdout.read()
    return Spread.of(found[1:])


@dataclass(frozen=True)
class Queue:
    """A queue of ragged requests beside batches of ROWS at a time.

    ``busy``: the share of the rows that had a token to make, over all steps; ``while_waiting``: over the steps at whose
    end somebody still waited. ``static``: how many times the throughput of batches that run to the end of their longest
    row; ``leaving``: of batches whose rows leave when they end.
    """

    lengths: Sequence[int]
    busy: float
    while_waiting: float
    static: float
    leaving: float


def lengths_of(count: int, median: float) -> list[int]:
    """Heavy-tailed: quantiles of a lognormal with sigma 1.2 about the median, from 8 to 512, in an order by chance."""
    normal = statistics.NormalDist(0.0, 1.2)
    quantiles = [median * math.exp(normal.inv_cdf((i + 0.5) / count)) for i in range(count)]
    lengths = [min(512, max(8, round(quantile))) for quantile in quantiles]
    random.Random(0).shuffle(lengths)
    return lengths


def queue(engine: Any, size: Size) -> Queue:
    """The same requests through the queue and in batches, each once, after a warm-up."""
    lengths = lengths_of(size.requests, size.median)
    chance = random.Random(5)
    ids = prompts_of(engine.tokenizer, size.requests)
    prompts = [row[: chance.randint(8, len(row))] for row in ids]

    def strategies(of: Sequence[int]) -> list[str]:
        return [f"{SAMPLED} until max_tokens({length})" for length in of]

    def seconds(parts: Sequence[tuple[Sequence[list[int]], Sequence[int]]]) -> float:
        begin = time.perf_counter()
        for some, of in parts:
            for completion in engine.generate(list(some), strategies(of), seed=1, progress=False):
                completion.raise_for_error()
        return time.perf_counter() - begin

    cuts = [slice(i, i + ROWS) for i in range(0, size.requests, ROWS)]
    seconds([(prompts[:ROWS], [8] * ROWS)])
    busy: list[tuple[int, bool]] = []
    step = engine.loop.step

    def counted() -> Any:
        events = step()
        busy.append((sum(event.token is not None for event in events), bool(engine.loop.queue)))
        return events

    engine.loop.step = counted
    continuous = seconds([(prompts, lengths)])
    del engine.loop.step
    static = seconds([(prompts[cut], [max(lengths[cut])] * len(lengths[cut])) for cut in cuts])
    leaving = seconds([(prompts[cut], lengths[cut]) for cut in cuts])
    waiting = [made for made, waits in busy if waits]
    return Queue(
        lengths,
        sum(made for made, _ in busy) / (ROWS * len(busy)),
        sum(waiting) / (ROWS * len(waiting)) if waiting else 1.0,
        static / continuous,
        leaving / continuous,
    )


def loop(asked: Asked, size: Size | None = None, model: str | None = None, weights: str = "int4") -> Section:
    """The section."""
    size = size or Size(turns=asked.turns)
    rows, ratios = [], dict[str, Spread]()
    with listeners(OBSERVERS), lm.load(model, quantize=None if weights == "none" else weights, max_rows=ROWS) as engine:
        for batch in BATCHES:
            asked.say(f"the loop's own time and a trace's, batch {batch} ...")
            found = cost(engine, batch, size)
            rows.append((f"the loop's own time, batch {batch}", f"{found.own:.2f} ms of {found.step:.2f}",
                         f"{found.own / found.step:.1%} of the step"))  # fmt: skip
            rows.append((f"a step with a trace, batch {batch}", "", f"{ratio(found.traced)} times one without"))
        asked.say(f"a queue of {size.requests} requests over {ROWS} rows ...")
        line = queue(engine, size)
        name = engine.describe()["model"]
    rows.append((f"rows busy, {size.requests} requests over {ROWS} rows", f"{line.busy:.0%} over all",
                 f"{line.while_waiting:.0%} while others wait"))  # fmt: skip
    ratios["loop: queue beside static batches"] = Spread.of([line.static])
    rows.append(("throughput beside batches that run to their longest", "", f"{line.static:.2f} times"))
    rows.append(("throughput beside batches whose rows leave", "", f"{line.leaving:.2f} times"))
    asked.say(f"{size.starts + 1} starts of logitmill run ...")
    first = start(model, weights, size.starts)
    rows.append(
        ("first token of a second start", f"{first.median:.2f} s ({first.lowest:.2f} to {first.highest:.2f})", "")
    )
    lengths = sorted(line.lengths)
    notes = [
        f"{name}, {weights}, `{SAMPLED}`, {OBSERVERS} observers. Lengths in the queue: the quantiles of a "
        f"lognormal with sigma 1.2, in an order drawn once: {lengths[0]} to {lengths[-1]}, median "
        f"{statistics.median(lengths):.0f}, mean {statistics.mean(lengths):.0f} tokens; prompts of 8 to 32 tokens. "
        "Near its end a queue has fewer requests left than rows.",
    ]
    return Section("The loop", ("", "", ""), rows, notes, ratios)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps, turns and requests")
    parser.add_argument("-m", "--model", help="hub id, folder or GGUF file; default: logitmill's default model")
    parser.add_argument("--weights", default="int4", help="as logitmill run -q takes it; default: int4")
    given = parser.parse_args(arguments)
    size = Size.quick() if given.quick else Size()
    facts = machine()
    asked = Asked(size.turns, lambda words: print(words, file=sys.stderr, flush=True))
    section = loop(asked, size, given.model, given.weights)
    print("\n".join([f"# {section.title}", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]))
    print("\n".join([*markdown(section.head, section.rows), "", *section.notes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
