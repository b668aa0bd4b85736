"""DRY against values worked on paper, and against its definition restated in plain Python, one place at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Pattern
from logitmill.samplers.dry import Dry

INF = float("inf")
ZEROS = [0.0] * 6


def costs(bench: Any, tokens: Sequence[int], *args: Any, **fields: Any) -> dict[int, float]:
    """What a flat distribution over six tokens loses, by token. The sequence is cut into prompt and output anywhere."""
    fields = {"breakers": (), **fields}
    after = bench.apply(
        bench.stage("dry", *args, **fields), ZEROS, tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]
    )
    return {i: -value for i, value in enumerate(after[0].tolist()) if value != 0.0}


def test_by_hand(bench: Any) -> None:
    """After 0 1 2 3 4 0 1 2 the 3 would make four of a kind: three are there, one more than is allowed."""
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]
    assert costs(bench, tokens, 0.5) == {3: 0.5 * 1.75}
    assert costs(bench, tokens, 0.5, 2.0) == {3: 1.0}
    assert costs(bench, tokens, 0.5, 2.0, 3) == {3: 0.5}
    assert costs(bench, tokens, 0.5, 2.0, 4) == {}
    assert costs(bench, tokens, 0.5, 2.0, 1) == {3: 2.0}
    assert costs(bench, tokens, 0.5, 2.0, 0) == {3: 4.0}
    assert costs(bench, tokens, 0.5, 1.0) == {3: 0.5}
    assert costs(bench, tokens, 0.0) == {}


def test_short_sequences_cost_nothing(bench: Any) -> None:
    for tokens in ([], [1], [1, 2], [1, 2, 3]):
        assert costs(bench, tokens, 0.5, 2.0, 1) == {}
    assert costs(bench, [1, 1], 0.5, 2.0, 1) == {1: 0.5}


def test_the_longest_of_several_earlier_runs_counts(bench: Any) -> None:
    """Before the end 0 1 2 stood 5 1 2 4 (two) and 0 1 2 4 (three); 3 has been behind a 1 2 alone."""
    assert costs(bench, [5, 1, 2, 4, 0, 1, 2, 4, 5, 1, 2, 3, 0, 1, 2], 0.5, 2.0) == {4: 1.0, 3: 0.5}
    assert costs(bench, [0, 1, 2, 4, 5, 1, 2, 4, 5, 1, 2, 3, 0, 1, 2], 0.5, 2.0) == {4: 1.0, 3: 0.5}


def test_a_run_may_overlap_itself(bench: Any) -> None:
    """1 1 1 1: the three before the last stood there, each with a 1 behind it."""
    assert costs(bench, [1, 1, 1, 1], 0.5, 2.0) == {1: 1.0}
    assert costs(bench, [1, 2] * 3, 0.5, 2.0) == {1: 0.5 * 2.0**2}


def test_a_window_hides_what_is_before_it(bench: Any) -> None:
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]
    for window, expected in [(8, {3: 1.0}), (7, {3: 0.5}), (6, {}), (0, {}), (99, {3: 1.0})]:
        assert costs(bench, tokens, 0.5, 2.0, window=window) == expected, window


def test_no_run_goes_across_a_breaker(bench: Any) -> None:
    """With 1 as breaker only the 2 behind it can repeat; where the last token breaks, nothing does."""
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]
    for keys, expected in [
        ((1,), {3: 0.5}),
        ((2,), {}),
        ((0,), {3: 1.0}),
        ((3,), {}),
        ((4,), {3: 2.0}),
        ((0, 1), {3: 0.5}),
    ]:
        assert costs(bench, tokens, 0.5, 2.0, 1, breakers=keys) == expected, keys


def test_a_sequence_breaks_where_all_of_it_stands(bench: Any) -> None:
    """0 1 ends one token before the end; 1 0 and 2 3 stand nowhere behind the run; 1 2 ends the row."""
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]
    for keys, expected in [(((0, 1),), {3: 0.5}), (((1, 0),), {3: 2.0}), (((1, 2),), {}), (((2, 3),), {3: 2.0}),
                           (((4, 0),), {3: 1.0})]:  # fmt: skip
        assert costs(bench, tokens, 0.5, 2.0, 1, breakers=keys) == expected, keys


def test_amounts_beyond_float32_remove_and_something_is_left(bench: Any) -> None:
    tokens = [1] * 100 + [2, 3] + [1] * 100
    after = bench.apply(bench.stage("dry", 1.0, 10.0, breakers=()), ZEROS, tokens)
    assert after[0, [1, 2]].tolist() == [-INF, -INF]
    assert after[0, [0, 3, 4, 5]].tolist() == [0.0] * 4
    only = bench.apply(bench.stage("dry", 3e38, 1e30, breakers=()), [-INF, 2.0, 1.0, -INF, -INF, -INF], tokens)
    assert only[0].tolist() == [-INF, 2.0, -INF, -INF, -INF, -INF]
    assert bench.apply(bench.stage("dry", 1e-300, 2.0, 1, breakers=()), ZEROS, [1] * 3000)[0, 1] == -INF


def test_rows_of_different_lengths(bench: Any) -> None:
    rows = [[1, 2, 3, 1, 2], [], [4], [2] * 90, [0, 1] * 40, [5, 5], [3, 1, 2, 3, 1, 2, 3, 1, 2]]
    stages = [bench.stage("dry", 0.5 + i, 1.25 + i / 4, i % 3, breakers=()) for i in range(len(rows))]
    together = bench.apply(stages, [ZEROS] * len(rows), rows)
    for i, (stage, row) in enumerate(zip(stages, rows, strict=True)):
        assert torch.equal(together[i : i + 1], bench.apply(stage, ZEROS, row)), i


def test_on_a_narrowed_distribution(bench: Any) -> None:
    dist = Dist(torch.tensor([[1.0, 3.0, -INF, 0.5, 2.0]])).narrow(2)  # tokens 1 and 4
    for behind, left in [(4, [3.0, 1.5]), (0, [3.0, 2.0])]:
        ctx = bench.context(dist, [2, 3, behind, 2, 3])
        assert bench.run(bench.stage("dry", 0.5, breakers=()), dist, ctx).logits.tolist() == [left]


# -- breakers of a tokenizer -------------------------------------------------------------------------------------------


def lost(bench: Any, text: str, *args: Any, **fields: Any) -> dict[str, float]:
    tokenizer = bench.tokenizer()
    dist = Dist(torch.zeros(1, len(tokenizer)))
    ctx = bench.context(dist, tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer=tokenizer)
    after = bench.run(bench.stage("dry", *args, **fields), dist, ctx).logits[0].tolist()
    return {ctx.vocab.texts[i]: -value for i, value in enumerate(after) if value != 0.0}


def test_the_default_breakers_need_a_tokenizer(bench: Any) -> None:
    """Of " the cat: yes the cat: yes" all six could go on; the colon leaves the yes alone."""
    text = " the cat: yes the cat: yes"
    assert lost(bench, text, 0.5, 2.0, breakers=[]) == {" the": 0.5 * 2.0**2}
    assert lost(bench, text, 0.5, 2.0) == {}
    assert lost(bench, text, 0.5, 2.0, 1) == {" the": 0.5}
    assert lost(bench, text, 0.5, 2.0, breakers=["*"]) == {" the": 2.0}
    assert costs(bench, [0, 1, 2, 0, 1], 0.5, breakers=("\n", ":", '"', "*")) == {2: 0.5}
    with pytest.raises(StrategyError, match="needs a tokenizer"):
        costs(bench, [0, 1, 2, 0, 1], 0.5, breakers=("\n",))


def test_default_breakers_that_are_not_in_the_vocabulary_are_left_out(bench: Any) -> None:
    """Logits of six columns beside a tokenizer of 320 tokens, of which the quote is token 2."""
    for dialect in ("logitmill", "textgen", "llamacpp"):
        stage = bench.stage("dry", 0.5, dialect=dialect)
        for tokens, expected in [([0, 1, 3, 0, 1], [0.0, 0.0, 0.0, -0.5, 0.0, 0.0]), ([0, 1, 2, 0, 1], ZEROS)]:
            assert bench.apply(stage, ZEROS, tokens, tokenizer=bench.tokenizer()).tolist() == [expected], dialect


def test_breakers_by_text_and_pattern(bench: Any) -> None:
    text = " the cat sat on the cat sat"
    assert lost(bench, text, 0.5, 2.0, breakers=[]) == {" on": 1.0}
    assert lost(bench, text, 0.5, 2.0, breakers=[" the"]) == {" on": 0.5}
    assert lost(bench, text, 0.5, 2.0, breakers=[" the cat"]) == {}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=[" the cat"]) == {" on": 0.5}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=[Pattern("^ ?s")]) == {}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=[Pattern("t$")]) == {}  # cat and sat


def test_textgen_takes_the_last_token_of_a_breaker(bench: Any) -> None:
    text = " the cat sat on the cat sat"
    assert lost(bench, text, 0.5, 2.0, 1, breakers=[" the cat"], dialect="textgen") == {" on": 0.5}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=[" the"], dialect="textgen") == {" on": 1.0}
    with pytest.raises(StrategyError, match="leave window out"):
        bench.stage("dry", 0.5, window=0, dialect="textgen")


def test_textgen_follows_a_run_for_fifty_tokens(bench: Any) -> None:
    tokens = [1] * 200
    assert costs(bench, tokens, 0.5, 1.0625, 2, dialect="textgen") == {1: float(torch.tensor(0.5 * 1.0625**48))}
    assert costs(bench, tokens, 0.5, 1.0625, 50, dialect="textgen") == {1: 0.5}
    assert costs(bench, tokens, 0.5, 1.0625, 51, dialect="textgen") == {}
    assert costs(bench, tokens, 0.5, 1.0625, 51) == {1: float(torch.tensor(0.5 * 1.0625**148))}


def test_llamacpp_reads_a_breaker_as_what_overlaps_it(bench: Any) -> None:
    """Every token that holds "at" breaks: cat and sat. By default none has just this text but the token "at" itself."""
    text = " the cat sat on the cat sat"
    assert lost(bench, text, 0.5, 2.0, 1, breakers=["at"], dialect="llamacpp") == {}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=["at"]) == {" on": 2.0}
    across = {"breakers": ["cat s"], "dialect": "llamacpp"}  # " cat" ends with its head, the rest is "" of " sat"
    assert lost(bench, " the cat sat on the cat sat", 0.5, 2.0, 1, **across) == {" on": 2.0}


def test_llamacpp_breaks_at_a_token_and_the_rest_of_the_text(bench: Any) -> None:
    """The text "the cat" is never one token: " the" ends with "the", and the rest is the token " cat"."""
    text = " the cat sat on the cat sat"
    assert lost(bench, text, 0.5, 2.0, 1, breakers=["the cat"], dialect="llamacpp") == {" on": 0.5}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=["e cat"], dialect="llamacpp") == {" on": 0.5}
    assert lost(bench, text, 0.5, 2.0, 1, breakers=["the sat"], dialect="llamacpp") == {" on": 2.0}


def test_llamacpp_stops_the_exponent_where_float32_ends(bench: Any) -> None:
    """88.7228391 / ln 10 is 38.5, so 10^38 is the most: a run of 100 costs 1e-37 * 1e38."""
    tokens = [1] * 101
    after = costs(bench, tokens, 1e-37, 10.0, dialect="llamacpp")
    assert after == {1: pytest.approx(10.0, rel=1e-6)}
    assert costs(bench, tokens, 1e-37, 10.0) == {1: INF}


def test_llamacpp_with_no_allowed_length_lowers_the_whole_window(bench: Any) -> None:
    tokens = [0, 1, 2, 3]
    assert costs(bench, tokens, 0.5, 2.0, 0, dialect="llamacpp") == {1: 0.5, 2: 0.5, 3: 0.5}
    assert costs(bench, tokens, 0.5, 2.0, 0, window=3, dialect="llamacpp") == {2: 0.5, 3: 0.5}
    assert costs(bench, tokens, 0.5, 2.0, 0) == {}


# -- the definitions, one place at a time ------------------------------------------------------------------------------

Breakers = list[tuple[int, ...]]


def definition(tokens: list[int], multiplier: float, base: float, allowed: int, breakers: Breakers) -> dict[int, float]:
    """For every earlier place, walk back from it and from the end together."""
    end = len(tokens) - 1
    ends = [i + len(b) - 1 for b in breakers for i in range(len(tokens)) if tuple(tokens[i : i + len(b)]) == b]
    longest: dict[int, int] = {}
    for place in range(end):
        length = 0
        while (
            place - length >= 0
            and tokens[place - length] == tokens[end - length]
            and end - length > max(ends, default=-1)
        ):
            length += 1
        following = tokens[place + 1]
        if length and (following,) not in breakers:
            longest[following] = max(longest.get(following, 0), length)
    return {t: multiplier * base ** (n - allowed) for t, n in longest.items() if n >= allowed}


def definition_llamacpp(
    tokens: list[int], multiplier: float, base: float, allowed: int, breakers: Breakers
) -> dict[int, float]:
    """As llama.cpp says it: a limit from the latest head of a breaker, then suffixes cut to the limit."""
    count = len(tokens)
    if count <= allowed:
        return {}
    limit = count
    for back in range(count):
        at = count - 1 - back
        whole = [len(b) - 1 for b in breakers if tuple(tokens[at : at + len(b)]) == b]
        if whole:
            limit = back - max(whole)
            break
    if limit < allowed:
        return {}
    longest: dict[int, int] = {}
    for shift in range(1, count):
        length = 0
        while length + shift < count and tokens[count - 1 - length] == tokens[count - 1 - length - shift]:
            length += 1
        length = min(length, limit)
        if length >= allowed:
            following = tokens[count - shift]
            longest[following] = max(longest.get(following, 0), length)
    most = int(torch.tensor(88.7228391) / torch.tensor(base).log()) if base > 1.000001 else 10**9
    return {t: multiplier * base ** min(n - allowed, most) for t, n in longest.items() if (t,) not in breakers}


class Dearer(Dry, name="test.dearer"):
    """As written in a package of somebody's: with a field more."""

    times: float

    def _costs(self, runs: torch.Tensor) -> torch.Tensor:
        return super()._costs(runs) * self.times


