"""Tokens a second of engine.generate against transformers' own generate, on the same weights, in turn, in one run.

    python benchmarks/step.py                    the default model: nf4 and bfloat16, batch 1 and 8, greedy and sampled
    python benchmarks/step.py --weights float32 --batch 4
    python benchmarks/step.py -m FOLDER --tokens 8 --pairs 1

Each side takes token ids and ends with text, so prefill, choosing tokens and detokenization are in the figures.
transformers runs on a copy of the model of its own, loaded in the same way, that no engine has touched. On a busy
machine set OMP_NUM_THREADS below the number of cores: threads that wait for one another measure the neighbours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from measuring import STRATEGIES, Line, compare, machine, report, same_length_prompts

import logitmill as lm
from logitmill.core.model.load import load_model
from logitmill.core.model.spec import ModelSpec

#: name -> (quantize, dtype), as lm.load takes them
WEIGHTS = {
    "nf4": ("nf4", "auto"),
    "int8": ("int8", "auto"),
    "bfloat16": (None, "bfloat16"),
    "float32": (None, "float32"),
}
TEXT = (
    "The old lighthouse keeper counted the ships that passed each night and wrote their names into a long green book. "
)
PROMPT = 32  # tokens


def measure(
    model: str | None, weights: str, batches: Sequence[int], strategies: Sequence[str], tokens: int, pairs: int
) -> tuple[list[Line], list[str]]:
    """The lines of one kind of weights, and what the engine has to say about the model here."""
    quantize, dtype = WEIGHTS[weights]
    peer = load_model(ModelSpec(model=model, quantize=quantize, dtype=dtype)).model
    lines = []
    with lm.load(model, quantize=quantize, dtype=dtype, max_rows=max(batches), max_length=PROMPT + tokens) as engine:
        facts = engine.describe()
        setting = f"{facts['model']}, {weights}" + (f" in {facts['dtype']}" if quantize else "")
        for batch in batches:
            prompts = same_length_prompts(engine.tokenizer, TEXT, batch, PROMPT)
            for strategy in strategies:
                print(f"{setting}, batch {batch}, {strategy} ...", file=sys.stderr, flush=True)
                lines.append(compare(setting, strategy, engine, peer, prompts, tokens, pairs))
        return lines, [f"{weights}: {note}" for note in engine.notes]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="hub id, folder or GGUF file; default: logitmill's default model")
    parser.add_argument("--weights", nargs="+", choices=list(WEIGHTS), default=["nf4", "bfloat16"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--strategy", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--tokens", type=int, default=48, help="new tokens a row")
    parser.add_argument("--pairs", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--name", default="step", help="the file name under benchmarks/results/")
    given = parser.parse_args(arguments)
    facts = machine()
    measured = [
        measure(given.model, weights, given.batch, given.strategy, given.tokens, given.pairs)
        for weights in given.weights
    ]
    lines = [line for found, _ in measured for line in found]
    laws = "; ".join(f"{name}: `{STRATEGIES[name][0]}`" for name in given.strategy)
    notes = [
        f"{given.tokens} new tokens a row behind {PROMPT}-token prompts, {given.pairs} pairs in turn after a warm-up.",
        f"{laws}.",
        "The ratio is the median over the pairs of logitmill's speed by transformers' in that pair.",
        *(f"\n{note}." for _, notes in measured for note in notes),
    ]
    report(given.name, "engine.generate against transformers' generate", facts, lines, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
