"""Stopping criteria against transformers' own, in process: at which token each first fires.

Ours are asked row by row of a batch and as the loop asks them; transformers' are asked with each beginning of the
output in turn. What differs is said by a test of its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import stopping_criteria as hf

from logitmill.core.dist import Dist
from logitmill.core.tokens import TokenText

VOCAB = 23


def rows(seed: int, count: int, vocab: int = VOCAB) -> tuple[list[list[int]], list[list[int]]]:
    chance = random.Random(seed)
    prompts = [[chance.randrange(vocab) for _ in range(chance.randrange(6))] for _ in range(count)]
    outputs = [[chance.randrange(vocab) for _ in range(chance.randint(1, 20))] for _ in range(count)]
    return prompts, outputs


def ours(bench: Any, criterion: Any, prompts: list[list[int]], outputs: list[list[int]], **more: Any) -> list[bool]:
    dist = Dist(torch.zeros(len(outputs), VOCAB))
    return bench.run(criterion, dist, bench.context(dist, prompts, outputs, **more))[:, 0].tolist()


def theirs(criterion: Any, tokens: list[int], scores: Any = None) -> bool:
    held = criterion(torch.tensor([tokens], dtype=torch.int64), scores)
    return held if isinstance(held, bool) else bool(held.item())


@pytest.mark.parametrize("n", [1, 3, 8, 20])
def test_max_length(bench: Any, parity: Any, n: int) -> None:
    prompts, outputs = rows(n, 200)
    got = ours(bench, bench.stage("max_length", n), prompts, outputs)
    want = [theirs(hf.MaxLengthCriteria(n), p + o) for p, o in zip(prompts, outputs, strict=True)]
    assert got == want
    assert any(got)
    assert n == 1 or not all(got)
    parity.note("max_length", "transformers", 0.0, len(got))


@pytest.mark.parametrize("ids", [(3,), (0, 7, 22)])
@pytest.mark.parametrize("name", ["eos", "stop_ids"])
def test_eos(bench: Any, parity: Any, ids: tuple[int, ...], name: str) -> None:
    prompts, outputs = rows(5, 400)
    got = ours(bench, bench.stage(name, *ids), prompts, outputs)
    assert got == [theirs(hf.EosTokenCriteria(list(ids)), p + o) for p, o in zip(prompts, outputs, strict=True)]
    assert any(got)
    if name == "eos":
        assert ours(bench, bench.stage("eos"), prompts, outputs, eos=ids) == got
    parity.note(name, "transformers", 0.0, len(got))


def test_timeout(bench: Any, parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal but where the seconds are exactly those that were given: ours ends there, transformers' just behind."""
    elapsed = [0.0, 0.5, 2.0, 1.999, 2.001, 50.0]
    got = ours(bench, bench.stage("timeout", 2.0), [[1]] * 6, [[1]] * 6, elapsed=elapsed)
    want = []
    for seconds in elapsed:
        monkeypatch.setattr(time, "time", lambda seconds=seconds: 1000.0 + seconds)
        want.append(theirs(hf.MaxTimeCriteria(2.0, initial_timestamp=1000.0), [1, 1]))
    monkeypatch.undo()
    assert [g for g, s in zip(got, elapsed, strict=True) if s != 2.0] == [
        w for w, s in zip(want, elapsed, strict=True) if s != 2.0
    ]
    assert (got[2], want[2]) == (True, False)
    parity.note("timeout", "transformers", 0.0, len(elapsed) - 1)


