"""The perplexity of each way to hold the weights, on a real text, beside float32.

    python benchmarks/perplexity.py
    python benchmarks/perplexity.py -m MODEL --weights bfloat16,nf4,int4 --windows 2

The text (data/README.md says where it is from) is cut into windows of 1,024 tokens, and each token of a window but the
first is scored behind those before it. What is told of each kind of weights: the perplexity (exp of the mean negative
logprob), by how much it is above float32's, and the mean difference of a token's logprob from float32's, in nats.

A GGUF file keeps its own values in int4 and int8-packed, which says nothing of how these quantize: they are measured
"quantized anew" as well, from the file's values as floats.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import logitmill as lm
from logitmill.core.errors import ModelError
from logitmill.core.model.find import find_model
from logitmill.core.model.spec import PACKED_BITS, ModelSpec
from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.measure import loading, model_for
from logitmill.plugins.bench.table import markdown, write

HERE = Path(__file__).resolve().parent
TEXT = HERE / "data" / "address-1864.txt"
WINDOW = 1024  # tokens
ANEW = ", quantized anew"
NOTE = "Quantized anew: from the file's values as floats, of which four bits find most steps again."
WEIGHTS = ("float32", "bfloat16", "int8", "int8-packed", "nf4", "fp4", "int4")


@dataclass(frozen=True)
class Row:
    """``above`` is the perplexity by float32's, less 1; ``difference`` the mean of a token's |logprob - float32's|."""

    weights: str
    perplexity: float
    above: float
    difference: float
    tokens: int
    seconds: float


def logprobs(model: str | None, weights: str, windows: int) -> tuple[list[float], str]:
    """The logprob of every scored token, and the model's name."""
    quantize, dtype = loading(weights, "auto")
    with lm.load(model, quantize=quantize, dtype=dtype, max_rows=1, max_length=WINDOW) as engine:
        ids = engine.vocab.encode(TEXT.read_text("utf-8"))
        cut = [ids[at : at + WINDOW] for at in range(0, min(len(ids), windows * WINDOW), WINDOW)]
        scored = [score for window in cut if len(window) > 1 for score in engine.score(window[:1], window[1:])]
        return scored, str(engine.describe()["model"])


def rows(model: str | None, weights: Sequence[str], windows: int) -> tuple[list[Row], str, list[str]]:
    """The rows, float32's first; the model's name; and what cannot be had here, each with the reason."""
    found, missing, name = [], [], ""
    base: list[float] = []
    kinds = {kind: (model, kind) for kind in ("float32", *weights)}
    if any(kind in PACKED_BITS for kind in weights) and find_model(ModelSpec(model=model)).path.is_file():
        floats = model_for("hf", model)  # a folder of transformers, of which nothing is known but floats
        kinds |= {kind + ANEW: (floats, kind) for kind in weights if kind in PACKED_BITS}
    for kind, (source, held) in kinds.items():
        print(f"{kind} ...", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        try:
            scored, own = logprobs(source, held, windows)
        except ModelError as error:
            missing.append(f"{kind}: {str(error).splitlines()[0]}")
            continue
        name = name or own
        base = base or scored
        mean, before = sum(scored) / len(scored), sum(base) / len(base)
        difference = sum(abs(a - b) for a, b in zip(scored, base, strict=True)) / len(base)
        seconds = time.perf_counter() - begin
        found.append(Row(kind, math.exp(-mean), math.exp(before - mean) - 1, difference, len(scored), seconds))
    return found, name, missing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="hub id, folder or GGUF file; default: logitmill's default model")
    parser.add_argument("--weights", default=",".join(WEIGHTS), help="what to measure beside float32")
    parser.add_argument("--windows", type=int, default=6, help="how many windows of the text. Default: 6")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="the folder for perplexity.md and .json")
    given = parser.parse_args(arguments)
    facts = machine()
    found, model, missing = rows(given.model, given.weights.split(","), given.windows)
    head = ("weights", "perplexity", "above float32", "mean difference of a token's logprob, nats")
    table = list(
        markdown(head, [(r.weights, f"{r.perplexity:.3f}", f"{r.above:+.2%}", f"{r.difference:.4f}") for r in found])
    )
    notes = [
        f"{found[0].tokens:,} tokens of {TEXT.name} (see ../data/README.md) in windows of {WINDOW:,}, model {model}.",
        "The default model's own file holds 4-bit values (Q4_1): float32 is those values without any further rounding.",
        *([NOTE] if any(row.weights.endswith(ANEW) for row in found) else []),
        *(f"Not measured: {reason}" for reason in missing),
    ]
    page = ["# Perplexity", "", *(f"- {key}: {value}" for key, value in facts.items()), "", *table, "", *notes, ""]
    document = {"machine": facts, "model": model, "rows": [asdict(row) for row in found], "notes": notes}
    print("\n".join(page))
    write(given.out, "perplexity", "\n".join(page), document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
