"""What depends on the tokens so far: penalties, least length, n-grams."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.state import State

INF = float("inf")
FLAT = [2.0, -2.0, 1.0, -1.0, 0.0]


def test_repetition(bench: Any) -> None:
    """Positive logits are divided, negative ones multiplied, once for each token however often it occurs."""
    after = bench.apply(bench.stage("repetition", 2.0), FLAT, [0, 0], [1, 4])
    assert after.tolist() == [[1.0, -4.0, 1.0, -1.0, 0.0]]
    output = bench.apply(bench.stage("repetition", 2.0, over="output"), FLAT, [0, 0], [1, 4])
    assert output.tolist() == [[2.0, -4.0, 1.0, -1.0, 0.0]]


def test_repetition_window(bench: Any) -> None:
    """The last two tokens of 0 1 2 3 are 2 and 3; of the output 3 alone, 3."""
    for fields, changed in [({"window": 2}, {2, 3}), ({"window": 0}, set()), ({"window": 99}, {0, 1, 2, 3}),
                            ({"window": 2, "over": "output"}, {3}), ({"window": 1}, {3})]:  # fmt: skip
        after = bench.apply(bench.stage("repetition", 2.0, **fields), FLAT, [0, 1, 2], [3])[0]
        assert {i for i in range(5) if after[i] != FLAT[i]} == changed, fields


def test_penalties_over_the_prompt(bench: Any) -> None:
    """The prompt is 0 0 1, the output 4 1: what was generated counts for nothing, also as a window's end."""
    for name, fields, expected in [
        ("repetition", {}, [1.0, -4.0, 1.0, -1.0, 0.0]),
        ("repetition", {"window": 2}, [1.0, -4.0, 1.0, -1.0, 0.0]),
        ("repetition", {"window": 1}, [2.0, -4.0, 1.0, -1.0, 0.0]),
        ("presence", {}, [0.0, -4.0, 1.0, -1.0, 0.0]),
        ("frequency", {}, [-2.0, -4.0, 1.0, -1.0, 0.0]),
        ("frequency", {"window": 2}, [0.0, -4.0, 1.0, -1.0, 0.0]),
        ("frequency", {"window": 0}, FLAT),
    ]:
        after = bench.apply(bench.stage(name, 2.0, over="prompt", **fields), FLAT, [0, 0, 1], [4, 1])
        assert after.tolist() == [expected], (name, fields)
    ragged = bench.apply(bench.stage("frequency", 1.0, over="prompt"), [FLAT] * 3, [[], [2], [2, 2]], [[0], [0], []])
    assert ragged[:, 2].tolist() == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("name", ["presence", "frequency"])
def test_textgen_looks_at_prompt_and_output(bench: Any, name: str) -> None:
    stage = bench.stage(name, 2.0, dialect="textgen")
    assert bench.apply(stage, FLAT, [0], [1]).tolist() == [[0.0, -4.0, 1.0, -1.0, 0.0]]
    ranged = bench.stage(name, 2.0, window=1, dialect="textgen")
    assert bench.apply(ranged, FLAT, [0], [1]).tolist() == [[2.0, -4.0, 1.0, -1.0, 0.0]]
    assert bench.apply(bench.stage(name, 2.0, over="prompt", dialect="textgen"), FLAT, [0], [1])[0, 1] == -2.0
    with pytest.raises(StrategyError, match="leave window out"):
        bench.stage(name, 2.0, window=0, dialect="textgen")


def test_presence_and_frequency(bench: Any) -> None:
    assert bench.apply(bench.stage("presence", 0.5), FLAT, [2], [0, 0, 1]).tolist() == [[1.5, -2.5, 1.0, -1.0, 0.0]]
    assert bench.apply(bench.stage("frequency", 0.5), FLAT, [2], [0, 0, 1]).tolist() == [[1.0, -2.5, 1.0, -1.0, 0.0]]
    assert bench.apply(bench.stage("frequency", 0.5, over="all"), FLAT, [2], [0, 0, 1]).tolist() == [
        [1.0, -2.5, 0.5, -1.0, 0.0]
    ]
    assert bench.apply(bench.stage("frequency", -0.5), FLAT, [], [0, 0]).tolist() == [[3.0, -2.0, 1.0, -1.0, 0.0]]


