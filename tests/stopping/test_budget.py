"""A region's budget: on tokens and on text, in the prompt and in phases."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError


def spent(bench: Any, prompts: Any, outputs: Any, *args: Any, **fields: Any) -> list[bool]:
    dist = Dist(torch.zeros(len(outputs), 9))
    return bench.run(bench.stage("budget", *args, **fields), dist, bench.context(dist, prompts, outputs))[:, 0].tolist()


def test_by_hand(bench: Any) -> None:
    """5 opens, 6 closes; the tokens behind the marker count, wherever it stands."""
    cases = [
        ([0], [5, 1], False),
        ([0], [5, 1, 2], True),
        ([0], [1, 2, 5], False),
        ([0], [1, 2, 3, 4], False),  # none is open
        ([0], [5, 1, 6, 1], False),
        ([0], [5, 1, 6, 5, 1], False),
        ([0], [5, 1, 6, 5, 1, 2], True),
        ([0], [5, 1, 5], True),  # regions do not nest: it has been open since the first
        ([5], [1], False),
        ([5, 1], [1], True),  # opened in the prompt, with a token of it inside
        ([5, 1, 6, 5], [1], False),
        ([5], [1, 6, 2], False),
        ([0], [], False),
    ]
    for prompt, output, holds in cases:
        assert spent(bench, [prompt], [output], 2, open=5, close=6) == [holds], (prompt, output)
    together = spent(bench, [case[0] for case in cases], [case[1] for case in cases], 2, open=5, close=6)
    assert together == [case[2] for case in cases]


def test_equal_markers(bench: Any) -> None:
    outputs = [[5, 1, 2], [5, 1, 5, 1, 2], [5, 1, 5, 5, 1, 2], [5, 1, 5, 5, 1]]
    assert spent(bench, [0], outputs, 2, open=5, close=5) == [True, False, True, False]


def test_fields(bench: Any) -> None:
    criterion = bench.stage("budget", 7)
    assert (criterion.open, criterion.close, criterion.finish_reason) == ("<think>", "</think>", "length")
    assert spent(bench, [0], [[5], [1]], 0, open=5, close=6) == [True, False]
    for bad in ({"n": -1}, {"n": 3, "open": ""}, {"n": 3, "close": ""}, {"n": 3, "open": -1}):
        with pytest.raises(StrategyError):
            bench.stage("budget", **bad)
    with pytest.raises(StrategyError, match=r"budget: token id 99 is outside the vocabulary of 9"):
        spent(bench, [0], [[1]], 2, open=99, close=1)
    dist = Dist(torch.zeros(1, 9))
    with pytest.raises(StrategyError, match="within: token id 99"):
        bench.run(bench.stage("within", 99, 1), dist, bench.context(dist))


@pytest.mark.parametrize("markers", [("<think>", "</think>"), ("[", "]"), ("<the", "end>"), ("```", "```")])
def test_on_text_as_on_tokens(bench: Any, markers: tuple[str, str]) -> None:
    """Token by token, from the one that completes the marker on, whatever the markers are made of."""
    tokenizer = bench.tokenizer()
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731  # a shorthand
    before, behind = encode(f"the cat {markers[0]}"), encode("sat é on 12 the mat however")
    for prompt, output in (([], before + behind), (before, behind), (before + behind[:2], behind[2:])):
        for n in (0, 1, 3, 8):
            stage = bench.stage("budget", n, *markers)
            for size in range(1, len(output) + 1):
                dist = Dist(torch.zeros(1, len(tokenizer)))
                ctx = bench.context(dist, prompt, output[:size], tokenizer=tokenizer)
                held = bench.run(stage, dist, ctx).item() or stage.check_text("", ctx)
                assert held == (len(prompt) + size - len(before) >= n), (n, size)


CLOSED = (
    'phases({{ {pipe} | greedy until text("]") or budget({n}, "[", "]") }}, '
    "{{ allow({z}) | greedy until max_tokens(2) }})"
)


@pytest.mark.parametrize("lookahead", [False, True])
def test_moves_a_phase_on(make_engine: Any, lookahead: bool) -> None:
    """Whichever comes first: the end of the region, or its budget."""
    engine = make_engine(lookahead=lookahead)
    z = engine.vocab.encode("z")[0]
    for text, n, whole in [("a[bcdefgh", 4, "a[bcdezz"), ("a[bc]fgh", 4, "a[bc]zz"), ("[a", 1, "[azz")]:
        pipe = " | ".join(f"when step == {i} {{ allow({t}) }}" for i, t in enumerate(engine.vocab.encode(text)))
        alone = engine.generate("say: ", CLOSED.format(pipe=pipe, n=n, z=z))
        assert alone.text == whole
        batch = engine.generate(["say: ", "say"], [CLOSED.format(pipe=pipe, n=n, z=z), "greedy until max_tokens(5)"])
        assert batch[0].text == whole
    ended = engine.generate("<x", f"allow({z}) | greedy until budget(3, '<', '>')".replace("'", '"'))
    assert (ended.text, ended.finish_reason, ended.criterion) == ("zz", "length", "budget")
