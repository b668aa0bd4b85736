"""Stages against transformers' own processors, in process: random logits, ties, extremes.

What is kept has to be the same, token by token; logits to the last bit, but for sums of several terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

INF = float("inf")
VOCAB, ROWS = 97, 6
PEER = "transformers"


def tables() -> Iterator[Any]:
    """Logits [R, V]: smooth, on a grid full of ties, flat, peaked, with removed tokens, half precision, far out."""
    random = torch.Generator().manual_seed(7)
    normal = torch.randn(ROWS, VOCAB, generator=random)
    gone = torch.rand(ROWS, VOCAB, generator=random) < 0.3
    gone[:, 0] = False
    for name, table in {
        "smooth": normal * 3,
        "sharp": normal * 20,
        "removed": (normal * 3).masked_fill(gone, -INF),
        "half": (normal * 3).half().float(),
        "far": normal * 1e4,
        "wide": torch.randn(2, 5003, generator=random) * 2,
    }.items():
        yield pytest.param(table, id=name)
    yield pytest.param(torch.randint(-8, 8, (ROWS, VOCAB), generator=random) / 4.0, id="ties")
    yield pytest.param(torch.zeros(ROWS, VOCAB), id="flat")
    yield pytest.param(torch.eye(ROWS, VOCAB) * 50, id="peaked")
    yield pytest.param(torch.randn(ROWS, 1, generator=random), id="one")


SOME = list(tables())
untied = pytest.mark.parametrize(
    "logits", [p for p in SOME if p.id in ("smooth", "sharp", "removed", "far", "wide", "one")]
)
any_logits = pytest.mark.parametrize("logits", SOME)
TOKENS = [
    [3, 1, 4, 1, 5, 9, 2, 6, 5, 3],
    [5, 8, 9, 7, 9, 3, 2, 3, 8, 4],
    [1] * 10,
    [2, 1] * 5,
    [0] * 10,
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
]


def exact(ours: Tensor, theirs: Tensor) -> None:
    assert torch.equal(ours > -INF, theirs > -INF)
    assert torch.equal(ours, theirs)


@any_logits
@pytest.mark.parametrize("value", [0.1, 0.7, 1.5, 3.0])
def test_temperature(bench: Any, parity: Any, logits: Tensor, value: float) -> None:
    for fields in ({}, {"dialect": "hf"}):
        exact(
            bench.apply(bench.stage("temperature", value, **fields), logits),
            hf.TemperatureLogitsWarper(value)(None, logits),
        )
    parity.note("temperature", PEER, 0.0, cases=2 * len(logits))


@any_logits
@pytest.mark.parametrize("k", [1, 2, 5, 50, 96, 97, 10_000])
def test_top_k(bench: Any, parity: Any, logits: Tensor, k: int) -> None:
    exact(bench.apply(bench.stage("top_k", k, dialect="hf"), logits), hf.TopKLogitsWarper(k)(None, logits))
    parity.note("top_k", PEER, 0.0, cases=len(logits))


@untied
@pytest.mark.parametrize("k", [1, 2, 5, 50])
def test_top_k_without_ties_is_the_same_by_default(bench: Any, parity: Any, logits: Tensor, k: int) -> None:
    exact(bench.apply(bench.stage("top_k", k), logits), hf.TopKLogitsWarper(k)(None, logits))
    parity.note("top_k", PEER, 0.0, cases=len(logits))


@any_logits
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.95, 0.999])
def test_top_p(bench: Any, parity: Any, logits: Tensor, p: float) -> None:
    """Among tied logits transformers' survivors are torch.sort's: there the kept probabilities are compared, sorted."""
    ours, theirs = bench.apply(bench.stage("top_p", p, dialect="hf"), logits), hf.TopPLogitsWarper(p)(None, logits)
    assert torch.equal(ours.sort(-1).values, theirs.sort(-1).values)
    if all(len(row.unique()) == len(row) for row in logits):
        exact(ours, theirs)
    parity.note("top_p", PEER, 0.0, cases=len(logits))


@untied
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_top_p_by_default_differs_only_at_a_cut(bench: Any, logits: Tensor, p: float) -> None:
    """Within 1e-5 of mass: transformers sums in float32."""
    ours, theirs = bench.apply(bench.stage("top_p", p), logits), hf.TopPLogitsWarper(p)(None, logits)
    differ = (ours > -INF) != (theirs > -INF)
    assert (differ.sum(-1) <= 1).all()
    for row in differ.any(-1).nonzero()[:, 0]:
        mass = logits[row].double().softmax(-1)[ours[row] > -INF].sum()
        assert abs(mass - p) < 1e-5


@any_logits
@pytest.mark.parametrize("p", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_min_p(bench: Any, parity: Any, logits: Tensor, p: float) -> None:
    exact(bench.apply(bench.stage("min_p", p, dialect="hf"), logits), hf.MinPLogitsWarper(p)(None, logits))
    parity.note("min_p", PEER, 0.0, cases=len(logits))


@any_logits
@pytest.mark.parametrize("mass", [0.05, 0.2, 0.5, 0.9, 0.99])
def test_typical(bench: Any, parity: Any, logits: Tensor, mass: float) -> None:
    exact(bench.apply(bench.stage("typical", mass, dialect="hf"), logits), hf.TypicalLogitsWarper(mass)(None, logits))
    parity.note("typical", PEER, 0.0, cases=len(logits))


@pytest.mark.parametrize("logits", [p for p in SOME if p.id in ("smooth", "removed", "wide")])
@pytest.mark.parametrize("keep", [1, 3, 60])
def test_min_keep(bench: Any, logits: Tensor, keep: int) -> None:
    """transformers' min_tokens_to_keep, where no probabilities tie: among those its survivors are torch.sort's."""
    peers = {"min_p": hf.MinPLogitsWarper, "typical": hf.TypicalLogitsWarper, "top_p": hf.TopPLogitsWarper}
    for name, peer in peers.items():
        ours = bench.apply(bench.stage(name, 0.3, keep, dialect="hf"), logits)
        exact(ours, peer(0.3, min_tokens_to_keep=keep)(None, logits))


@pytest.mark.parametrize("logits", [p for p in SOME if p.id != "one"])
@pytest.mark.parametrize("penalty", [0.5, 1.1, 2.0])
def test_repetition(bench: Any, parity: Any, logits: Tensor, penalty: float) -> None:
    tokens = TOKENS[: len(logits)]
    theirs = hf.RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor(tokens), logits)
    exact(
        bench.apply(
            bench.stage("repetition", penalty), logits, [row[:4] for row in tokens], [row[4:] for row in tokens]
        ),
        theirs,
    )
    parity.note("repetition", PEER, 0.0, cases=len(logits))


@pytest.mark.parametrize("logits", [p for p in SOME if p.id != "one"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 11, 12])
def test_no_repeat_ngram(bench: Any, parity: Any, logits: Tensor, n: int) -> None:
    tokens = TOKENS[: len(logits)]
    exact(
        bench.apply(bench.stage("no_repeat_ngram", n), logits, tokens),
        hf.NoRepeatNGramLogitsProcessor(n)(torch.tensor(tokens), logits),
    )
    parity.note("no_repeat_ngram", PEER, 0.0, cases=len(logits))


@pytest.mark.parametrize("logits", [p for p in SOME if p.id != "one"])
def test_sequence_bias(bench: Any, parity: Any, logits: Tensor) -> None:
    pairs = {(7,): 2.5, (3,): -1.25, (5, 3): 0.75, (1, 1, 1): 4.0, (9, 0): -3.0, (2, 1): 1.0, (1, 2): -2.0, (4, 1): 8.0}
    tokens = TOKENS[: len(logits)]
    theirs = hf.SequenceBiasLogitsProcessor(dict(pairs))(torch.tensor(tokens), logits)
    ours = bench.apply(bench.stage("bias", tuple(pairs.items())), logits, tokens)
    assert torch.equal(ours > -INF, theirs > -INF)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    parity.note("bias", PEER, (ours.softmax(-1) - theirs.softmax(-1)).abs().max().item(), cases=len(logits))


@pytest.mark.parametrize("logits", [p for p in SOME if p.id != "one"])
def test_bad_words_and_suppressed_tokens(bench: Any, parity: Any, logits: Tensor) -> None:
    words = [[7], [5, 3], [1, 1, 1], [9, 0], [2, 1], [1, 0]]
    tokens = TOKENS[: len(logits)]
    banned = hf.NoBadWordsLogitsProcessor(words, eos_token_id=None)(torch.tensor(tokens), logits)
    exact(bench.apply(bench.stage("ban", words), logits, tokens), banned)
    exact(bench.apply(bench.stage("ban", 3, 4), logits), hf.SuppressTokensLogitsProcessor([3, 4])(None, logits))
    parity.note("ban", PEER, 0.0, cases=2 * len(logits))


@pytest.mark.parametrize("generated", [0, 1, 4, 5, 9])
def test_min_new_tokens(bench: Any, parity: Any, generated: int) -> None:
    logits, tokens = torch.randn(1, VOCAB), TOKENS[0]
    prompt, output = tokens[: len(tokens) - generated], tokens[len(tokens) - generated :]
    theirs = hf.MinNewTokensLengthLogitsProcessor(len(prompt), 5, [2, 9])(torch.tensor([tokens]), logits)
    exact(bench.apply(bench.stage("min_tokens", 5), logits, prompt, output, eos=(2, 9)), theirs)
    parity.note("min_tokens", PEER, 0.0)


@untied
def test_a_pipeline(bench: Any, logits: Tensor) -> None:
    """The usual chain, each stage on what the one before left."""
    ours = theirs = logits
    for stage, peer in [
        (bench.stage("temperature", 0.7, dialect="hf"), hf.TemperatureLogitsWarper(0.7)),
        (bench.stage("top_k", 50, dialect="hf"), hf.TopKLogitsWarper(50)),
        (bench.stage("top_p", 0.95, dialect="hf"), hf.TopPLogitsWarper(0.95)),
        (bench.stage("min_p", 0.02, dialect="hf"), hf.MinPLogitsWarper(0.02)),
        (bench.stage("typical", 0.9, dialect="hf"), hf.TypicalLogitsWarper(0.9)),
    ]:
        ours, theirs = bench.apply(stage, ours), peer(None, theirs)
        exact(ours, theirs)
