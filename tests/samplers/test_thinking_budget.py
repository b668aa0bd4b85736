"""thinking_budget: a region that is ended after so many tokens, by hand and with a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError

INF = float("inf")
OPEN, CLOSE, VOCAB = 4, 5, 6
EVERY = [*range(VOCAB)]


def left(bench: Any, tokens: Sequence[int], n: int, *markers: Any) -> list[int]:
    """The tokens left of a flat distribution."""
    stage = bench.stage("thinking_budget", n, *(markers or (OPEN, CLOSE)))
    found: list[int] = bench.kept(stage, [0.0] * VOCAB, tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :])[0]
    return found


def test_a_region_is_closed_after_n_tokens(bench: Any) -> None:
    for n in range(4):
        for size in range(6):
            assert left(bench, [1, OPEN, *[0] * size], n) == ([CLOSE] if size >= n else EVERY), (n, size)


def test_nothing_happens_outside_a_region(bench: Any) -> None:
    for tokens in ([], [1], [0] * 9, [CLOSE, 0, 0], [OPEN, 0, CLOSE], [OPEN, 0, CLOSE, 0, 0, 0], [OPEN, CLOSE]):
        assert left(bench, tokens, 2) == EVERY, tokens


def test_each_region_has_its_own_tokens_and_they_do_not_nest(bench: Any) -> None:
    again = [OPEN, 0, 0, CLOSE, 1, OPEN]
    assert left(bench, again, 2) == EVERY
    assert left(bench, [*again, 0], 2) == EVERY
    assert left(bench, [*again, 0, 0], 2) == [CLOSE]
    assert left(bench, [OPEN, 0, OPEN], 2) == [CLOSE]  # the second marker is one of the region's two tokens


def test_equal_markers_open_and_close_in_turn(bench: Any) -> None:
    for tokens, expected in [([4], EVERY), ([4, 0], [4]), ([4, 0, 4, 0, 0], EVERY), ([4, 4, 4, 0], [4]), ([], EVERY)]:
        assert left(bench, tokens, 1, 4, 4) == expected, tokens


def test_what_is_gone_cannot_close(bench: Any) -> None:
    dist = Dist(torch.tensor([[1.0, 3.0, 0.0, 0.0, 0.0, -INF]]))
    result = bench.run(bench.stage("thinking_budget", 0, OPEN, CLOSE), dist, bench.context(dist, [OPEN]))
    assert result.alive.nonzero()[:, 1].tolist() == [1]
    assert result.rescued.tolist() == [[True]]


def test_rows_with_budgets_of_their_own(bench: Any) -> None:
    stages = [bench.stage("thinking_budget", n, OPEN, CLOSE) for n in (0, 1, 2, 2)]
    rows = [[OPEN], [0, 0, 0, OPEN], [OPEN, 0, 0], []]
    assert bench.kept(stages, [[0.0] * VOCAB] * 4, rows) == [[CLOSE], EVERY, [CLOSE], EVERY]


def test_a_schedule(bench: Any) -> None:
    """From 4 tokens to 0 over 4: at the third generated token, with two since the marker, two are allowed."""
    text = "thinking_budget(4 -> 0 over 4, 4, 5)"
    for output, closes in [([0], False), ([0, 0], True), ([0, 0, 0], True)]:
        alive = bench.law(text, [0.0] * VOCAB, [OPEN], output).dense().alive[0]
        assert alive.sum().item() == (1 if closes else VOCAB)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 4), st.booleans())
def test_it_agrees_with_a_walk_along_the_tokens(bench: Any, tokens: list[int], n: int, same: bool) -> None:
    opening, closing = 0, 0 if same else 1
    inside, since = False, 0
    for token in tokens:
        since += 1
        if token == (closing if inside else opening):
            inside, since = not inside, 0
    assert left(bench, tokens, n, opening, closing) == ([closing] if inside and since >= n else EVERY)


def test_markers_of_several_tokens(bench: Any) -> None:
    """These are letters here, matched one after the other, and written one after the other."""
    tokenizer = bench.tokenizer()
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731  # token ids
    opening, closing = encode("<yes>"), encode("</yes>")
    assert len(opening) > 1
    stage = bench.stage("thinking_budget", 2, "<yes>", "</yes>")
    cat = encode(" cat")

    def after(tokens: list[int]) -> list[int]:
        found: list[int] = bench.kept(stage, [0.0] * len(tokenizer), [], tokens, tokenizer=tokenizer)[0]
        return found if len(found) < 9 else []

    assert after(opening) == []
    assert after([*opening[:-1], *cat, *cat]) == []
    assert after([*opening, *cat]) == []
    for begun in range(len(closing)):
        assert after([*opening, *cat, *cat, *closing[:begun]]) == [closing[begun]]
    assert after([*opening, *cat, *cat, *closing]) == []
    assert after([*opening, *closing[:1], *cat]) == [closing[0]]  # begun and left off
    assert after([*opening, *closing]) == []
    assert after([*opening, *cat, *cat, *closing, *opening, *cat]) == []
    assert after([*opening, *cat, *cat, *closing, *opening, *cat, *cat]) == [closing[0]]


def test_a_closing_marker_that_overlaps_itself(bench: Any) -> None:
    """Of yes yes 12, two tokens are there after the second yes, whichever they are."""
    stage_of = lambda n: bench.stage("thinking_budget", n, "<think>", "yes yes 12")  # noqa: E731
    tokenizer = bench.tokenizer()
    closing = tokenizer.encode("yes yes 12", add_special_tokens=False)
    tokens = [tokenizer.convert_tokens_to_ids("<think>")]
    for expected in closing:
        assert bench.kept(stage_of(0), [0.0] * len(tokenizer), tokens, tokenizer=tokenizer) == [[expected]]
        tokens.append(expected)


def test_errors(bench: Any) -> None:
    with pytest.raises(StrategyError, match="needs a tokenizer"):
        bench.apply(bench.stage("thinking_budget", 3), [0.0] * VOCAB)
    with pytest.raises(StrategyError, match="outside the vocabulary"):
        bench.apply(bench.stage("thinking_budget", 3, 4, 99), [0.0] * VOCAB)
    for marker in ("", -1, 2.5):
        with pytest.raises(StrategyError):
            bench.stage("thinking_budget", 3, marker, 5)
    with pytest.raises(StrategyError, match="at least 0"):
        bench.stage("thinking_budget", -1)


# -- with a model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thinker(small: Any, bench: Any) -> Any:
    """A random model over the bench's tokenizer, in which <think> and </think> are tokens."""
    return small.engine(small.loaded(small.llama(vocab_size=320, eos_token_id=0), bench.tokenizer()))


