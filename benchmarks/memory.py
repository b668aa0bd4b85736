"""The memory of a process that has loaded a model and generated, for each way to hold the weights.

    python benchmarks/memory.py                      the default model, within a minute
    python benchmarks/memory.py -m MODEL --weights int4,nf4

Every line is a process of its own: a second start, since the first of a model may convert it, and the first of a
quantization may keep what it made. It generates full rows in a batch, and then says what it has resident (the libraries
included) and, on Linux, what it had at most. Beside it stands what is allowed: 1.3 times the weights, the cache, and
600 MB for everything else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from section import Asked, Section
from torch import Tensor, nn

import logitmill as lm
from logitmill.core.model.packed import OneDnnLinear
from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.measure import PROMPT, loading, prompts_of, weights_of
from logitmill.plugins.bench.sampling import USUAL
from logitmill.plugins.bench.table import markdown
from logitmill.plugins.bench.turns import Spread

WEIGHTS = ("int4", "bfloat16", "float32")
ROWS, TOKENS = 8, 128
FACTOR, REST = 1.3, 600_000_000  # of what is allowed
MB = 1e6


def held(model: str | None, weights: str) -> dict[str, Any]:
    """Of this process, in bytes: weights, cache, resident memory, and the most that was resident (None: unknown)."""
    quantize, dtype = loading(weights, "auto")
    engine: Any
    with lm.load(model, quantize=quantize, dtype=dtype, max_rows=ROWS, max_length=PROMPT + TOKENS) as engine:
        whole = f"{USUAL['sampled']} until max_tokens({TOKENS})"
        for completion in engine.generate(prompts_of(engine.tokenizer, ROWS), whole, seed=1, progress=False):
            completion.raise_for_error()
        return {
            "name": engine.describe()["model"],
            "how": weights_of(engine),
            "weights": sum(tensor.numel() * tensor.element_size() for tensor in tensors(engine.model)),
            "cache": sum(engine.runner.cache.bytes_by_device().values()) * ROWS * (PROMPT + TOKENS),
            "resident": psutil.Process().memory_info().rss,
            "most": most_resident(),
        }


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Every tensor of a model once: a part of a layer is the layer's, and a tied weight is one weight."""
    seen: set[int] = set()
    for module in model.modules():
        part = getattr(module, "part_of", None)
        whole = module if part is None else part.whole
        own = [*whole._parameters.values(), *whole._buffers.values()]
        own += [whole.packed] if isinstance(whole, OneDnnLinear) and whole._tied == (None,) else []
        for tensor in own:
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def most_resident() -> int | None:
    """Linux alone keeps it for the process as it is now."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def started(model: str | None, weights: str, times: int = 2) -> dict[str, Any]:
    """``held`` of the last of so many starts."""
    command = [sys.executable, __file__, "--alone", weights, *(("-m", model) if model else ())]
    for _ in range(times):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory(asked: Asked, model: str | None = None, weights: Sequence[str] = WEIGHTS) -> Section:
    """The section."""
    rows, ratios, name = [], dict[str, Spread](), ""
    for kind in weights:
        asked.say(f"the memory of a process, weights {kind} ...")
        ready = rows and loading(kind, "auto")[0] is None  # converted for the line before, and nothing is quantized
        found = started(model, kind, 1 if ready else 2)
        allowed = FACTOR * found["weights"] + found["cache"] + REST
        most = "" if found["most"] is None else f"{found['most'] / MB:,.0f}"
        rows.append((found["how"], f"{found['weights'] / MB:,.0f}", f"{found['cache'] / MB:,.0f}",
                     f"{found['resident'] / MB:,.0f}", most, f"{allowed / MB:,.0f}",
                     f"{found['resident'] / allowed:.0%}"))  # fmt: skip
        ratios[f"memory: {kind}, what is allowed beside the process"] = Spread.of([allowed / found["resident"]])
        name = found["name"]
    notes = [
        f"{name}, a fresh process each, after a generation of {ROWS} rows of {PROMPT} and {TOKENS} tokens. Allowed: "
        f"{FACTOR} times the weights, the cache of {ROWS} full rows, and {REST / MB:.0f} MB. "
        "At most: while it loaded, too, where the system tells.",
    ]
    head = ("weights", "they take, MB", "cache, MB", "process, MB", "at most, MB", "allowed, MB", "share")
    return Section("The memory of a process", head, rows, notes, ratios)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="hub id, folder or GGUF file; default: logitmill's default model")
    parser.add_argument("--weights", default=",".join(WEIGHTS), help="as logitmill bench -q takes them")
    parser.add_argument("--alone", metavar="WEIGHTS", help="be the process: load, generate, print one line of JSON")
    given = parser.parse_args(arguments)
    if given.alone:
        print(json.dumps(held(given.model, given.alone)))
        return 0
    asked = Asked(1, lambda words: print(words, file=sys.stderr, flush=True))
    section = memory(asked, given.model, given.weights.split(","))
    print("\n".join([f"# {section.title}", "", *(f"- {key}: {value}" for key, value in machine().items()), ""]))
    print("\n".join([*markdown(section.head, section.rows), "", *section.notes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
