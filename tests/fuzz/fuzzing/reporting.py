"""What a run found, for a person: counts by kind of document and by outcome, versions, seed, and what was mended."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path

from fuzzing.watching import SECONDS, Tally

OUTCOMES = ("whole", "fragment", "refused", "failed")
PACKAGES = ("logitmill", "lark", "pydantic", "pydantic-core", "regex", "ruamel.yaml", "torch")
HELD = "## Found and mended"


def summary(tally: Tally) -> str:
    """One line."""
    ends = {outcome: sum(n for (_, how), n in tally.outcomes.items() if how == outcome) for outcome in OUTCOMES}
    words = ", ".join(f"{count:,} {outcome}" for outcome, count in ends.items())
    return f"{tally.tried:,} documents in {tally.seconds:.0f} s: {words}"


def write(file: Path, tally: Tally, seed: int) -> None:
    """The report. What a person wrote under "Found and mended" stays."""
    old = file.read_text("utf-8") if file.is_file() else ""
    kept = old[old.index(HELD) :] if HELD in old else f"{HELD}\n\nNothing yet.\n"
    file.write_text("\n".join(_lines(tally, seed)) + "\n" + kept, "utf-8")


def _lines(tally: Tally, seed: int) -> Iterator[str]:
    yield "# Documents by chance"
    yield ""
    yield 'Written by `make fuzz`; what is below "Found and mended" is written by hand.'
    yield ""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    today = datetime.datetime.now(datetime.UTC).date()
    yield f"- {today}, seed {seed}, {tally.tried:,} documents, {tally.seconds:.0f} s"
    yield f"- Python {platform.python_version()}, {versions}"
    yield f"- failures: {len(tally.failures)} (more than {SECONDS:g} s of processor time for one reading is one)"
    yield ""
    yield "A document is read, checked, written as text, on lines, as JSON and as YAML, and read again from each: every"
    yield "way has to end where it began, with one hash. A refusal has to be an error in words with a code."
    yield ""
    yield f"| kind of document | tried | {' | '.join(OUTCOMES)} |"
    yield f"|---|{'---|' * (len(OUTCOMES) + 1)}"
    kinds = sorted({kind for kind, _ in tally.outcomes})
    for kind in kinds:
        counts = [tally.outcomes[kind, outcome] for outcome in OUTCOMES]
        yield f"| {kind} | {sum(counts):,} | {' | '.join(f'{count:,}' for count in counts)} |"
    yield ""
    yield "Refusals by code: " + ", ".join(f"{code} {count:,}" for code, count in tally.codes.most_common()) + "."
    yield ""
    for failure in tally.failures:
        yield f"- document {failure.number} ({failure.kind}) breaks: {failure.law}"
    if tally.failures:
        yield ""


__all__ = ["summary", "write"]
