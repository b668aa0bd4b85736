"""What `make bench-check` runs: measures the pairs again; a ratio under nine tenths of the committed one is a failure.

    python benchmarks/regress.py                     against results/ratios.json
    python benchmarks/regress.py --only "16 bits"    one section
    python benchmarks/regress.py --record            measure, and write results/ratios.json anew

Only ratios are held, since both sides of a pair drift together where a machine is slow. A section with a ratio that
fell is measured again, up to twice and with more turns, before that counts: what fails was low every time.

What is recorded is of one machine: a pair that could not be measured anew stays as it was on the same processor, cores,
threads and torch, and is dropped elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from run import RESULTS, add_options, pythons, told
from section import Asked, Section
from sections import HELD

from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.turns import Spread

RATIOS = RESULTS / "ratios.json"
LEAST = 0.9  # of the committed ratio
AGAIN = 2  # times that a section with a fallen ratio is measured again

Measure = Callable[[Asked], Section | None]


@dataclass(frozen=True)
class Held:
    """A committed ratio beside what was measured now: each time, as often as it took."""

    name: str
    committed: float
    now: tuple[Spread, ...]

    @property
    def best(self) -> float:
        return max(spread.median for spread in self.now)

    @property
    def fell(self) -> bool:
        return self.best < LEAST * self.committed

    def __str__(self) -> str:
        times = "; then ".join(f"{s.median:.2f} ({s.lowest:.2f} to {s.highest:.2f})" for s in self.now)
        share = self.best / self.committed
        word = "FELL" if self.fell else "held"
        return f"{word}  {self.name}: committed {self.committed:.2f}, now {times}: {share:.0%} of it"


def check(committed: Mapping[str, float], measure: Measure, asked: Asked) -> list[Held]:
    """The committed ratios that this section has, measured; again where one fell. Empty where nothing was measured."""
    found: dict[str, list[Spread]] = {}
    for attempt in range(1 + AGAIN):
        section = measure(replace(asked, turns=asked.turns * (1 + attempt)))
        if section is None:
            return []
        for name, spread in section.ratios.items():
            found.setdefault(name, []).append(spread)
        held = [Held(name, committed[name], tuple(now)) for name, now in found.items() if name in committed]
        fallen = [one for one in held if one.fell]
        if not fallen:
            break
        if attempt < AGAIN:
            asked.say(f"{len(fallen)} under {LEAST:.0%} of the committed ratio: measured again")
    return held


def report(held: Sequence[Held], committed: Mapping[str, float]) -> int:
    """Print every ratio; 1 where one fell or there was none to hold."""
    for one in held:
        print(one)
    for name in sorted(set(committed) - {one.name for one in held}):
        print(f"----  {name}: not measured here")
    fallen = sum(one.fell for one in held)
    print(f"\n{len(held)} ratios measured, {fallen} under {LEAST:.0%} of what is committed")
    return 1 if fallen or not held else 0


def record(asked: Asked, names: Sequence[str]) -> dict[str, Any]:
    """The ratios as they are now, with the machine."""
    facts, ratios = machine(), dict[str, Any]()
    for name in names:
        section = HELD[name](asked)
        ratios |= {} if section is None else {pair: asdict(spread) for pair, spread in section.ratios.items()}
    return {"machine": facts, "ratios": ratios}


def like(facts: Mapping[str, str]) -> tuple[str, ...]:
    """What of a machine ratios depend on: processor, cores and threads, the GPU, torch."""
    torch = [part for part in facts.get("versions", "").split(", ") if part.startswith("torch ")]
    return (facts.get("processor", ""), facts.get("gpu", ""), *torch)


def merged(before: Mapping[str, Any], made: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """``made`` with the ratios of ``before`` that it lacks, where both are of one machine. Says what became of each."""
    rest = {name: spread for name, spread in before["ratios"].items() if name not in made["ratios"]}
    was, now = like(before.get("machine", {})), like(made["machine"])
    if was == now:
        for name in rest:
            say(f"kept     {name}: not measured, and recorded on a machine like this one")
        return {**made, "ratios": {**before["ratios"], **made["ratios"]}}
    for name in rest:
        say(f"dropped  {name}: not measured, and recorded on another machine ({_words(was)}; this is {_words(now)})")
    return made


def _words(machine: Sequence[str]) -> str:
    return ", ".join(filter(None, machine)) or "nothing said of it"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, HELD)
    parser.add_argument("--record", action="store_true", help="write results/ratios.json instead of holding it")
    given = parser.parse_args(arguments)
    asked, names = Asked(given.turns, told, pythons(given)), given.only or list(HELD)
    held = json.loads(RATIOS.read_text("utf-8")) if RATIOS.is_file() else {"ratios": {}}
    if given.record:
        made = record(asked, names)
        if not made["ratios"]:
            print("error: nothing was measured: what is recorded stays as it is", file=sys.stderr)
            return 1
        made = merged(held, made, print)
        RATIOS.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
        print(f"{RATIOS}: {len(made['ratios'])} ratios")
        return 0
    if not held["ratios"]:
        print(f"error: {RATIOS} holds no ratios: measure them with --record and commit the file", file=sys.stderr)
        return 1
    committed = {name: spread["median"] for name, spread in held["ratios"].items()}
    was, now = like(held.get("machine", {})), like(machine())
    if was != now:
        print(f"recorded on another machine ({_words(was)}; this is {_words(now)}): ratios may differ by that alone")
    return report([one for name in names for one in check(committed, HELD[name], asked)], committed)


if __name__ == "__main__":
    sys.exit(main())
