"""Workers that try documents, and one who watches from outside: a document that never ends is told and passed over."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

SECONDS = 2.0  # of processor time for one reading or writing of a document
WALL = 60.0  # of the clock, for one that waits instead


@dataclass
class Failure:
    """One document that broke a law, crashed or did not end."""

    number: int
    kind: str
    law: str
    detail: str
    content: str


@dataclass
class Tally:
    """What a run found."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind of document, how it ended)
    codes: Counter[str] = field(default_factory=Counter)  # of refusals
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values())


#: what tries document ``number``: (its kind, how it ended); raises what it likes
Trial = Callable[[int, Callable[[], None]], tuple[str, str]]


def attempt(trial: Trial, number: int, beat: Callable[[], None]) -> tuple[str, str] | Failure:
    """One document: how it ended, or what it broke. Anything raised that is not its own word is a crash."""
    try:
        return trial(number, beat)
    except Exception as error:  # whatever a document can make the language raise is what this is for
        law = getattr(error, "law", f"no crash ({type(error).__name__})")
        kind, content = getattr(error, "document", ("", ""))
        detail = str(error) if hasattr(error, "law") else traceback.format_exc(limit=-4)
        return Failure(number, kind, law, detail[:4000], content)


def _work(trial: Trial, numbers: range, now: Any, started: Any, out: Any) -> None:
    """In a worker: every document of ``numbers``, each told when it has ended."""

    def beat() -> None:
        started.value = time.process_time()

    for number in numbers:
        now.value = number
        beat()
        out.send(attempt(trial, number, beat))
    now.value = -1
    out.send(None)


class Worker:
    """One process and what is known of it."""

    def __init__(self, trial: Trial, numbers: range) -> None:
        context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
        self.trial, self.numbers = trial, numbers
        self.now, self.started = context.Value("q", numbers.start, lock=False), context.Value("d", 0.0, lock=False)
        self.inbox, out = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(trial, numbers, self.now, self.started, out), daemon=True)
        self.process.start()
        out.close()
        self.account = psutil.Process(self.process.pid)
        self.last, self.since = self.now.value, time.monotonic()

    def stuck(self) -> bool:
        """Whether the document it is at takes longer than any may."""
        if self.now.value != self.last:
            self.last, self.since = self.now.value, time.monotonic()
        try:
            times = self.account.cpu_times()
        except psutil.Error:  # it has ended
            return False
        spent = times.user + times.system - self.started.value
        return self.now.value >= 0 and (spent > SECONDS or time.monotonic() - self.since > WALL)

    def successor(self) -> Worker | None:
        """A worker for what comes behind the document that this one is at; this one is ended."""
        number = self.now.value
        self.process.kill()
        self.process.join()
        rest = range(number + self.numbers.step, self.numbers.stop, self.numbers.step)
        return Worker(self.trial, rest) if len(rest) else None


def watched(
    trial: Trial,
    count: int,
    processes: int,
    told: Callable[[Failure], None],
    describe: Callable[[int], tuple[str, str]],
) -> Tally:
    """Documents 0 to ``count`` in ``processes`` workers. ``describe`` gives kind and content of one that hung."""
    tally, begun = Tally(), time.monotonic()
    workers = [Worker(trial, range(first, count, processes)) for first in range(min(processes, count))]

    def fail(failure: Failure) -> None:
        tally.failures.append(failure)
        tally.outcomes[failure.kind, "failed"] += 1
        told(failure)

    while workers:
        for place, worker in enumerate(list(workers)):
            heard = _read(worker, tally, fail)
            after: Worker | None = worker
            if heard == "all":
                worker.process.join()
                after = None
            elif worker.stuck():
                _read(worker, tally, fail)
                kind, content = describe(worker.now.value)
                fail(Failure(worker.now.value, kind, "no hang", f"over {SECONDS:g} s of processor time", content))
                after = worker.successor()
            elif heard == "gone":
                worker.process.join()
                kind, content = describe(worker.now.value)
                code = worker.process.exitcode
                fail(Failure(worker.now.value, kind, "no crash (the process)", f"it ended with status {code}", content))
                after = worker.successor()
            workers[place] = after  # type: ignore[call-overload]
        workers = [worker for worker in workers if worker is not None]
        time.sleep(0.05)
    tally.seconds = time.monotonic() - begun
    return tally


def _read(worker: Worker, tally: Tally, fail: Callable[[Failure], None]) -> str:
    """Take what a worker has sent: "some" of it, "all" there is, or "gone" where the process ended in between."""
    try:
        while worker.inbox.poll():
            sent = worker.inbox.recv()
            if sent is None:
                return "all"
            if isinstance(sent, Failure):
                fail(sent)
                continue
            kind, how = sent
            word, _, code = how.partition(": ")
            tally.outcomes[kind, word] += 1
            tally.codes.update([code] if code else [])
    except EOFError:
        return "gone"
    return "some"


__all__ = ["SECONDS", "WALL", "Failure", "Tally", "Trial", "attempt", "watched"]
