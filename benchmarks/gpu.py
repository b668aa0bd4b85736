"""A Llama-8B shape with random weights in nf4: engine.generate against transformers' generate, in turn, in one run.

    python benchmarks/gpu.py                     on the first CUDA device
    python benchmarks/gpu.py --device cpu --layers 2 --hidden 64 --heads 4 --kv-heads 2 --vocab 512 --pairs 1   (a try)

Random weights say nothing about text and all about speed: the shapes, and so the work of a step, are the real model's.
Nothing is downloaded. Needs about 25 GB of GPU memory at the full size while it is built, 15 GB afterwards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from measuring import STRATEGIES, compare, machine, report

from logitmill.core.engine import Engine
from logitmill.core.model.runner import make_runner
from logitmill.core.model.spec import LoadedModel

PROMPT = 128  # tokens


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
            quant_type=quantize,
            device="meta",
        )
        layer.weight = bnb.nn.Params4bit(child.weight.data.cpu(), requires_grad=False, quant_type=quantize).to(device)
        setattr(module, name, layer)


def words(vocab: int) -> Any:
    """A tokenizer with a word for every id."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="w0", eos_token="w1")


def engine_of(model: Any, given: argparse.Namespace, device: torch.device) -> Engine:
    """What lm.load makes of a model from a folder, made of this one."""
    from transformers import GenerationConfig

    loaded = LoadedModel(
        model, words(given.vocab), "random Llama", "random weights", given.quantize, torch.bfloat16, device,
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
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--strategy", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="leave the weights in bfloat16")
    parser.add_argument("--name", default="gpu", help="the file name under benchmarks/results/")
    given = parser.parse_args(arguments)
    given.quantize = None if given.bf16 else "nf4"
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "error: no CUDA device here: run this where there is one, or try a small shape with --device cpu",
            file=sys.stderr,
        )
        return 1
    device, config, facts = torch.device(given.device), shape(given), machine()
    peer = random_model(config, device, given.quantize)
    size = sum(p.numel() for p in torch.nn.Module.parameters(random_shape(config))) / 1e9
    setting = f"random Llama of {size:.2g} billion weights, {given.quantize or 'bfloat16'}"
    generator = torch.Generator().manual_seed(0)
    lines = []
    with engine_of(random_model(config, device, given.quantize), given, device) as engine:
        for batch in given.batch:
            prompts = torch.randint(2, given.vocab, (batch, PROMPT), generator=generator).tolist()
            for strategy in given.strategy:
                print(f"{setting}, batch {batch}, {strategy} ...", file=sys.stderr, flush=True)
                lines.append(compare(setting, strategy, engine, peer, prompts, given.tokens, given.pairs))
        said = [f"\n{note}." for note in engine.notes]
    laws = "; ".join(f"{name}: `{STRATEGIES[name][0]}`" for name in given.strategy)
    notes = [
        f"{given.tokens} new tokens a row behind {PROMPT}-token prompts, {given.pairs} pairs in turn after a warm-up.",
        f"{laws}.",
        *said,
    ]
    report(given.name, "A Llama shape with random weights", facts, lines, notes)
    return 0


def random_shape(config: Any) -> Any:
    """The model without memory for its weights: to count them."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(config)


if __name__ == "__main__":
    sys.exit(main())