@pytest.mark.parametrize("name", ["repetition", "presence", "frequency"])
def test_llamacpp_looks_at_the_last_64_tokens_of_everything(bench: Any, name: str) -> None:
    """Of 70 tokens the first six are out of the window, prompt or not."""
    prompt = [3] * 6 + [2] * 4 + [0] * 60
    stage = bench.stage(name, 2.0, dialect="llamacpp")
    before = torch.full((1, 5), 8.0)
    assert [i for i, v in enumerate(bench.apply(stage, before, prompt)[0].tolist()) if v != 8.0] == [0, 2]
    short = bench.stage(name, 2.0, window=3, dialect="llamacpp")
    assert [i for i, v in enumerate(bench.apply(short, before, prompt, [4])[0].tolist()) if v != 8.0] == [0, 4]


def test_llamacpp_penalties_together(bench: Any) -> None:
    """One llama.cpp penalties sampler (repeat 1.5, frequency .25, presence .5) is the three stages in a row."""
    tokens = [0, 0, 0, 1, 3]
    after = torch.tensor([FLAT])
    for name, value in (("repetition", 1.5), ("frequency", 0.25), ("presence", 0.5)):
        after = bench.apply(bench.stage(name, value, dialect="llamacpp"), after, tokens)
    expected = [2 / 1.5 - 3 * 0.25 - 0.5, -2 * 1.5 - 0.25 - 0.5, 1.0, -1.5 - 0.25 - 0.5, 0.0]
    assert torch.allclose(after, torch.tensor([expected]), atol=1e-6)


def test_penalties_of_each_row(bench: Any) -> None:
    logits = torch.tensor([FLAT] * 3)
    tokens = [[0], [1], []]
    for name in ("repetition", "presence", "frequency"):
        stages = [bench.stage(name, v) for v in (0.5, 2.0, 3.0)]
        both = bench.apply(stages, logits, [], tokens)
        for i, stage in enumerate(stages):
            assert torch.equal(both[i : i + 1], bench.apply(stage, logits[:1], [], tokens[i]))


def test_penalties_on_a_narrowed_distribution(bench: Any) -> None:
    """By token, never by column: token 4 is the second column here."""
    dist = Dist(torch.tensor([[1.0, 3.0, -INF, 0.5, 2.0]])).narrow(2)
    after = bench.run(bench.stage("presence", 1.0), dist, bench.context(dist, [], [4])).dense().logits
    assert after.tolist() == [[-INF, 3.0, -INF, -INF, 1.0]]


def test_penalties_never_raise_a_logit_to_infinity(bench: Any) -> None:
    huge = [3e38, -3e38, 0.0]
    for stage in (bench.stage("repetition", 0.1), bench.stage("presence", -3e38), bench.stage("frequency", -3e38)):
        after = bench.apply(stage, huge, [], [0, 1, 2])
        assert after.amax() < INF
        assert not after.softmax(-1).isnan().any()
    with pytest.raises(StrategyError, match="above 0"):
        bench.stage("repetition", 0.0)


def test_min_tokens(bench: Any) -> None:
    stage = bench.stage("min_tokens", 2)
    for output, left in [([], [0, 1, 3]), ([1], [0, 1, 3]), ([1, 1], [0, 1, 2, 3]), ([1] * 3, [0, 1, 2, 3])]:
        assert bench.kept(stage, [0.0] * 4, [1, 1, 1, 1], output, eos=(2,)) == [left]
    assert bench.kept(bench.stage("min_tokens", 2, ids=[0, 3]), [0.0] * 4, eos=(2,)) == [[1, 2]]
    assert bench.kept(stage, [0.0, -INF], [], [], eos=(0,)) == [[0]]  # nothing else is left
    per_row = [bench.stage("min_tokens", n) for n in (0, 1, 2)]
    assert bench.kept(per_row, [[0.0] * 3] * 3, [], [1], eos=(2,)) == [[0, 1, 2], [0, 1, 2], [0, 1]]


