"""bias, ban and allow, and how their keys name tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Pattern

INF = float("inf")


def on_text(bench: Any, stage: Any, prompt: str = "", output: str = "") -> dict[str, float]:
    """The changed tokens of a flat distribution over the bench's tokenizer, by text."""
    tokenizer = bench.tokenizer()
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, output)]
    dist = Dist(torch.zeros(1, len(tokenizer)))
    ctx = bench.context(dist, *ids, tokenizer=tokenizer)
    after = bench.run(stage, dist, ctx).logits[0].tolist()
    return {ctx.vocab.texts[i]: value for i, value in enumerate(after) if value != 0.0}


def test_bias_by_id(bench: Any) -> None:
    after = bench.apply(bench.stage("bias", {1: -2.0, 3: 1.5}), [0.0, 1.0, -INF, 2.0])
    assert after.tolist() == [[0.0, -1.0, -INF, 3.5]]
    assert bench.apply(bench.stage("bias", {2: 5.0}), [0.0, 1.0, -INF, 2.0])[0, 2] == -INF
    assert bench.apply(bench.stage("bias", ((1, 1.0), (1, 2.0))), [0.0, 0.0]).tolist() == [[0.0, 3.0]]  # they add up


def test_bias_of_a_sequence_falls_on_its_last_token(bench: Any) -> None:
    stage = bench.stage("bias", (((1, 2), 4.0), ((3, 2), 8.0), ((0, 1, 2), 16.0), (2, 1.0)))
    for tokens, expected in [([1], 5.0), ([3], 9.0), ([0, 1], 21.0), ([0], 1.0), ([], 1.0), ([1, 0], 1.0)]:
        assert bench.apply(stage, [0.0] * 4, tokens).tolist() == [[0.0, 0.0, expected, 0.0]], tokens
    half = [[], [0]], [[1], [1]]  # prompt and output together
    assert bench.apply(stage, [[0.0] * 4] * 2, *half)[:, 2].tolist() == [5.0, 21.0]


def test_ban(bench: Any) -> None:
    assert bench.kept(bench.stage("ban", 0, 2), [1.0, 2.0, 3.0, 4.0]) == [[1, 3]]
    assert bench.kept(bench.stage("ban", [[1, 2], [3, 3, 2], 0]), [[0.0] * 4] * 3, [[1], [3, 3], [3]]) == [
        [1, 3],
        [1, 3],
        [1, 2, 3],
    ]
    assert bench.kept(bench.stage("ban", 0, 1), [1.0, 2.0]) == [[1]]  # the best stays where nothing else would


def test_ban_on_a_narrowed_distribution(bench: Any) -> None:
    dist = Dist(torch.tensor([[5.0, 1.0, 4.0, 0.0, 3.0]])).narrow(3)  # 0, 2, 4
    for stage, left in [
        (bench.stage("ban", 2, 3), [0, 4]),
        (bench.stage("ban", [[1, 4], [1, 1]]), [0, 2]),
        (bench.stage("allow", 2, 3), [2]),
    ]:
        assert bench.run(stage, dist, bench.context(dist, [1])).dense().alive.nonzero()[:, 1].tolist() == left


def test_allow(bench: Any) -> None:
    assert bench.kept(bench.stage("allow", 1, 3), [1.0, 2.0, 3.0, 4.0]) == [[1, 3]]
    assert bench.kept(bench.stage("allow", 1), [1.0, -INF, 3.0]) == [[2]]  # it is gone already: the best stays
    with pytest.raises(StrategyError, match="needs 'tokens'"):
        bench.stage("allow")


def test_a_text_is_the_token_that_has_it(bench: Any) -> None:
    assert on_text(bench, bench.stage("bias", {" however": -2.0})) == {" however": -2.0}
    assert on_text(bench, bench.stage("ban", "<think>", "<|end|>")) == {"<think>": -INF, "<|end|>": -INF}


def test_a_leading_space_is_part_of_the_key(bench: Any) -> None:
    assert on_text(bench, bench.stage("ban", "cat", " cat")) == {"cat": -INF, " cat": -INF}
    assert on_text(bench, bench.stage("ban", " cat")) == {" cat": -INF}


def test_a_text_of_several_tokens_loses_its_last(bench: Any) -> None:
    """The second of " the" and " cat" goes once the first is there."""
    stage = bench.stage("ban", " the cat")
    assert on_text(bench, stage, "yes") == {}
    assert on_text(bench, stage, "yes the") == {" cat": -INF}
    assert on_text(bench, stage, "yes", " the") == {" cat": -INF}
    assert on_text(bench, bench.stage("bias", {" the cat": 3.0}), "yes the") == {" cat": 3.0}
    gone = set(on_text(bench, bench.stage("allow", " the cat")))
    assert {" the", " cat"}.isdisjoint(gone)
    assert {"the", "cat", " ", "yes"} <= gone


def test_a_pattern_names_every_token_it_is_found_in(bench: Any) -> None:
    banned = on_text(bench, bench.stage("ban", Pattern(r"\d")))
    assert set(banned) == {*"0123456789", "12", " 12", "34", " 34"}
    assert set(on_text(bench, bench.stage("bias", ((Pattern(r"^ ?yes$"), 1.0),)))) == {"yes", " yes"}


def test_a_pattern_never_names_special_tokens(bench: Any) -> None:
    banned = on_text(bench, bench.stage("ban", Pattern(r"[a-z]")))
    assert "<|end|>" not in banned
    assert "cat" in banned


@pytest.mark.parametrize("name", ["ban", "allow"])
def test_what_names_no_token_is_an_error(bench: Any, name: str) -> None:
    for key, message in [(999, "outside the vocabulary"), ([1, 999], "outside the vocabulary"), ("", "no tokens"),
                         (Pattern("qqq"), "no token's text matches"), (Pattern("(a+)+$"), None)]:  # fmt: skip
        stage = bench.stage(name, [key])
        if message is None:
            on_text(bench, stage)  # slow patterns are cut off, this one is not slow on short texts
            continue
        with pytest.raises(StrategyError, match=message):
            on_text(bench, stage)
    with pytest.raises(StrategyError, match="needs a tokenizer"):
        bench.apply(bench.stage(name, "cat"), [0.0, 0.0])
    with pytest.raises(StrategyError):
        bench.stage(name, -1)
    with pytest.raises(StrategyError):
        bench.stage(name, True)


def test_a_bias_is_finite(bench: Any) -> None:
    with pytest.raises(StrategyError, match="finite"):
        bench.stage("bias", {1: float("inf")})
    after = bench.apply(bench.stage("bias", {0: 3e38}), [3e38, 0.0])
    assert torch.equal(after.softmax(-1), torch.tensor([[1.0, 0.0]]))
