"""Importing and running the heavy libraries without their noise, and without the start-up that nobody needs."""

from __future__ import annotations

import functools
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LIBRARIES = ("transformers", "bitsandbytes", "accelerate")

NOISE = (
    "Failed to load CPU gemm_4bit_forward",  # an optional kernel package; the built-in kernel does the work
    "Dequantizing the whole model",  # what converting a GGUF is for
)
REPORT = "LOAD REPORT"  # from_pretrained's table: what it says is checked on its own


class _Keep(logging.Handler):
    """Keeps the first line of each warning, once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().strip().partition("\n")[0]
        if line and not line.startswith(NOISE) and REPORT not in line and line not in self.lines:
            self.lines.append(line)


@contextmanager
def quiet() -> Iterator[list[str]]:
    """The libraries' progress bars off and their warnings kept in the list given, both as before afterwards."""
    from transformers.utils import logging as transformers_logging

    keep = _Keep()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.handlers[:], logger.propagate = [keep], False
    transformers_logging.disable_progress_bar()
    try:
        yield keep.lines
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
        for logger, handlers, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate


def import_libraries(bitsandbytes: bool) -> None:
    """Import torch and transformers (and bitsandbytes), a third faster than plain imports do.

    Collecting garbage among a million new objects that all stay is half a second. bitsandbytes decorates functions for
    other machines with torch.compile, which loads the whole compiler (1.3 s) at import: they are compiled when first
    called instead, which here is never.
    """
    # its one warning, per layer and call, is that LLM.int8 casts to float16, which is how it works
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch

        if bitsandbytes and "bitsandbytes" not in sys.modules:
            kept = torch.compile
            torch.compile = functools.partial(_compile_later, kept)
            try:
                with _muted("bitsandbytes"):
                    import bitsandbytes as _  # noqa: F401
            finally:
                torch.compile = kept
        import transformers
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

        transformers.PreTrainedModel  # noqa: B018  their modules are imported by the access
        transformers.GenerationMixin  # noqa: B018
    finally:
        if collecting:
            gc.enable()


def _compile_later(compile_now: Callable[..., Any], function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """torch.compile's signature; compiles at the first call."""
    if function is None:
        return functools.partial(_compile_later, compile_now, **options)
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if not compiled:
            compiled.append(compile_now(function, **options))
        return compiled[0](*args, **keywords)

    return call


@contextmanager
def _muted(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters without a full stop."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:300].rstrip(".")