def test_min_tokens_over_everything(bench: Any) -> None:
    """Three tokens of prompt and one of output are four."""
    for n, left in [(4, [0, 1, 2, 3]), (5, [0, 1, 3])]:
        stage = bench.stage("min_tokens", n, over="all")
        assert bench.kept(stage, [0.0] * 4, [1, 1, 1], [1], eos=(2,)) == [left]
    ragged = bench.kept(bench.stage("min_tokens", 2, over="all"), [[0.0] * 3] * 3, [[], [1], [1, 1]], eos=(2,))
    assert ragged == [[0, 1], [0, 1], [0, 1, 2]]


@pytest.mark.parametrize(("name", "fields"), [("min_tokens", {"n": 3}), ("length_decay", {"start": 0, "factor": 2.0})])
def test_an_end_of_several_tokens_is_an_error(bench: Any, name: str, fields: dict[str, Any]) -> None:
    """It would be no end that these could hold back or raise: before, it was passed over in silence."""
    for ids in ([[1, 2]], [" the cat"]):
        with pytest.raises(StrategyError, match=f"{name}: names single tokens"):
            bench.apply(bench.stage(name, **fields, ids=ids), [0.0] * 320, [], [1], tokenizer=bench.tokenizer())


def test_no_repeat_ngram_of_the_prompt_or_the_output(bench: Any) -> None:
    """The prompt is 1 2 3, the output 1 2 4 1 2: 3 was behind 1 2 there, 4 here."""
    for over, left in [("all", [0, 1, 2]), ("prompt", [0, 1, 2, 4]), ("output", [0, 1, 2, 3])]:
        stage = bench.stage("no_repeat_ngram", 3, over=over)
        assert bench.kept(stage, [0.0] * 5, [1, 2, 3], [1, 2, 4, 1, 2]) == [left], over
        assert bench.kept(stage, [[0.0] * 3] * 2, [[], [1, 2, 0]], [[1, 2], []]) == [[0, 1, 2]] * 2
    single = bench.stage("no_repeat_ngram", 1, over="prompt")
    assert bench.kept(single, [[0.0] * 5] * 3, [[0], [], [1, 1]], [[1], [1], [2]]) == [
        [1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 2, 3, 4],
    ]  # fmt: skip
    assert bench.kept(bench.stage("no_repeat_ngram", 2, over="output"), [0.0] * 5, [1, 2], [3, 1]) == [[0, 1, 2, 3, 4]]
    assert bench.kept(bench.stage("no_repeat_ngram", 2, over="output"), [0.0] * 5, [1], [2, 1]) == [[0, 1, 2, 3, 4]]


def test_no_repeat_ngram(bench: Any) -> None:
    """After 1 2 3 1 2 no trigram may repeat, so 3 goes; with bigrams 3 goes for 2 3; unigrams ban all that came."""
    for n, left in [
        (3, [0, 1, 2, 4]),
        (2, [0, 1, 2, 4]),
        (1, [0, 4]),
        (4, [0, 1, 2, 3, 4]),
        (6, [0, 1, 2, 3, 4]),
        (0, [0, 1, 2, 3, 4]),
    ]:
        assert bench.kept(bench.stage("no_repeat_ngram", n), [0.0] * 5, [1, 2, 3], [1, 2]) == [left], n


def test_no_repeat_ngram_in_rows_of_different_lengths(bench: Any) -> None:
    prompts = [[1, 2, 1], [], [4], [2, 2, 2, 2, 2, 2]]
    assert bench.kept(bench.stage("no_repeat_ngram", 2), [[0.0] * 5] * 4, prompts) == [
        [0, 1, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 3, 4],
    ]  # fmt: skip


def test_no_repeat_ngram_on_a_narrowed_distribution(bench: Any) -> None:
    dist = Dist(torch.tensor([[0.0, 1.0, 2.0, 9.0, 8.0]])).narrow(3)
    after = bench.run(bench.stage("no_repeat_ngram", 2), dist, bench.context(dist, [3, 4, 3, 0, 3]))
    assert after.dense().alive.nonzero()[:, 1].tolist() == [2, 3]


def test_none_of_them_keeps_a_state(bench: Any) -> None:
    state: State = ()
    for stage in (bench.stage("repetition", 2.0), bench.stage("no_repeat_ngram", 2), bench.stage("min_tokens", 2)):
        dist = Dist(torch.zeros(1, 4))
        assert stage.init(bench.context(dist)) == state
