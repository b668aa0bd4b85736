"""A long prompt joins in chunks: rows that decode go on between them, and everybody gets what they get alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from logitmill import Strategy
from logitmill.core.batch import CHUNK

Make = Callable[..., Any]
SAMPLED = Strategy.parse("temperature(0.9) | top_k(40) | sample until max_tokens(12)")
SHORT, LONG = [65, 66, 67], [40 + i % 50 for i in range(3 * CHUNK + 100)]


def submitted(engine: Any, prompts: list[list[int]], strategies: Any = SAMPLED) -> list[Any]:
    many = strategies if isinstance(strategies, list) else [strategies] * len(prompts)
    requests = engine._requests(prompts, many, list(range(len(prompts))), 1, None, None, trace=False, echo=False)
    for request in requests:
        engine.loop.submit(request)
    return list(requests)


def run(engine: Any, results: dict[int, Any]) -> int:
    """Steps until nothing is left; fills ``results`` by the index of the request."""
    steps = 0
    while engine.loop.busy:
        for event in engine.loop.step():
            if event.completion is not None:
                results[event.index] = event.completion
        steps += 1
    return steps


def alone(make_engine: Make, prompt: list[int], seed: int, **options: Any) -> list[int]:
    engine = make_engine(rows=1, max_length=2000, **options)
    return list(engine.generate(prompt, SAMPLED, seed=seed).tokens)


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("batch_invariant", [False, True])
def test_rows_go_on_between_the_chunks_of_a_long_prompt(
    make_engine: Make, lookahead: bool, batch_invariant: bool
) -> None:
    options = {"batch_invariant": batch_invariant}
    engine = make_engine(rows=3, max_length=2000, lookahead=lookahead, **options)
    [first, long] = submitted(engine, [SHORT, LONG])
    engine.loop.queue.remove(long)
    engine.loop.step()
    engine.loop.submit(long)
    lengths = []
    for _ in range(4):
        engine.loop.step()
        lengths.append((len(first.rows[0].tokens), engine.runner.lengths[1]))
    assert [tokens for tokens, _ in lengths] == [2, 3, 4, 5], "a chunk a step, and a token"
    assert [filled for _, filled in lengths[:3]] == [CHUNK, 2 * CHUNK, 3 * CHUNK]
    assert len(long.rows) == 1
    results: dict[int, Any] = {}
    run(engine, results)
    assert list(results[0].tokens) == alone(make_engine, SHORT, 0, **options)
    assert list(results[1].tokens) == alone(make_engine, LONG, 1, **options)


def test_with_nobody_to_wait_for_it_a_long_prompt_is_prefilled_at_once(make_engine: Make) -> None:
    engine = make_engine(rows=3, max_length=2000)
    requests = submitted(engine, [LONG, LONG[::-1]])
    engine.loop.step()
    assert [len(request.rows[0].tokens) for request in requests] == [1, 1]


def test_rows_that_leave_meanwhile_do_not_lose_what_is_filled(make_engine: Make) -> None:
    """The prompt is filled above the rows, and moves down where they have become fewer, or none."""
    brief = Strategy.parse("temperature(0.9) | top_k(40) | sample until max_tokens(2)")
    for survivors in (0, 1):
        engine = make_engine(rows=4, max_length=2000)
        first = submitted(engine, [SHORT, SHORT[::-1]], [brief, SAMPLED if survivors else brief])
        engine.loop.step()
        [_, _, long] = engine._requests(
            [SHORT, SHORT, LONG], [SAMPLED] * 3, [0, 1, 2], 1, None, None, trace=False, echo=False
        )
        engine.loop.submit(long)
        results: dict[int, Any] = {}
        run(engine, results)
        assert len(first) == 2
        assert list(results[2].tokens) == alone(make_engine, LONG, 2)
        assert len(results[0].tokens) == 2


def test_who_queues_behind_waits_and_is_served_in_turn(make_engine: Make) -> None:
    engine = make_engine(rows=4, max_length=2000)
    [_, long, behind] = submitted(engine, [SHORT, LONG, SHORT[::-1]])
    for request in (long, behind):
        engine.loop.queue.remove(request)
    engine.loop.step()
    for request in (long, behind):
        engine.loop.submit(request)
    engine.loop.step()
    assert list(engine.loop.queue) == [long, behind]
    results: dict[int, Any] = {}
    run(engine, results)
    assert [list(results[i].tokens) for i in range(3)] == [
        alone(make_engine, prompt, i) for i, prompt in enumerate((SHORT, LONG, SHORT[::-1]))
    ]


def test_many_short_prompts_are_no_longer_a_wait_than_a_chunk(make_engine: Make) -> None:
    engine = make_engine(rows=8, max_length=2000)
    submitted(engine, [SHORT])
    engine.loop.step()
    submitted(engine, [[70] * 300] * 5)
    joined = []
    for _ in range(3):
        engine.loop.step()
        joined.append(len(engine.loop.batch))
    assert joined == [3, 5, 6]


def test_a_cancelled_long_prompt_leaves_its_slot_to_others(make_engine: Make) -> None:
    engine = make_engine(rows=3, max_length=2000)
    [_, long, after] = submitted(engine, [SHORT, LONG, SHORT[::-1]])
    for request in (long, after):
        engine.loop.queue.remove(request)
    engine.loop.step()
    engine.loop.submit(long)
    engine.loop.step()
    engine.loop.submit(after)
    long.cancel()
    results: dict[int, Any] = {}
    run(engine, results)
    assert results[1].finish_reason == "cancelled"
    assert list(results[2].tokens) == alone(make_engine, SHORT[::-1], 2)
    assert engine.loop.batch.filling is None


def test_a_model_that_fails_between_chunks_costs_that_request_alone(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(rows=3, max_length=2000)
    [_, long] = submitted(engine, [SHORT, LONG])
    engine.loop.queue.remove(long)
    engine.loop.step()
    forward = engine.runner._forward

    def failing(cache: Any, tokens: Any, step: Any, keep: int) -> Any:
        if step.start == CHUNK and step.width > 1:
            raise RuntimeError("no memory")
        return forward(cache, tokens, step, keep)

    monkeypatch.setattr(engine.runner, "_forward", failing)
    engine.loop.submit(long)
    results: dict[int, Any] = {}
    run(engine, results)
    assert "no memory" in str(results[1].error)
    assert list(results[0].tokens) == alone(make_engine, SHORT, 0)
    assert engine.loop.batch.filling is None


def test_a_search_may_fork_while_a_prompt_is_being_filled(make_engine: Make) -> None:
    """The rows of a search that has not forked yet are reserved: the prompt is filled above them."""
    forking = Strategy.parse(
        "phases({ temperature(0.9) | top_k(40) | sample until max_tokens(2) }, "
        "{ best_of(2) { temperature(0.9) | sample } until max_tokens(9) })"
    )
    engine = make_engine(rows=4, max_length=2000)
    [_, long] = submitted(engine, [SHORT, LONG], [forking, SAMPLED])
    engine.loop.queue.remove(long)
    engine.loop.step()
    engine.loop.submit(long)
    results: dict[int, Any] = {}
    run(engine, results)
    assert results[0].error is None
    assert list(results[1].tokens) == alone(make_engine, LONG, 1)


def test_chunks_give_the_logits_of_one_go(make_engine: Make) -> None:
    runner = make_engine(rows=3, max_length=2000).runner
    *between, last = runner.prefill_in_chunks(1, LONG, chunk=CHUNK)
    assert between == [None] * 3
    torch.testing.assert_close(last, runner.prefill(2, LONG, chunk=5000), atol=1e-3, rtol=1e-3)
    assert torch.equal(last, runner.prefill(0, LONG, chunk=CHUNK))
