"""force: what has to come at a place, and what happens where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Pattern

INF = float("inf")
LOGITS = [5.0, 4.0, 3.0, 2.0, 1.0]


def test_one_token_at_a_place(bench: Any) -> None:
    every = [0, 1, 2, 3, 4]
    for at, output, left in [(0, [], [3]), (0, [0], every), (2, [], every), (2, [0, 0], [3]), (2, [0, 0, 0], every)]:
        assert bench.kept(bench.stage("force", 3, at=at), LOGITS, [1, 1], output) == [left], (at, output)


def test_over_everything_the_place_is_the_index_in_the_sequence(bench: Any) -> None:
    stage = bench.stage("force", 3, at=2, over="all")
    assert bench.kept(stage, [LOGITS] * 4, [[0, 0], [0], [], [0, 0, 0]], [[], [0], [0, 0], []]) == [
        [3], [3], [3], [0, 1, 2, 3, 4],
    ]  # fmt: skip


def test_one_after_another(bench: Any) -> None:
    stage = bench.stage("force", 3, [4, 1], 2, at=1)
    lefts = [bench.kept(stage, LOGITS, [0], [0] * n)[0] for n in range(7)]
    every = [0, 1, 2, 3, 4]
    assert lefts == [every, [3], [4], [1], [2], every, every]


def test_what_is_gone_cannot_be_forced(bench: Any) -> None:
    """The best of what is left stays, and the trace is told."""
    dist = Dist(torch.tensor([[1.0, -INF, 3.0], [1.0, 2.0, 3.0]]))
    result = bench.run(bench.stage("force", 1), dist, bench.context(dist))
    assert result.logits.tolist() == [[-INF, -INF, 3.0], [-INF, 2.0, -INF]]
    assert result.rescued.tolist() == [[True], [False]]
    narrowed = Dist(torch.tensor([[5.0, 1.0, 4.0]])).narrow(2)
    forced = bench.run(bench.stage("force", 2), narrowed, bench.context(narrowed)).dense()
    assert forced.logits.tolist() == [[-INF, -INF, 4.0]]


def test_a_place_for_each_row(bench: Any) -> None:
    stages = [bench.stage("force", 3, at=at) for at in (0, 1, 2)]
    assert bench.kept(stages, [LOGITS] * 3, [], [[], [0], [0]]) == [[3], [3], [0, 1, 2, 3, 4]]


def test_texts_and_patterns(bench: Any) -> None:
    """A text of two tokens takes two places; a pattern leaves the choice among those it matches."""
    tokenizer = bench.tokenizer()
    stage = bench.stage("force", " the cat", Pattern(r"^ ?yes$"), "<|end|>")
    dist = Dist(torch.zeros(1, len(tokenizer)))
    lefts = []
    for n in range(5):
        ctx = bench.context(dist, [], [0] * n, tokenizer=tokenizer)
        alive = bench.run(stage, dist, ctx).alive[0].nonzero()[:, 0].tolist()
        lefts.append(sorted(ctx.vocab.texts[i] for i in alive) if len(alive) < 9 else "any")
    assert lefts == [[" the"], [" cat"], [" yes", "yes"], ["<|end|>"], "any"]


def test_sets_and_single_tokens_in_rows_of_different_lengths(bench: Any) -> None:
    tokenizer = bench.tokenizer()
    stage = bench.stage("force", Pattern("^[12]$"), 7, Pattern("^[34]$"))
    texts = dict(enumerate(bench.context(Dist(torch.zeros(1, 320)), tokenizer=tokenizer).vocab.texts))
    kept = bench.kept(stage, [[0.0] * 320] * 4, [], [[], [0], [0, 0], [0] * 3], tokenizer=tokenizer)
    assert [[texts[i] for i in row] for row in (kept[0], kept[2])] == [["1", "2"], ["3", "4"]]
    assert kept[1] == [7]
    assert len(kept[3]) == 320


def test_errors(bench: Any) -> None:
    assert bench.kept(bench.stage("force", []), LOGITS) == [[0, 1, 2, 3, 4]]
    with pytest.raises(StrategyError, match="outside the vocabulary"):
        bench.apply(bench.stage("force", 99), LOGITS)
    with pytest.raises(StrategyError, match="at least 0"):
        bench.stage("force", 1, at=-1)
    with pytest.raises(StrategyError, match="needs a tokenizer"):
        bench.apply(bench.stage("force", "yes"), LOGITS)


def test_a_model_writes_what_is_forced(engine: Any) -> None:
    """With a key of several tokens; sampled, so that its own choice would differ."""
    out = engine.generate(
        ["once", "a much longer prompt"],
        strategy='force("Answer: ", at=2) | temperature(2.0) | sample(seed=3) until max_tokens(14)',
    )
    for completion in out:
        completion.raise_for_error()
        assert bytes(completion.tokens[2:10]) == bytes(engine.tokenizer.encode("Answer: "))
    assert out[0].tokens != out[1].tokens
