"""Documents by chance, through reading, checking, writing and back: no crash, no hang, no end but the beginning.

    python tests/fuzz/run.py                          2,000 documents, as the suite does
    python tests/fuzz/run.py --count 100000 --processes 2 --report tests/fuzz/report.md      make fuzz
    python tests/fuzz/run.py --number 4711            show document 4711 of the seed, and its smallest failing part
    python tests/fuzz/run.py --odds --count 5000      strategies on random logits instead

Document ``n`` of a seed is the same one on every machine, for as long as the stages are the same. Exit status 1 where a
law was broken.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from fuzzing import documents, laws, odds, reporting, shrinking, watching  # noqa: E402  # found beside this file


def trial(seed: int, number: int, beat: Callable[[], None]) -> tuple[str, str]:
    """Read one document under every law."""
    laws.clock.beat = beat  # type: ignore[method-assign]
    made = documents.document(seed, number)
    beat()
    try:
        return made.kind, laws.read(made.content, made.form)
    except Exception as error:
        error.document = (made.kind, made.shown())  # type: ignore[attr-defined]
        raise


def odds_trial(seed: int, number: int, beat: Callable[[], None]) -> tuple[str, str]:
    """Run one strategy on random logits."""
    laws.clock.beat = beat  # type: ignore[method-assign]
    made, given = odds.case(seed, number, tokenizer())
    beat()
    try:
        return "strategy on logits", odds.tried(made, given)
    except Exception as error:
        error.document = ("strategy on logits", f"{made.to_text()}\n{given}")  # type: ignore[attr-defined]
        raise


@functools.cache
def tokenizer() -> Any:
    """The small tokenizer of tests/bench.py."""
    spec = importlib.util.spec_from_file_location("bench", HERE.parent / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    return bench.tokenizer()


def describe(seed: int, number: int) -> tuple[str, str]:
    made = documents.document(seed, number)
    return made.kind, made.shown()


def smallest(failure: watching.Failure, seed: int) -> str:
    """The smallest part of a failing document that breaks the same law. What hung is not tried again."""
    if failure.law in ("no hang", "no crash (the process)") or failure.kind == "strategy on logits":
        return failure.content
    made = documents.document(seed, failure.number)

    def fails(content: Any) -> bool:
        found = watching.attempt(lambda number, beat: (made.kind, laws.read(content, made.form)), failure.number, print)
        return isinstance(found, watching.Failure) and found.law == failure.law

    laws.clock.beat = lambda: None  # type: ignore[method-assign]
    return str(shrinking.smallest(made.content, fails))


def one(seed: int, number: int) -> int:
    """Show one document, how it ends, and what is left of it where it fails."""
    made = documents.document(seed, number)
    print(f"{made.kind}, read as {made.form}:\n{made.shown()}\n")
    ended = watching.attempt(functools.partial(trial, seed), number, lambda: None)
    if isinstance(ended, watching.Failure):
        print(f"{ended.law}\n{ended.detail}\n\nthe smallest:\n{smallest(ended, seed)}")
        return 1
    print(ended[1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Try documents made by chance.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--number", type=int, help="show this one document")
    parser.add_argument("--odds", action="store_true", help="strategies on random logits")
    parser.add_argument("--report", type=Path, help="write the counts to this file")
    given = parser.parse_args()
    if given.number is not None:
        return one(given.seed, given.number)
    tokenizer()
    documents.names()  # imported once, before the workers part

    def told(failure: watching.Failure) -> None:
        print(
            f"document {failure.number} ({failure.kind}) breaks: {failure.law}\n{failure.detail[:1500]}",
            file=sys.stderr,
        )
        print(f"smallest: {smallest(failure, given.seed)[:1500]}\n", file=sys.stderr, flush=True)

    chosen = odds_trial if given.odds else trial
    what = (
        (lambda n: ("strategy on logits", str(odds.case(given.seed, n, None))))
        if given.odds
        else functools.partial(describe, given.seed)
    )
    tally = watching.watched(functools.partial(chosen, given.seed), given.count, given.processes, told, what)
    print(reporting.summary(tally))
    if tally.codes:
        print("refused: " + ", ".join(f"{code} {count:,}" for code, count in tally.codes.most_common()))
    if given.report is not None:
        reporting.write(given.report, tally, given.seed)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
