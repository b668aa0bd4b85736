"""Requests that wait together are prefilled in one pass, and each gets what it gets alone."""

from __future__ import annotations

from typing import Any

import pytest

from logitmill import LogitsProcessor, Strategy
from logitmill.core.loader import register, unregister
from logitmill.plugins.testing.tiny import engine

PROMPTS = ["The sea", "A", "Once upon a time there was", "x" * 40, "Two words"]
SAMPLED = "temperature(0.9) | top_k(40) | sample until max_tokens(12)"


class Counting:
    """A runner that remembers how prompts came."""

    def __init__(self, runner: Any) -> None:
        self.runner, self.passes = runner, list[tuple[int, ...]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

    def prefill(self, row: int, tokens: Any, start: int = 0, chunk: int = 512) -> Any:
        self.passes.append((len(tokens) - start,))
        return self.runner.prefill(row, tokens, start=start, chunk=chunk)

    def prefill_many(self, first: int, prompts: Any) -> Any:
        made = self.runner.prefill_many(first, prompts)
        if made is not None:
            self.passes.append(tuple(map(len, prompts)))
        return made


def texts(prompts: list[str], **options: Any) -> tuple[list[str], list[tuple[int, ...]]]:
    counts: list[Counting] = []

    def wrap(runner: Any) -> Any:
        counts.append(Counting(runner))
        return counts[-1]

    with engine(wrap=wrap, **options) as made:
        out = made.generate(prompts, SAMPLED, seed=3, progress=False)
        return [completion.raise_for_error().text for completion in out], counts[0].passes


def test_who_waits_together_is_prefilled_together() -> None:
    together, passes = texts(PROMPTS, rows=8)
    assert passes == [tuple(len(prompt) for prompt in PROMPTS)]
    alone = []
    for seed_of_its_own, prompt in enumerate(PROMPTS):
        with engine(rows=8) as made:
            out = made.generate(PROMPTS, SAMPLED, seed=3, progress=False)[seed_of_its_own]
            alone.append(made.generate(prompt, SAMPLED, seed=out.seed, progress=False).text)
    assert together == alone


def test_rows_that_come_free_take_who_fits() -> None:
    few, passes = texts(PROMPTS, rows=2)
    assert few == texts(PROMPTS, rows=8)[0]
    assert max(map(len, passes)) == 2
    assert sum(map(len, passes)) == len(PROMPTS)


def test_row_by_row_where_bits_must_not_depend_on_company() -> None:
    invariant, passes = texts(PROMPTS, rows=3, batch_invariant=True)
    assert {len(each) for each in passes} == {1}
    assert len(invariant) == len(PROMPTS)


def test_long_prompts_go_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitmill.core import loop

    monkeypatch.setattr(loop, "CHUNK", 16)
    _, passes = texts(["ab", "cd", "e" * 30, "f" * 14, "g"], rows=8, max_length=64)
    assert passes == [(2, 2), (30,), (14, 1)]


class Refusing(LogitsProcessor, name="test.refusing"):
    """Raises before its first token, for prompts of one length."""

    length: int

    def init(self, ctx: Any) -> Any:
        if int(ctx.lengths[0]) == self.length:
            raise ValueError("not this one")
        return ()

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist


def test_one_that_cannot_join_does_not_hurt_its_neighbours() -> None:
    register(Refusing)
    try:
        strategy = Strategy.parse(f"test.refusing(2) | {SAMPLED}")
        prompts = ["abcd", "xy", "Once upon", "zzz"]
        with engine(rows=8) as made:
            seeds = [5, 6, 7, 8]
            out = made.generate(prompts, strategy, seed=seeds, progress=False)
            assert [completion.error is None for completion in out] == [True, False, True, True]
            for completion, prompt, seed in zip(out, prompts, seeds, strict=True):
                if completion.error is None:
                    assert completion.text == made.generate(prompt, SAMPLED, seed=seed, progress=False).text
    finally:
        unregister(Refusing)


def test_a_pass_that_fails_is_done_again_one_by_one() -> None:
    class Failing(Counting):
        def prefill_many(self, first: int, prompts: Any) -> Any:
            raise RuntimeError("out of memory")

    with engine(rows=8, wrap=Failing) as made:
        out = made.generate(PROMPTS, SAMPLED, seed=3, progress=False)
        assert [completion.error for completion in out] == [None] * len(PROMPTS)
        assert made.runner.passes == [(len(prompt),) for prompt in PROMPTS]