def test_a_stage_that_stands_on_it(bench: Any) -> None:
    tokens = [0, 1, 2, 3, 4, 0, 1, 2]
    for times in (2.0, 3.0):
        after = bench.apply(Dearer(0.5, breakers=(), times=times), ZEROS, tokens, [])
        assert after[0].tolist() == [0.0, 0.0, 0.0, -0.875 * times, 0.0, 0.0]


VOCAB = 5
token = st.integers(0, VOCAB - 1)
periodic = st.tuples(st.lists(token, min_size=1, max_size=4), st.integers(1, 60), st.lists(token, max_size=3)).map(
    lambda parts: (parts[0] * parts[1] + parts[2] + parts[0] * parts[1])[-120:]
)
sequences = st.lists(token, max_size=120) | periodic
breaking = st.lists(st.lists(token, min_size=1, max_size=3).map(tuple), max_size=3, unique=True)


@settings(max_examples=150)
@given(
    rows=st.lists(sequences, min_size=1, max_size=3),
    breakers=breaking,
    window=st.none() | st.integers(1, 130),
    values=st.tuples(st.sampled_from([0.25, 0.8, 3.0]), st.sampled_from([1.0, 1.1, 1.75, 4.0]), st.integers(0, 4)),
    dialect=st.sampled_from(["logitmill", "textgen", "llamacpp"]),
)
def test_it_is_its_definition(
    bench: Any, rows: list[list[int]], breakers: Breakers, window: int | None, values: Any, dialect: str
) -> None:
    multiplier, base, allowed = values
    if dialect == "textgen":
        breakers = [b for b in breakers if len(b) == 1]
    if dialect == "llamacpp":  # there they are float32
        multiplier, base = (float(torch.tensor(value)) for value in (multiplier, base))
    stage = bench.stage("dry", *values, window=window, breakers=tuple(breakers), dialect=dialect)
    logits = torch.arange(VOCAB).repeat(len(rows), 1) / 64.0
    after = bench.apply(stage, logits, [row[: len(row) // 3] for row in rows], [row[len(row) // 3 :] for row in rows])
    for row, ours, before in zip(rows, after, logits, strict=True):
        seen = row if window is None else row[-window:]
        if dialect == "textgen":
            seen_costs = {t: min(c, multiplier * base ** (50 - allowed)) for t, c in
                          definition(seen, multiplier, base, allowed, breakers).items()}  # fmt: skip
        else:
            of = definition_llamacpp if dialect == "llamacpp" else definition
            seen_costs = of(seen, multiplier, base, allowed, breakers)
        theirs = before - torch.tensor([seen_costs.get(i, 0.0) for i in range(VOCAB)], dtype=torch.float64).float()
        if bool((theirs == -INF).all()):
            theirs = torch.where(torch.arange(VOCAB) == VOCAB - 1, before, theirs)  # the best of those that came
        assert torch.equal(ours, theirs), (seen, seen_costs)
