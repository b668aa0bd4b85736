"""A Llama-8B shape with random weights, in nf4 and in bfloat16: what a GPU's decode step is asked to reach.

    python benchmarks/gpu.py                     on the first CUDA device
    python benchmarks/gpu.py --device cpu --layers 2 --hidden 256 --vocab 512 --turns 1 --batch 1 2 --tokens 8   (a try)

For each kind of weights, batch and strategy engine.generate and transformers' generate run in turn, end to end. Then
the steps of a full batch that samples are timed in turn with the model's steps alone, on the same runner: what choosing
tokens, reading them and the loop add. Below the table stands what was asked and what was found.

Random weights say nothing about text and all about speed: the shapes, and so the work of a step, are the real model's.
Nothing is downloaded. Needs about 50 GB of GPU memory at the full size (two models in bfloat16 at a time).
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

import logitmill as lm
from logitmill.core.engine import Engine
from logitmill.core.model.pack import fuse
from logitmill.core.model.runner import make_runner
from logitmill.core.model.spec import LoadedModel
from logitmill.plugins.bench import table
from logitmill.plugins.bench.launch import InProcess
from logitmill.plugins.bench.machine import machine
from logitmill.plugins.bench.measure import Line, line_of, weights_of
from logitmill.plugins.bench.sampling import USUAL, pipeline, settings_for
from logitmill.plugins.bench.turns import EngineSide, PeerSide

PROMPT = 128  # tokens
WEIGHTS = ("nf4", "bfloat16")
RESULTS = Path(__file__).resolve().parent / "results"


def shape(given: argparse.Namespace) -> Any:
    """The configuration: Llama 3 8B's unless told otherwise."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=given.vocab, hidden_size=given.hidden, intermediate_size=given.intermediate or given.hidden * 7 // 2,
        num_hidden_layers=given.layers, num_attention_heads=given.heads, num_key_value_heads=given.kv_heads,
        max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )  # fmt: skip


def random_model(config: Any, device: torch.device, quantize: str | None) -> Any:
    """A model of this shape in bfloat16, its linear layers quantized; the output head is left, as bitsandbytes does."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    if quantize is not None:
        for layer in model.model.layers:
            quantized(layer, quantize, device)
    model.requires_grad_(False)
    return model


def quantized(module: torch.nn.Module, quantize: str, device: torch.device) -> None:
    """Every linear layer below ``module`` replaced by bitsandbytes' 4-bit one, one at a time."""
    import bitsandbytes as bnb

    for name, child in list(module.named_children()):
        if not isinstance(child, torch.nn.Linear):
            quantized(child, quantize, device)
            continue
        layer = bnb.nn.Linear4bit(
            child.in_features,
            child.out_features,
            bias=False,
            compute_dtype=torch.bfloat16,
            compress_statistics=False,
            quant_type=quantize,
            device="meta",
        )
        # As lm.load does where double_quant is not asked for: scales stay as they are.
        layer.weight = bnb.nn.Params4bit(
            child.weight.data.cpu(), requires_grad=False, compress_statistics=False, quant_type=quantize
        ).to(device)
        setattr(module, name, layer)


