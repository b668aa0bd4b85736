"""A progress bar on stderr: rich where a person watches, else one line when it turns out to take long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 2.0
"""Seconds of work before a line is written where stderr is no terminal."""


class Bar:
    """``with Bar("converting X") as bar: bar.reach(0.5)``. Shows parts of 1; never writes to stdout."""

    def __init__(self, title: str) -> None:
        self.title, self.start, self.told = title, time.monotonic(), False
        self.rich: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
            progress = Progress(*columns, console=Console(stderr=True), transient=True)
            progress.start()
            self.rich = progress, progress.add_task(self.title, total=1.0)
        return self

    def reach(self, part: float) -> None:
        """``part`` of the work, 0 to 1, is done."""
        if self.rich is not None:
            self.rich[0].update(self.rich[1], completed=part)
        elif not self.told and time.monotonic() - self.start > PATIENCE:
            self.told = True
            sys.stderr.write(f"{self.title} ...\n")
            sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.rich is not None:
            self.rich[0].stop()
        elif self.told and kind is None:
            sys.stderr.write(f"{self.title}: done in {time.monotonic() - self.start:.0f} s\n")
            sys.stderr.flush()


def compile_kernels(device: str) -> None:
    """Have our own kernels for a CPU, where ``device`` is to be one and they are not there yet, and show how long that
    takes.
    """
    import torch

    from ..kernels import native

    on_cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
    if on_cpu and native.is_to_be_compiled():
        with Bar("compiling kernels for this processor (once)") as bar:
            native.found(bar.reach)