LOGITS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "smooth": lambda g: torch.randn(40, VOCAB, generator=g) * 2,
    "sharp": lambda g: torch.randn(40, VOCAB, generator=g) * 30,
    "ties": lambda g: torch.randint(-4, 4, (40, VOCAB), generator=g) / 2.0,
    "half": lambda g: (torch.randn(40, VOCAB, generator=g) * 2).half().float(),
    "removed": lambda g: torch.randn(40, VOCAB, generator=g).masked_fill(
        torch.rand(40, VOCAB, generator=g) < 0.5, -float("inf")
    ),
    "far": lambda g: torch.randn(40, VOCAB, generator=g) * 1e4,
}


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("p", [0.0, 0.01, 0.05, 0.2, 0.5, 0.999, 1.0])
def test_confidence(bench: Any, parity: Any, kind: str, p: float) -> None:
    """Of the probabilities that the row was drawn from; transformers is asked row by row, since it sees the first."""
    logits = LOGITS[kind](torch.Generator().manual_seed(3))
    chance = random.Random(4)
    outputs = [[chance.randrange(VOCAB) for _ in range(chance.randint(1, 5))] for _ in logits]
    dist = Dist(logits)
    ctx = bench.context(dist, [0], outputs)
    got = bench.run(bench.stage("confidence", p), dist, ctx)[:, 0].tolist()
    want = [theirs(hf.ConfidenceCriteria(p), [0, *o], (row[None],)) for o, row in zip(outputs, logits, strict=True)]
    assert got == want
    parity.note("confidence", "transformers", 0.0, len(got))


# stop strings


def first(fires: Callable[[int], bool], size: int) -> int | None:
    return next((n for n in range(1, size + 1) if fires(n)), None)


def our_step(bench: Any, name: str, string: str, output: list[int], tokenizer: Any, prompt: Any = ()) -> int | None:
    """At which token the criterion first holds, its text growing as the loop's does."""
    criterion, reader = bench.stage(name, string), TokenText(tokenizer)
    dist, text = Dist(torch.zeros(1, len(tokenizer))), ""
    for n, token in enumerate(output, 1):
        text += reader.push(token)
        ctx = bench.context(dist, list(prompt), output[:n], tokenizer=tokenizer)
        held = criterion.check_text(text, ctx)
        if (held is not None and held is not False) or bench.run(criterion, dist, ctx).item():
            return n
    return None


def their_step(string: str, output: list[int], tokenizer: Any, prompt: Any = ()) -> int | None:
    criterion = hf.StopStringCriteria(tokenizer, [string])
    return first(lambda n: theirs(criterion, [*prompt, *output[:n]]), len(output))


@pytest.mark.parametrize("name", ["stop", "text"])
def test_stop_strings(bench: Any, parity: Any, name: str) -> None:
    """Strings cut out of the text itself, at any characters, and some that are not in it; tokens are bytes, too."""
    tokenizer, chance = bench.tokenizer(), random.Random(6)
    plain = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    whole = tokenizer("é 12 the cat😀 however", add_special_tokens=False)["input_ids"]
    hits = cases = 0
    while cases < 250:
        output = chance.choices(plain, k=chance.randint(2, 10)) if cases % 3 else whole[: chance.randint(2, len(whole))]
        text = tokenizer.decode(output, skip_special_tokens=True)
        at, size = chance.randrange(len(text)), chance.randint(1, 6)
        string = text[at : at + size] if chance.random() < 0.8 else chance.choice(["the", " cat", "xyz", "12 ", "e m"])
        if "\ufffd" in string:  # what no bytes read as is in no string that anyone waits for
            continue
        got = our_step(bench, name, string, output, tokenizer)
        assert got == their_step(string, output, tokenizer), (string, output)
        hits, cases = hits + (got is not None), cases + 1
    assert 150 < hits < cases
    parity.note(name, "transformers", 0.0, cases)


def test_where_stop_strings_differ(bench: Any) -> None:
    tokenizer = bench.tokenizer()
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731  # a shorthand
    # Theirs looks at prompt and output as one: a string that begins in the prompt is found. Ours is the output's alone.
    assert their_step("at s", encode(" sat"), tokenizer, encode("the cat")) == 1
    assert our_step(bench, "stop", "at s", encode(" sat"), tokenizer, encode("the cat")) is None
    # The text does not show special tokens. Theirs finds their text inside a longer string, ours where it is all of it.
    ended = encode("the<|end|>the")
    assert their_step("<|end|>", ended, tokenizer) == our_step(bench, "stop", "<|end|>", ended, tokenizer)
    assert their_step("|>the", ended, tokenizer) is not None
    assert our_step(bench, "stop", "|>the", ended, tokenizer) is None
    assert our_step(bench, "stop", "thethe", ended, tokenizer) is not None
    assert their_step("thethe", ended, tokenizer) is None
