"""What the benchmarks share: pairs timed in turn, what the machine is, and a table that says both."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("logitmill", "torch", "transformers", "bitsandbytes")

#: the strategies that are compared, by name: logitmill's text and transformers' arguments for the same law
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "greedy": ("greedy", {"do_sample": False}),
    "sampled": (
        "temperature(0.8) | top_k(50) | top_p(0.95) | sample",
        {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95},
    ),
}


@dataclass(frozen=True)
class Line:
    """One row of a table. Speeds are medians in tokens a second, all rows together; ratios are of single pairs."""

    setting: str
    strategy: str
    batch: int
    logitmill: float
    transformers: float
    ratio: float
    lowest: float
    highest: float
    same_tokens: str


def same_length_prompts(tokenizer: Any, text: str, batch: int, length: int) -> list[list[int]]:
    """``batch`` prompts of ``length`` tokens, none like another, so that no side has to pad."""
    ids = tokenizer(text * (1 + 4 * (length + batch) // len(text)), add_special_tokens=False)["input_ids"]
    return [ids[i : i + length] for i in range(batch)]


def compare(
    setting: str, strategy: str, engine: Any, peer: Any, prompts: list[list[int]], tokens: int, pairs: int
) -> Line:
    """``engine.generate`` and transformers' ``peer.generate``, each to the text, in turn, after a try of each."""
    text, arguments = STRATEGIES[strategy]
    whole = f"{text} until max_tokens({tokens})"
    ids = torch.tensor(prompts, device=peer.device)

    def ours(turn: int) -> list[list[int]]:
        completions = engine.generate(prompts, strategy=whole, seed=turn, progress=False)
        return [list(completion.raise_for_error().tokens) for completion in completions]

    def theirs(turn: int) -> list[list[int]]:
        torch.manual_seed(turn)
        out = peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=0,
            **arguments,
        )[:, ids.shape[1] :]
        engine.tokenizer.batch_decode(out)
        return [list(row) for row in out.tolist()]

    first = ours(0), theirs(0)
    for rows in first:
        assert [len(row) for row in rows] == [tokens] * len(prompts), (
            "a side ended early: the comparison would not be one"
        )
    speeds: list[tuple[float, float]] = []
    for turn in range(1, pairs + 1):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        seconds = {run: timed(run, turn) for run in order}
        made = tokens * len(prompts)
        speeds.append((made / seconds[ours], made / seconds[theirs]))
    ratios = [a / b for a, b in speeds]
    return Line(
        setting, strategy, len(prompts),
        statistics.median(a for a, _ in speeds), statistics.median(b for _, b in speeds),
        statistics.median(ratios), min(ratios), max(ratios), agreement(*first) if strategy == "greedy" else "",
    )  # fmt: skip


def timed(run: Callable[[int], Any], turn: int) -> float:
    """Seconds of one call, the device's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run(turn)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def agreement(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> str:
    """How many tokens of each row are the same up to the first that is not: the least over the rows, of all."""
    shared = []
    for a, b in zip(ours, theirs, strict=True):
        same = [x == y for x, y in zip(a, b, strict=True)]
        shared.append(same.index(False) if False in same else len(same))
    return f"{min(shared)} of {len(ours[0])}"


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} logical cores, {torch.get_num_threads()} threads used",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(packages),
        "commit": _commit(),
        "load": f"{os.getloadavg()[0]:.1f} in the minute before" if hasattr(os, "getloadavg") else "unknown",
    }
    if torch.cuda.is_available():
        facts["gpu"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def report(name: str, title: str, facts: dict[str, str], lines: Sequence[Line], notes: Sequence[str]) -> str:
    """Print the table and write it to results/<name>.md and .json. Returns the Markdown."""
    rows = [f"# {title}", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    rows += [
        "| | strategy | batch | logitmill, tokens/s | transformers, tokens/s "
        "| ratio (lowest to highest) | same greedy tokens |"
    ]
    rows += ["|---|---|---|---|---|---|---|"]
    for line in lines:
        ratio = f"**{line.ratio:.2f}** ({line.lowest:.2f} to {line.highest:.2f})"
        speeds = f"{line.logitmill:.1f} | {line.transformers:.1f}"
        rows.append(f"| {line.setting} | {line.strategy} | {line.batch} | {speeds} | {ratio} | {line.same_tokens} |")
    text = "\n".join([*rows, "", *notes]).replace("|  |", "| |") + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, "utf-8")
    document = {"title": title, "machine": facts, "lines": [asdict(line) for line in lines], "notes": list(notes)}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(text)
    return text