def regions(tokens: Sequence[int], opening: int, closing: int) -> list[int]:
    """How many tokens each closed region has."""
    sizes, since = [], -1
    for token in tokens:
        if since < 0:
            since = 0 if token == opening else -1
        elif token == closing:
            sizes.append(since)
            since = -1
        else:
            since += 1
    return [*sizes, since] if since >= 0 else sizes


def test_a_model_stops_thinking_in_time(thinker: Any) -> None:
    """Prompts of different lengths, in one of which the region is open already; a bias makes it open others."""
    tokenizer = thinker.tokenizer
    opening, closing = (tokenizer.convert_tokens_to_ids(marker) for marker in ("<think>", "</think>"))
    prompts = ["the cat", "<think> the cat sat on the mat however", "yes yes<think>", "12<think> 34</think> the"]
    strategy = 'thinking_budget(3) | bias(["<think>": 9.0, "</think>": -99.0]) | sample(seed=5) until max_tokens(40)'
    out = thinker.generate(prompts, strategy=strategy)
    for prompt, completion in zip(prompts, out, strict=True):
        completion.raise_for_error()
        before = tokenizer.encode(prompt, add_special_tokens=False)
        sizes = regions([*before, *completion.tokens], opening, closing)
        assert len(sizes) > 2
        assert set(sizes[1:-1]) == {3}, sizes
        assert sizes[-1] <= 3
    assert out[1].tokens[0] == closing
    assert out[2].tokens[3] == closing
    alone = thinker.generate(prompts[2], strategy=strategy, seed=out[2].seed)
    assert alone.tokens == out[2].tokens


def test_a_model_writes_a_marker_of_several_tokens(engine: Any) -> None:
    """Over bytes every marker is several tokens."""
    strategy = 'thinking_budget(n=4, open="<t>", close="</t>") | sample(seed=2) until max_tokens(12)'
    out = engine.generate(["a<t>", "some more<t>12", "none"], strategy=strategy)
    closing = tuple(engine.tokenizer.encode("</t>", add_special_tokens=False))
    for completion in out:
        completion.raise_for_error()
    assert out[0].tokens[4:8] == closing
    assert out[1].tokens[2:6] == closing
    assert all(out[2].tokens[i : i + 4] != closing for i in range(9))
