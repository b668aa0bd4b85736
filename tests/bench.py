"""Stages on a bench, from the extension kit. Tests get this module as the fixture ``bench``."""

from __future__ import annotations

from logitmill.plugins.testing.bench import (
    INF,
    apply,
    bound,
    compare,
    context,
    kept,
    law,
    logits_of,
    read,
    run,
    stage,
    stage_of_schedule,
    tokenizer,
)

__all__ = [
    "INF", "apply", "bound", "compare", "context", "kept", "law", "logits_of", "read", "run", "stage",
    "stage_of_schedule", "tokenizer",
]  # fmt: skip
