"""Signals by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError

INF = float("inf")


def read(bench: Any, signal: Any, probs: Any, *args: Any, **more: Any) -> list[float]:
    dist = Dist(bench.logits_of(probs))
    return bench.run(signal, dist, bench.context(dist, *args, **more))[:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("entropy", [1.5 * math.log(2), math.log(4), 0.0]),
        ("varentropy", [0.25 * math.log(2) ** 2, 0.0, 0.0]),  # surprises ln 2, ln 4, ln 4 about their mean
        ("max_p", [0.5, 0.25, 1.0]),
        ("margin", [0.25, 0.0, 1.0]),
        ("kept", [3.0, 4.0, 1.0]),
        ("mass", [1.0, 1.0, 1.0]),
    ],
)
def test_of_the_distribution(bench: Any, name: str, values: list[float]) -> None:
    probs = [[0.5, 0.25, 0.25, 0.0], [0.25] * 4, [0.0, 0.0, 1.0, 0.0]]
    assert read(bench, bench.stage(name), probs) == pytest.approx(values, abs=1e-6)


def test_a_vocabulary_of_one(bench: Any) -> None:
    for name, value in [("entropy", 0.0), ("varentropy", 0.0), ("max_p", 1.0), ("margin", 1.0), ("kept", 1.0)]:
        assert read(bench, bench.stage(name), [[1.0]]) == [value]


def test_mass_is_the_models_own(bench: Any) -> None:
    """What is left of .5 .25 .15 .1 after a top-k of 2, on any number of columns."""
    raw = Dist(bench.logits_of([[0.5, 0.25, 0.15, 0.1]]))
    for cut in (raw.narrow(2), raw.keep(torch.tensor([[True, True, False, False]])), Dist(raw.logits / 3).narrow(2)):
        assert bench.run(bench.stage("mass"), cut, bench.context(raw, raw=raw)).item() == pytest.approx(0.75)


def test_of_the_sequence(bench: Any) -> None:
    probs, prompts, outputs = [[1.0, 0, 0, 0]] * 3, [[1, 2], [], []], [[3], [], [2, 2]]
    assert read(bench, bench.stage("step"), probs, prompts, outputs) == [1, 0, 2]
    assert read(bench, bench.stage("position"), probs, prompts, outputs) == [3, 0, 2]
    assert read(bench, bench.stage("last"), probs, prompts, outputs) == [3, -1, 2]


def test_of_the_scores(bench: Any) -> None:
    scores = torch.tensor([[-6.0], [0.0]], dtype=torch.float64)
    for name, values in [("sum_logprob", [-6.0, 0.0]), ("mean_logprob", [-2.0, 0.0])]:
        assert read(bench, bench.stage(name), [[1.0]] * 2, [[0, 0], [0]], [[0] * 3, []], scores=scores) == values
    with pytest.raises(StrategyError, match="only while a model runs"):
        read(bench, bench.stage("mean_logprob"), [[1.0]])


def on_text(bench: Any, signal: Any, prompts: list[str], outputs: list[str]) -> Any:
    tokenizer = bench.tokenizer()
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731  # a shorthand
    dist = Dist(torch.zeros(len(prompts), len(tokenizer)))
    value = bench.run(
        signal, dist, bench.context(dist, [*map(encode, prompts)], [*map(encode, outputs)], tokenizer=tokenizer)
    )
    return value[:, 0].tolist() if isinstance(value, torch.Tensor) else value


def test_tail(bench: Any) -> None:
    long = "the cat " * 60
    assert on_text(bench, bench.stage("tail"), ["the cat", "", long], ["<|end|> sat", "", "x"]) == [
        "the cat<|end|> sat",
        "",
        (long + "x")[-256:],
    ]


@pytest.mark.parametrize("markers", [("<think>", "</think>"), ("[", "]"), ("```", "```"), ("<think>", "end")])
def test_within(bench: Any, markers: tuple[str, str]) -> None:
    """The same on tokens, on text, on markers in the middle of tokens and on equal ones."""
    a, b = markers
    signal = bench.stage("within", a, b)
    texts = [
        ("", "", False),
        (a, "", True),
        (f"x{a}yes", f"12{b}", False),
        (f"{a}{b}", f"{a}the", True),
        (b, "cat", False),
        ("cat", f"{a}", True),
    ]
    if a != b:
        texts += [(f"{a}{a}{b}", "", False), (b, f"{a}{b}{b}", False)]
    else:
        texts[4] = (b, "cat", True)
    assert on_text(bench, signal, [t[0] for t in texts], [t[1] for t in texts]) == [t[2] for t in texts]


def test_within_is_matched_on_the_device_where_it_can_be(bench: Any) -> None:
    """Whole tokens that the tokenizer never merges, or ids; "the" is a token too, but comes inside others as well."""
    from logitmill.core.vocab import Vocab

    vocab = Vocab(300, bench.tokenizer())
    assert bench.stage("within", "<think>", "</think>").prepare(vocab) == (290, 291)
    assert bench.stage("within", 5, "</think>").prepare(vocab) == (5, 291)
    assert bench.stage("within", "<think>", "the").prepare(vocab) is None
    assert bench.stage("within", "[", "]").prepare(vocab) is None
    assert bench.stage("within", 5, 6).prepare(Vocab(9)) == (5, 6)


def test_within_by_ids_needs_no_tokenizer(bench: Any) -> None:
    dist = Dist(torch.zeros(3, 9))
    ctx = bench.context(dist, [[5, 1], [5, 6], [1]], [[2], [5], [6]])
    assert bench.run(bench.stage("within", 5, 6), dist, ctx)[:, 0].tolist() == [True, True, False]
    assert bench.run(bench.stage("within", 5, 5), dist, ctx)[:, 0].tolist() == [True, False, False]


def test_within_inside_a_when(bench: Any) -> None:
    """A signal that prepares something of its own, read in the view of the combinator around it."""
    strategy = bench.stage(
        "when", bench.read(bench.stage("within", 5, 6)), bench.stage("ban", 0), bench.stage("ban", 1)
    )
    law = bench.law(strategy, torch.zeros(2, 7), [[5], [6]])
    assert [row.nonzero()[:, 0].tolist() for row in law.dense().alive] == [[1, 2, 3, 4, 5, 6], [0, 2, 3, 4, 5, 6]]
