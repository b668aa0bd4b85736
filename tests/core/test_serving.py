"""Many tasks on one engine: each gets what it would get alone, whoever else comes, leaves or fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.errors import RequestError, StrategyError

Make = Callable[..., Any]
S = "temperature(0.9) | top_k(60) | sample until max_tokens({n})"


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 120))


def test_many_tasks_with_cancellations_in_between(make_engine: Make) -> None:
    single, engine = make_engine(), make_engine(rows=4)
    rng = random.Random(1)
    asked = [
        ("".join(rng.choice("abc de") for _ in range(rng.randint(1, 20))), rng.randint(3, 20), i) for i in range(40)
    ]
    leaving = set(rng.sample(range(40), 12))
    expected = [single.generate(p, S.format(n=n), seed=i) for p, n, i in asked]

    async def one(served: Any, number: int) -> Any:
        prompt, n, seed = asked[number]
        await asyncio.sleep(rng.random() * 0.05)
        if number not in leaving:
            return await served.generate(prompt, S.format(n=n), seed=seed)
        taken = []
        async for event in served.stream(prompt, S.format(n=n), seed=seed):
            taken.append(event)
            if len(taken) == 2:
                break
        return taken

    async def main() -> list[Any]:
        async with engine.serve() as served:
            return await asyncio.gather(*(one(served, i) for i in range(40)))

    for number, (result, alone) in enumerate(zip(run(main()), expected, strict=True)):
        if number in leaving:
            assert tuple(event.token for event in result) == alone.tokens[:2]
        else:
            assert (result.tokens, result.text) == (alone.tokens, alone.text)
    assert not engine.loop.busy
    assert engine.generate("abc", S.format(n=4), seed=0).tokens == single.generate("abc", S.format(n=4), seed=0).tokens


def test_streams_join_to_their_texts_while_others_are_cancelled(make_engine: Make) -> None:
    engine = make_engine(rows=4)

    async def follow(served: Any, seed: int) -> None:
        pieces, completion = [], None
        async for event in served.stream(
            "abc", 'temperature(2) | sample until stop("e", "ab") or max_tokens(25)', seed=seed
        ):
            pieces.append(event.text)
            completion = event.completion
        assert completion is not None
        assert "".join(pieces) == completion.text

    async def main() -> None:
        async with engine.serve() as served:
            tasks = [asyncio.create_task(follow(served, i)) for i in range(12)]
            passing = [asyncio.create_task(served.generate("abc", S.format(n=200), seed=i)) for i in range(6)]
            for task in passing:
                await asyncio.sleep(0.01)
                task.cancel()
            await asyncio.gather(*tasks)
            assert all(
                isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*passing, return_exceptions=True)
            )

    run(main())


def test_errors_reach_their_own_task(make_engine: Make) -> None:
    engine = make_engine(max_length=40)

    async def main() -> None:
        async with engine.serve() as served:
            good, long = await asyncio.gather(
                served.generate("abc", S.format(n=5)), served.generate("x" * 50, S.format(n=5))
            )
            assert good.error is None
            assert isinstance(long.error, RequestError)
            with pytest.raises(StrategyError, match="unknown stage"):
                await served.generate("abc", "greddy")
            with pytest.raises(RequestError, match="is in use"):
                async with engine.serve():
                    pass
            with pytest.raises(RequestError, match="is being served"):
                engine.generate("abc", "greedy")
            chat = await served.chat([{"role": "user", "content": "Hi"}], S.format(n=5), seed=1)
            assert len(chat.tokens) == 5
        with pytest.raises(RequestError, match="not being served"):
            await served.generate("abc", "greedy")
        assert engine.generate("abc", S.format(n=5)).error is None
        async with engine.serve() as served:
            assert (await served.generate("abc", S.format(n=5))).error is None

    run(main())


def test_too_many_waiting_are_turned_away(make_engine: Make) -> None:
    async def main() -> None:
        async with make_engine(rows=1).serve(max_waiting=2) as served:
            results = await asyncio.gather(
                *(served.generate("abc", S.format(n=9)) for _ in range(4)), return_exceptions=True
            )
            turned = [r for r in results if isinstance(r, RequestError)]
            assert len(turned) == 2
            assert "waiting already" in str(turned[0])

    run(main())


def test_leaving_the_face_ends_what_is_in_flight(make_engine: Make) -> None:
    engine = make_engine()

    async def main() -> Any:
        async with engine.serve() as served:
            task = asyncio.create_task(served.generate("abc", S.format(n=240), seed=1))
            await asyncio.sleep(0.1)
        return await task

    result = run(main())
    assert result.finish_reason == "cancelled"
    assert len(result.tokens) < 240
    assert not engine.loop.busy


def test_an_engine_that_stops_tells_everyone(make_engine: Make, small: Any) -> None:
    holder: list[Any] = []
    engine = make_engine(wrap=lambda runner: holder.append(small.Faulty(runner)) or holder[0])

    def broken(call: int, logits: Tensor) -> Tensor:
        raise AssertionError("a defect of ours") if call == 3 else torch.OutOfMemoryError("too big")

    holder[0].on_decode = lambda call, logits: broken(call, logits) if call >= 3 else logits

    async def main() -> None:
        async with engine.serve() as served:
            results = await asyncio.gather(
                *(served.generate("abc", S.format(n=9)) for _ in range(3)), return_exceptions=True
            )
            assert all(isinstance(r, RequestError) for r in results)  # whoever came later finds it closed
            assert "the engine stopped: AssertionError: a defect of ours" in str(results[0])
            with pytest.raises(RequestError, match="not being served"):
                await served.generate("abc", S.format(n=9))

    run(main())


def test_a_conversation_through_the_face_is_reused(make_engine: Make) -> None:
    engine = make_engine()
    messages = [{"role": "user", "content": "Hello there"}]

    async def main() -> int:
        async with engine.serve() as served:
            first = await served.chat(messages, S.format(n=6), seed=1)
            more = [*messages, {"role": "assistant", "content": first.text}, {"role": "user", "content": "More"}]
            return (await served.chat(more, S.format(n=6), seed=1)).usage.reused_tokens

    assert run(main()) > 10
