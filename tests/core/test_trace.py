"""Traces: the account of a step adds up, and looking changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def shared(make_engine: Make) -> Any:
    return make_engine()


TEXTS = [
    "temperature(0.8) | top_k(9) | min_p(0.1) | sample until max_tokens(6)",
    "temperature(1) | top_p(1) | sample until max_tokens(4)",
    "when entropy > 2 { temperature(0.5) | top_k(5) } else { ban(3) } | sample until max_tokens(6)",
    "mix(0.5: { top_k(3) }, 0.5: { temperature(2) }) | greedy until max_tokens(4)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_looking_changes_nothing(shared: Any, text: str) -> None:
    assert shared.generate("abc", text, seed=3, trace=True).tokens == shared.generate("abc", text, seed=3).tokens
    assert shared.generate("abc", text, seed=3).trace is None


def test_the_account_of_a_step(shared: Any) -> None:
    """Every stage as written, identities too, and numbers that a plain forward gives."""
    result = shared.generate(
        "abc", "temperature(0.5) | top_k(7) | top_p(1) | ban(5) | sample until max_tokens(5)", seed=3, trace=True
    )
    sequence = [*result.prompt_tokens, *result.tokens]
    with torch.inference_mode():
        logits = shared.model(torch.tensor([sequence])).logits[0].float()
    for number, step in enumerate(result.trace):
        raw = Dist(logits[len(result.prompt_tokens) - 1 + number][None])
        assert (step.step, step.position, step.token) == (
            number,
            len(result.prompt_tokens) + number,
            result.tokens[number],
        )
        assert step.raw_rank == int(raw.rank[0, step.token]) + 1
        assert step.raw_prob == pytest.approx(float(raw.probs[0, step.token]), abs=1e-5)
        assert step.raw_entropy == pytest.approx(float(raw.entropy), abs=1e-4)
        names = [stage.stage for stage in step.stages]
        assert names == ["temperature", "top_k", "top_p", "ban", "sample"]
        assert step.stages[0].entropy_before == pytest.approx(float(raw.entropy), abs=1e-4)
        for one, other in zip(step.stages, step.stages[1:], strict=False):
            assert one.entropy_after == pytest.approx(other.entropy_before, abs=1e-5)
            assert one.top_after == other.top_before
        heat, top_k, top_p, ban, sample = step.stages
        assert (heat.kept, heat.removed_mass, top_k.kept, top_p.removed_mass) == (257, 0.0, 7, 0.0)
        warm = Dist(raw.logits / 0.5)
        assert top_k.removed_mass == pytest.approx(1 - float(warm.sorted_probs[0, :7].sum()), abs=1e-4)
        assert ban.kept in (6, 7)
        assert sample.kept == ban.kept
        assert 0 < step.final_prob <= 1
        assert not any(stage.rescued for stage in step.stages)
        assert [p for _, _, p in heat.top_after] == sorted((p for _, _, p in heat.top_after), reverse=True)


def test_each_row_has_the_stages_it_went_through(shared: Any) -> None:
    text = "when last in [1, 3, 5] { top_k(5) } else { top_p(0.9) } | sample until max_tokens(8)"
    for result in shared.generate(["abc", "abd", "x"], text, seed=3, trace=True):
        alone = shared.generate(list(result.prompt_tokens), text, seed=result.seed, trace=True)
        assert [[s.stage for s in step.stages] for step in result.trace] == [
            [s.stage for s in step.stages] for step in alone.trace
        ]
        for step in result.trace:
            names = {stage.stage for stage in step.stages}
            assert ("top_k" in names) != ("top_p" in names)


def test_one_json_line_a_step(shared: Any) -> None:
    for text in TEXTS:
        for step in shared.generate("abc", text, seed=3, trace=True).trace:
            line = json.dumps(step.to_dict(), allow_nan=False)
            document = json.loads(line)
            assert document["token"] == step.token
            assert [stage["stage"] for stage in document["stages"]] == [stage.stage for stage in step.stages]
            for stage in document["stages"]:
                assert {"token", "text", "p"} == set(stage["top_before"][0])
