"""Tests on the model's own probabilities: by hand, and while a model runs, with everything that could mix steps up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError

PROBS = [[0.5, 0.25, 0.15, 0.1]] * 4


def fires(bench: Any, criterion: Any, outputs: list[list[int]], entropies: Any = None) -> list[bool]:
    dist = Dist(bench.logits_of(PROBS[: len(outputs)]))
    ctx = bench.context(dist, [0], outputs)
    if entropies is not None:
        ctx.history._entropies = torch.tensor(entropies)
    return bench.run(criterion, dist, ctx)[:, 0].tolist()


def test_confidence(bench: Any) -> None:
    """Tokens of probability .5 .25 .15 .1 under the model; the prompt's last token is not judged."""
    assert fires(bench, bench.stage("confidence", 0.2), [[0], [1], [2], [3]]) == [False, False, True, True]
    assert fires(bench, bench.stage("confidence", 0.25), [[1]]) == [False]  # not below
    assert fires(bench, bench.stage("confidence", 0.0), [[3]]) == [False]
    assert fires(bench, bench.stage("confidence", 1.0), [[0], [3], []]) == [True, True, False]
    for bad in (-0.1, 1.1):
        with pytest.raises(StrategyError):
            bench.stage("confidence", bad)


def test_confidence_of_a_certain_token(bench: Any) -> None:
    dist = Dist(torch.tensor([[0.0]]))
    assert not bench.run(bench.stage("confidence", 1.0), dist, bench.context(dist, [0], [0])).item()


def test_confidence_is_the_models_own(bench: Any) -> None:
    """What the pipeline made of the distribution changes nothing, nor how many columns it left."""
    raw = Dist(bench.logits_of(PROBS[:1]))
    ctx = bench.context(raw, [0], [2], raw=raw)
    for law in (raw, raw.narrow(1), Dist(raw.logits * 9)):
        assert bench.run(bench.stage("confidence", 0.2), law, ctx).item()
        assert not bench.run(bench.stage("confidence", 0.14), law, ctx).item()


NAN = float("nan")


def test_entropy_below(bench: Any) -> None:
    outputs = [[1, 1], [1, 1], [1, 1], [1]]
    entropies = [[NAN, 0.3, 0.1], [NAN, 0.1, 0.3], [NAN, 0.1, 0.1], [NAN, 0.1, NAN]]
    stage = bench.stage
    assert fires(bench, stage("entropy_below", 0.2), outputs, entropies) == [True, False, True, True]
    assert fires(bench, stage("entropy_below", 0.2, steps=2), outputs, entropies) == [False, False, True, False]
    assert fires(bench, stage("entropy_below", 0.1), outputs, entropies) == [False] * 4
    assert fires(bench, stage("entropy_below", 9.0, steps=3), outputs, entropies) == [False] * 4
    assert fires(bench, stage("entropy_below", 9.0, steps=99), outputs, entropies) == [False] * 4
    assert fires(bench, stage("entropy_below", 9.0), outputs) == [False] * 4  # none was recorded


def entropies_of(engine: Any, prompt: list[int], tokens: Any) -> Tensor:
    logits = engine.model(torch.tensor([prompt + list(tokens)])).logits[0].float()
    return torch.distributions.Categorical(logits=logits).entropy()[len(prompt) - 1 : -1]


def probs_of(engine: Any, prompt: list[int], tokens: Any) -> Tensor:
    probs = engine.model(torch.tensor([prompt + list(tokens)])).logits[0].float().softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(tokens) - 1)
    return torch.stack([probs[place, token] for place, token in zip(places, tokens, strict=True)])


HEAT = "temperature(0.9) | sample"


@pytest.mark.parametrize("options", [{}, {"lookahead": True}, {"batch_invariant": True}])
def test_while_a_model_runs(make_engine: Any, options: dict[str, Any]) -> None:
    """Each row ends at its first token for which the model's own numbers, computed afresh, say so."""
    engine = make_engine(**options)
    prompts = [engine.vocab.encode(text) for text in ("abc", "x", "hello you", "q")]
    seeds = [1, 2, 3, 4]
    runs = engine.generate(prompts, f"{HEAT} until max_tokens(24)", seed=seeds)
    for until, first in (
        ("confidence(0.02)", lambda row: probs_of(engine, prompts[row], runs[row].tokens) < 0.02),
        ("entropy_below(4.05)", lambda row: entropies_of(engine, prompts[row], runs[row].tokens) < 4.05),
    ):
        wanted = [int(first(row).nonzero()[0]) + 1 for row in range(4)]
        assert len(set(wanted)) > 1
        text = f"{HEAT} until {until} or max_tokens(24)"
        alone = [engine.generate(prompts[i], text, seed=seeds[i]) for i in range(4)]
        for got in (engine.generate(prompts, text, seed=seeds), alone):
            assert [len(o.tokens) for o in got] == wanted
            assert [o.tokens for o in got] == [o.tokens[:n] for o, n in zip(runs, wanted, strict=True)]
            assert {(o.finish_reason, o.criterion) for o in got} == {("stop", until.partition("(")[0])}


def test_in_a_phase_and_in_a_search(make_engine: Any) -> None:
    engine = make_engine()
    prompt = engine.vocab.encode("abc")
    run = engine.generate(prompt, "temperature(0.9) | sample(seed=5) until max_tokens(20)")
    sure = entropies_of(engine, prompt, run.tokens) < 4.4
    pair = next(i for i in range(5, 20) if sure[i - 1] and sure[i])
    phases = (
        "phases({ temperature(0.9) | sample until max_tokens(4) }, "
        "{ temperature(0.9) | sample until entropy_below(4.4, steps=2) or max_tokens(16) })"
    )
    ended = engine.generate(prompt, phases, seed=5)
    assert (ended.tokens, ended.criterion) == (run.tokens[: pair + 1], "entropy_below")
    best = engine.generate(prompt, "best_of(3) { sample } until confidence(0.01) or max_tokens(20)", seed=1)
    for row in best.candidates:
        low = probs_of(engine, prompt, row.tokens) < 0.01
        assert low[:-1].any().item() is False
        assert (row.criterion == "confidence") == low[-1].item()
