"""Acme's samplers for logitmill: the hooks that logitmill calls.

Names only: a stage's module is imported when a strategy names the stage, so an installed plugin costs nothing until
it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitmill import hookimpl

from .journal import record

#: the version of logitmill's plugin interface this is written for
api = 1


@hookimpl
def register_logits_processors(register: Callable[..., None]) -> None:
    register("acme_samplers.quadratic:Quadratic", name="acme.quadratic")


@hookimpl
def register_samplers(register: Callable[..., None]) -> None:
    register("acme_samplers.steady:Steady", name="acme.steady")


@hookimpl
def register_stopping_criteria(register: Callable[..., None]) -> None:
    register("acme_samplers.sentences:Sentences", name="acme.sentences")


@hookimpl
def register_signals(register: Callable[..., None]) -> None:
    register("acme_samplers.top_mass:TopMass", name="acme.top_mass")


@hookimpl
def on_finish(result: Any) -> None:
    """An observer: told of every completion, changes nothing."""
    record(result)
