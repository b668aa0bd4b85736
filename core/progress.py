"""A progress bar on stderr for calls that take longer than two seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from .completion import Event

PATIENCE_S = 2.0


class Progress:
    """Counts finished requests and generated tokens. ``wanted`` None: only where stderr is a terminal."""

    def __init__(self, total: int, wanted: bool | None) -> None:
        self.total, self.finished, self.tokens = total, 0, 0
        self.wanted = sys.stderr.isatty() if wanted is None else wanted
        self.began = time.perf_counter()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def token(self, event: Event) -> None:
        """One event of any request."""
        if event.token is None:
            return
        self.tokens += 1
        if self.wanted and (self._bar is not None or time.perf_counter() - self.began > PATIENCE_S):
            self._show()

    def done(self) -> None:
        """One request has ended."""
        self.finished += 1
        if self._bar is not None:
            self._show()

    def _show(self) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("generating"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("generating", total=self.total, rate="")
            self._bar.start()
        rate = self.tokens / max(1e-9, time.perf_counter() - self.began)
        self._bar.update(self._task, completed=self.finished, rate=f"{self.tokens} tokens, {rate:.1f} tokens/s")
