"""The asynchronous face: many tasks share one engine, whose loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .completion import Completion, Event
from .errors import LogitmillError, RequestError

if TYPE_CHECKING:
    from .engine import Engine
    from .request import Request

_Answer = Event | BaseException


class Served:
    """Made by ``engine.serve()``. While it is open the engine belongs to it."""

    def __init__(self, engine: Engine, max_waiting: int) -> None:
        self.engine, self.max_waiting = engine, max_waiting
        self._incoming: list[Request] = []
        self._queues: dict[int, asyncio.Queue[_Answer]] = {}
        self._requests: dict[int, Request] = {}
        self._wake = threading.Condition()
        self._open = False
        self._numbers = 0
        self._thread: threading.Thread | None = None
        self._tasks: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Served:
        loop = self.engine.loop
        if loop.busy or loop.served:
            raise RequestError("this engine is in use: finish or close its stream before serving it")
        self._tasks, self._open, loop.served = asyncio.get_running_loop(), True, True
        self._thread = threading.Thread(target=self._work, name="logitmill", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with self._wake:
            self._open = False
            for request in self._requests.values():
                request.cancel()
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        self.engine.loop.served = False

    # -- asking --------------------------------------------------------------------------------------------------------

    async def generate(self, prompt: Any, strategy: Any = None, seed: int | None = None, **options: Any) -> Completion:
        """As Engine.generate for one prompt. Cancelling the task cancels the request."""
        completion = None
        async for event in self.stream(prompt, strategy, seed, **options):
            completion = event.completion or completion
        assert completion is not None
        return completion

    async def chat(
        self, messages: Sequence[Any], strategy: Any = None, seed: int | None = None, **options: Any
    ) -> Completion:
        """As Engine.chat."""
        return await self.generate(self.engine.templated(messages), strategy, seed, reuse=True, **options)

    async def stream(
        self, prompt: Any, strategy: Any = None, seed: int | None = None, *, logprobs: Any = None,
        overrides: Any = None, trace: bool = False, echo: bool = False, reuse: bool = False,
    ) -> AsyncIterator[Event]:  # fmt: skip
        """As Engine.stream, for any number of tasks at a time. Leaving it early cancels the request."""
        if not self._open:
            raise RequestError("this engine is not being served: use it inside 'async with engine.serve() as served'")
        if len(self._queues) >= self.max_waiting:
            raise RequestError(f"{self.max_waiting} requests are waiting already: try again later")
        [request] = self.engine._requests(
            [prompt], strategy, seed, 1, logprobs, overrides, trace=trace, echo=echo, reuse=reuse
        )
        queue: asyncio.Queue[_Answer] = asyncio.Queue()
        with self._wake:
            if not self._open:  # the engine may have stopped while this request was made ready
                raise RequestError("this engine is not being served any more")
            request.index = self._numbers = self._numbers + 1
            self._queues[request.index], self._requests[request.index] = queue, request
            self._incoming.append(request)
            self._wake.notify()
        try:
            if echo:
                yield Event(request.echo)
            while True:
                answer = await queue.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                if answer.completion is not None:
                    return
        finally:
            request.cancel()
            with self._wake:
                self._queues.pop(request.index, None)
                self._requests.pop(request.index, None)
                self._wake.notify()

    # -- the engine's thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        loop = self.engine.loop
        try:
            while True:
                with self._wake:
                    while self._open and not self._incoming and not loop.busy:
                        self._wake.wait()
                    if not self._open and not self._incoming and not loop.busy:
                        return
                    arrived, self._incoming = self._incoming, []
                for request in arrived:
                    loop.submit(request)
                for event in loop.step():
                    self._tell(event.index, event)
        except BaseException as error:  # what the loop could not give to one request ends them all, loudly
            loop.abandon()
            with self._wake:
                self._open = False
            failure = (
                error
                if isinstance(error, LogitmillError)
                else RequestError(f"the engine stopped: {type(error).__name__}: {error}")
            )
            for index in list(self._queues):
                self._tell(index, failure)

    def _tell(self, index: int, answer: _Answer) -> None:
        queue = self._queues.get(index)
        if queue is not None and self._tasks is not None:
            with suppress(RuntimeError):  # the tasks' own loop has closed: nobody is left to tell
                self._tasks.call_soon_threadsafe(queue.put_nowait, answer)