def words(vocab: int) -> Any:
    """A tokenizer with a word for every id."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="w0", eos_token="w1")


def engine_of(model: Any, given: argparse.Namespace, device: torch.device, quantize: str | None) -> Engine:
    """What lm.load makes of a model from a folder, made of this one."""
    from transformers import GenerationConfig

    if device.type == "cuda":
        fuse(model)
    loaded = LoadedModel(
        model, words(given.vocab), "random Llama", "random weights", quantize, torch.bfloat16, device,
        False, (1,), 8192, given.vocab, GenerationConfig(eos_token_id=1),
    )  # fmt: skip
    return Engine(loaded, make_runner(model, rows=max(given.batch), max_length=PROMPT + given.tokens))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--intermediate", type=int, help="default: three and a half times --hidden")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--vocab", type=int, default=128256)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    parser.add_argument(
        "--strategy", nargs="+", default=list(USUAL), help=f"texts without until, or {', '.join(USUAL)}"
    )
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5, help="how often each side runs")
    parser.add_argument("--name", default="gpu", help="the file name under benchmarks/results/")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "error: no CUDA device here: run this where there is one, or try a small shape with --device cpu",
            file=sys.stderr,
        )
        return 1
    device, facts = torch.device(given.device), machine()
    size = sum(p.numel() for p in torch.nn.Module.parameters(random_shape(shape(given)))) / 1e9
    setting = f"random Llama of {size:.2g} billion weights"
    found: list[Line] = []
    steps: list[Steps] = []
    for weights in given.weights:
        found += measured(given, device, weights, steps)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    notes = [
        *(line.text for line in steps),
        *(f"{verdict(met)}: {what}." for what, met in (asked(found, steps) if is_full(given) else ())),
        f"{setting}; {given.tokens} new tokens a row behind {PROMPT}-token prompts, {given.turns} turns and a warm-up.",
        *(f"{name}: `{text}`." for name, text in USUAL.items() if name in given.strategy),
    ]
    page = table.page("A Llama shape with random weights", facts, found, notes)
    print(page)
    table.write(RESULTS, given.name, page, table.document(facts, found, notes=notes))
    return 0


@dataclass(frozen=True)
class Steps:
    """Milliseconds of a step of a full batch that samples, and of the model alone; medians of the turns."""

    weights: str
    batch: int
    whole: float
    bare: float

    @property
    def text(self) -> str:
        share = f"{self.whole:.3g} ms a step, {self.bare:.3g} ms the model's alone: {self.whole / self.bare:.2f} times"
        return f"{self.weights}, batch {self.batch}, sampled: {share}."


def asked(found: Sequence[Line], steps: Sequence[Steps]) -> Iterator[tuple[str, bool | None]]:
    """(what was asked, whether it was found; None where it was not measured), for an H200 at the full size."""
    line = {(line.weights, line.batch, line.strategy): line for line in found}

    def least(weights: str, speed: float, times: float | None) -> tuple[str, bool | None]:
        what = f"{weights}, batch 1, sampled: at least {speed:.0f} tokens a second"
        what += "" if times is None else f" and {times:.0f} times transformers' generate"
        one = line.get((weights, 1, "sampled"))
        if one is None:
            return what, None
        met = one.speed.median >= speed and (times is None or (one.ratio is not None and one.ratio.median >= times))
        return what, met

    yield least("nf4 in bfloat16", 350, 8)
    yield least("bfloat16", 250, None)
    for weights in ("nf4 in bfloat16", "bfloat16"):
        mine = [s for s in steps if (s.weights, s.batch) == (weights, 32)]
        met = mine[0].whole <= 1.15 * mine[0].bare if mine else None
        yield f"{weights}, batch 32, sampled: a step of at most 1.15 times the model's alone", met


def is_full(given: argparse.Namespace) -> bool:
    """Whether it is the shape and the kind of device that the figures were asked for."""
    size = given.layers, given.hidden, given.intermediate, given.heads, given.kv_heads, given.vocab
    return given.device.startswith("cuda") and size == (32, 4096, None, 32, 8, 128256)


def verdict(met: bool | None) -> str:
    return {True: "Met", False: "Not met", None: "Not measured"}[met]


def timed(run: Callable[[], None], count: int, device: torch.device) -> float:
    """Milliseconds of one of ``count`` runs, all that they gave to the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - start) / count


def steps_of(engine: Engine, prompts: list[list[int]], given: argparse.Namespace, device: torch.device) -> Steps:
    """The engine's steps and the runner's alone, in turn, over the same lengths; the first turn is not counted."""
    runner, loop, batch = engine.runner, engine.loop, len(prompts)
    sampled = pipeline("sampled").until(lm.max_tokens(given.tokens))
    count = given.tokens - 3  # the first two steps prefill and warm up, the last ends the rows
    whole, bare = [], []
    for _ in range(given.turns + 1):
        for row, prompt in enumerate(prompts):
            runner.prefill(row, prompt)
        tokens = torch.full((batch, 1), 7, dtype=torch.int64, device=device)
        runner.decode(tokens, batch)
        bare.append(timed(lambda tokens=tokens: runner.decode(tokens, batch), count, device))
        requests = engine._requests(
            prompts, [sampled] * batch, list(range(batch)), 1, None, None, trace=False, echo=False
        )
        for request in requests:
            loop.submit(request)
        loop.step()
        loop.step()
        whole.append(timed(loop.step, count, device))
        while loop.busy:
            loop.step()
    weights = weights_of(engine)
    return Steps(weights, batch, median(whole[1:]), median(bare[1:]))


def measured(given: argparse.Namespace, device: torch.device, weights: str, steps: list[Steps]) -> Iterator[Line]:
    """A line for each batch and strategy: the engine and transformers, each on a model of its own."""
    quantize = None if weights == "bfloat16" else weights
    generator = torch.Generator().manual_seed(0)
    link = InProcess("hf")
    with engine_of(random_model(shape(given), device, quantize), given, device, quantize) as engine, link:
        for note in engine.notes:
            print(f"note: {note}", file=sys.stderr)
        peer = link.host.module.Peer.of(random_model(shape(given), device, quantize), engine.tokenizer)
        link.host.peer = peer
        told = peer.facts | {"weights": weights_of(engine)}
        for batch in given.batch:
            prompts = torch.randint(2, given.vocab, (batch, PROMPT), generator=generator).tolist()
            for strategy in given.strategy:
                print(f"batch {batch}, {strategy} ...", file=sys.stderr, flush=True)
                whole = pipeline(strategy)
                sides = [EngineSide(engine, whole), PeerSide(link.ask, settings_for("hf", whole))]
                yield line_of(engine, strategy, sides, prompts, given.tokens, given.turns, told)
            steps.append(steps_of(engine, prompts, given, device))


def random_shape(config: Any) -> Any:
    """The model without memory for its weights: to count them."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(config)


if __name__ == "__main__":
    sys.exit(main())
