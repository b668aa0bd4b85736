"""Imported llama.cpp settings against llama.cpp itself: the chains whose answers are recorded in vectors/."""

from __future__ import annotations

import base64
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import logitmill as lm

VECTORS = Path(__file__).with_name("vectors")
INPUTS = runpy.run_path(str(VECTORS / "inputs.py"))
CLOSE = 2e-6  # of probabilities; llama.cpp's expf and sums are float32's

#: sampler -> its name in ``samplers``, and the fields that its numbers set
LINKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "penalties": ("penalties", ("repeat_last_n", "repeat_penalty", "frequency_penalty", "presence_penalty")),
    "top_n_sigma": ("top_n_sigma", ("top_n_sigma",)),
    "top_k": ("top_k", ("top_k",)),
    "typical": ("typ_p", ("typical_p", "min_keep")),
    "top_p": ("top_p", ("top_p", "min_keep")),
    "min_p": ("min_p", ("min_p", "min_keep")),
    "xtc": ("xtc", ("xtc_probability", "xtc_threshold", "min_keep")),
    "temp": ("temperature", ("temperature",)),
    "temp_ext": ("temperature", ("temperature", "dynatemp_range", "dynatemp_exponent")),
    "adaptive_p": ("adaptive_p", ("adaptive_target", "adaptive_decay")),
}


def request_of(chain: list[list[Any]]) -> dict[str, Any] | None:
    """The request to llama.cpp's server that makes this chain, or None where none does."""
    request: dict[str, Any] = {"samplers": [], "temperature": 1.0}
    for name, *values in chain:
        if name in LINKS:
            link, fields = LINKS[name]
            request["samplers"].append(link)
            request |= dict(zip(fields, values, strict=False))  # what is over is a seed
        elif name == "dry":
            if values[0] and values[-1]:
                return None  # breakers by their ids, where a request has texts
            request["samplers"].append("dry")
            request |= {"dry_multiplier": values[0], "dry_base": values[1], "dry_penalty_last_n": values[3]}
        elif name == "logit_bias":
            request["logit_bias"] = values[0]
        elif name == "greedy":
            request |= {"samplers": [*request["samplers"], "temperature"], "temperature": 0.0}
        elif name in ("mirostat", "mirostat_v2"):
            if name == "mirostat" and values[-1] != 100:
                return None  # a request always estimates from 100
            request |= {
                "mirostat": 2 if name == "mirostat_v2" else 1,
                "mirostat_tau": values[1],
                "mirostat_eta": values[2],
            }
    return request


def law_of(case: dict[str, Any], size: int) -> torch.Tensor:
    """float32 [V]: what llama.cpp drew from."""
    kept = case["kept"]
    if kept == "all":
        kept = list(range(size))
    elif isinstance(kept, str):
        bits = base64.b64decode(kept)
        kept = [i for i in range(size) if bits[i // 8] >> (7 - i % 8) & 1]
    law = torch.zeros(size)
    if "p" not in case:
        law[case["token"]] = 1.0
    else:
        law[kept] = torch.frombuffer(bytearray(base64.b64decode(case["p"])), dtype=torch.float32)
    return law


CASES = [
    pytest.param(case, request, id=f"{number}")
    for number, case in enumerate(json.loads((VECTORS / "llamacpp-chains.json").read_text("utf-8"))["cases"])
    if (request := request_of(case["chain"])) is not None
]


def test_most_chains_are_those_of_a_request() -> None:
    assert len(CASES) > 20
    samplers = {name for case in CASES for name in case.values[1]["samplers"]}  # type: ignore[index]
    assert samplers >= {"penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"}


@pytest.mark.parametrize(("case", "request_"), CASES)
def test_the_imported_strategy_draws_from_what_llamacpp_drew_from(
    case: dict[str, Any], request_: dict[str, Any]
) -> None:
    logits = torch.frombuffer(bytearray(INPUTS["logits"](case["logits"])), dtype=torch.float32)
    history = INPUTS["history"](case.get("history", []))
    strategy = lm.convert_from("llamacpp", request_).strategy
    ours, theirs = strategy.distribution(logits, history[:3], history[3:])[0], law_of(case, len(logits))
    assert int((ours > 0).sum()) == int((theirs > 0).sum())
    assert float((ours.sort().values - theirs.sort().values).abs().max()) < CLOSE
