"""parity.md: what the tests recorded of each stage against each peer, and the reason where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from building.markdown import cell, paragraph, table
from building.stages import entries, slug

from logitmill.core.registry import Entry, Registry

PARITY = Path(__file__).resolve().parents[2] / "tests" / "parity"

#: what stands behind a peer's name
PEERS = {
    "transformers": "its own processors and criteria, in the same process",
    "llama.cpp": "its samplers' recorded answers (`make vectors`)",
    "llama.cpp (definition)": "its source restated in plain Python",
    "vllm (definition)": "vLLM's source restated in plain Python",
    "textgen (definition)": "text-generation-webui's source restated in plain Python",
    "paper": "the formula of the paper restated in plain Python",
    "torch": "torch.distributions and torch.optim.lr_scheduler",
}


def name(entry: Entry) -> str:
    """How a stage is called in the record: a schedule says what it is."""
    return f"{entry.name} (schedule)" if entry.kind == "schedule" else entry.name


def rows(record: dict[str, Any]) -> dict[str, dict[str, tuple[int, float]]]:
    """stage -> peer -> (cases, largest difference), over all files of the record."""
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for file in record["files"].values():
        for stage, peers in file.items():
            for peer, (cases, difference) in peers.items():
                before = found.setdefault(stage, {}).get(peer, (0, 0.0))
                found[stage][peer] = before[0] + cases, max(before[1], difference)
    return found


def page(registry: Registry) -> Iterator[str]:
    """The table, and the reasons."""
    record = json.loads((PARITY / "record.json").read_text("utf-8"))
    reasons = json.loads((PARITY / "reasons.json").read_text("utf-8"))
    found = rows(record)
    yield "# Parity"
    yield ""
    versions = ", ".join(f"{peer} {version}" for peer, version in record["peers"].items())
    yield paragraph(f"""
        What the tests in `tests/parity/` held against other engines: {versions}. A case is one row of logits (or one
        sequence, for a criterion) that both were given. The difference is the largest one between two probabilities,
        rounded up with room for another processor's rounding; *none* means that the logits, or the tokens, were the
        same to the last bit. `make parity` writes the record anew, and any run of the tests holds it.
    """)
    yield ""
    yield from table(("peer", "what it is"), list(PEERS.items()))
    yield "| stage | peer | cases | largest difference |"
    yield "|---|---|---:|---:|"
    for entry in entries(registry):
        for peer, (cases, difference) in sorted(found.get(name(entry), {}).items(), key=lambda row: _place(row[0])):
            told = "none" if difference == 0 else f"{difference:.0e}"
            yield f"| [{name(entry)}](stages/{slug(entry)}.md) | {peer} | {cases:,} | {told} |"
    yield ""
    yield "## Without a peer"
    yield ""
    yield from table(
        ("stage", "why, and what it is held by instead"),
        [
            (f"[{name(entry)}](stages/{slug(entry)}.md)", cell(reasons[name(entry)]))
            for entry in entries(registry)
            if name(entry) in reasons
        ],
    )


def _place(peer: str) -> int:
    return list(PEERS).index(peer)
