"""Following a stream: its text to stdout as it comes, and Ctrl-C as a polite request to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from .output import text

if TYPE_CHECKING:
    from ...core.completion import Completion
    from ...core.stream import Stream


def follow(stream: Stream, *, show: bool = True) -> Completion:
    """Read the stream to its end, showing the text. Ctrl-C cancels: the result holds what there is until then.

    A second Ctrl-C does not wait for the step that is under way.
    """
    shown = ""
    try:
        with polite(stream.cancel):
            for event in stream:
                if show and event.text:
                    text(event.text)
                    shown = event.text
    finally:  # also before an error's message
        if shown and not shown.endswith("\n"):
            text("\n")
    assert stream.completion is not None
    return stream.completion


@contextmanager
def polite(cancel: Callable[[], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C calls ``cancel``; the next is an interruption like any other."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
