"""Stream: the events of one completion as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from .completion import Completion, Event
from .errors import LogitmillError, RequestError

if TYPE_CHECKING:
    from .loop import Loop
    from .request import Request


class Running:
    """Requests in flight; whatever interrupts them leaves the engine ready for the next."""

    def __init__(self, loop: Loop, requests: Sequence[Request]) -> None:
        self.loop, self.requests = loop, requests

    def __enter__(self) -> None:
        if self.loop.served:
            raise RequestError("this engine is being served: ask it through what engine.serve() gave")
        if self.loop.busy:
            raise RequestError(
                "this engine is in the middle of another call: finish or close its stream first, "
                "or share it through engine.serve()"
            )
        for request in self.requests:
            self.loop.submit(request)

    def __exit__(self, *exc: object) -> None:
        if self.loop.busy:
            self.loop.abandon()


def _events(loop: Loop, request: Request) -> Iterator[Event]:
    """No method: a generator that held its Stream would keep a forgotten one alive, and its engine busy."""
    with Running(loop, [request]):
        if request.echo:
            yield Event(request.echo)
        ended = False
        while not ended:
            for event in loop.step():
                ended = ended or event.completion is not None
                yield event


class Stream:
    """The events of one completion.

    ``completion`` is there when they have ended; ``close`` ends them early, with what there is. A stream that nobody
    holds any more ends by itself.
    """

    def __init__(self, loop: Loop, request: Request) -> None:
        self.request = request
        self.completion: Completion | None = None
        self._events = _events(loop, request)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        self.completion = event.completion or self.completion
        return event

    def cancel(self) -> None:
        """End it at the next step: the last event then has the completion, with what there is.

        Safe in a signal handler.
        """
        self.request.cancel()

    def close(self) -> Completion | None:
        """End it now. Returns the completion with what there is (None where nothing was begun)."""
        self.request.cancel()
        with suppress(LogitmillError):
            for _ in self:
                pass
        return self.completion

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
