"""Whole generations of the default model beside each peer, sampled: prefill, steps, choosing tokens, text."""

from __future__ import annotations

from dataclasses import replace

from section import Asked, Section

from logitmill.plugins.bench import table
from logitmill.plugins.bench.launch import PEERS
from logitmill.plugins.bench.measure import PROMPT, Work, measure

#: name of the section -> what is measured in it
STEPS = {
    "16 bits": Work(weights=("bfloat16",), strategies=("sampled",), peer="hf"),
    "nf4": Work(weights=("nf4",), strategies=("sampled",), peer="hf", tokens=64),
    "4 bits, llama.cpp": Work(weights=("int4",), strategies=("sampled",), peer="llamacpp"),
    "16 bits, vLLM": Work(weights=("bfloat16",), strategies=("sampled",), peer="vllm"),
}


def step(work: Work, asked: Asked) -> Section | None:
    """The section of one work; None where its peer is not here."""
    peer = work.peer or ""
    if peer != "hf" and peer not in asked.pythons:
        asked.say(f"{PEERS[peer].title}: not measured, no interpreter that has it was given")
        return None
    lines = list(measure(replace(work, turns=asked.turns, peer_python=asked.pythons.get(peer)), asked.say))
    head = table.columns(lines)
    return Section(
        f"{', '.join(work.weights)} beside {lines[0].peer}",
        head,
        [table.cells(line, len(head)) for line in lines],
        [
            f"{work.tokens} new tokens a row behind {PROMPT}-token prompts; prefill, choosing tokens and text are "
            "included."
        ],
        {
            f"{line.weights}, batch {line.batch}, {line.strategy}, beside {PEERS[peer].title}": line.ratio
            for line in lines
            if line.ratio is not None
        },
        lines,
    )
