"""The pytest plugin that comes with logitmill: ``engine``, ``byte_model``, ``register_plugin``, ``strategy``.

pytest loads it at its start in every project of the environment, so it imports nothing heavy until a fixture is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ...core.engine import Engine
    from ...core.model.spec import LoadedModel
    from ...core.strategy import Strategy


@pytest.fixture(scope="session")
def byte_model() -> LoadedModel:
    """A random Llama over bytes in float32, as loading would have left it, with its tokenizer. Not to be changed."""
    from .tiny import byte_model

    return byte_model()


@pytest.fixture
def engine(byte_model: LoadedModel) -> Iterator[Engine]:
    """An engine of 8 rows and 256 tokens over ``byte_model``, fresh for each test. Its text says nothing."""
    from .tiny import engine

    with engine(byte_model) as made:
        yield made


@pytest.fixture
def register_plugin() -> Iterator[Callable[..., Any]]:
    """``register_plugin(stage_class_or_module_or_object, ...)`` as ``logitmill.register``, undone after the test.

    Returns the first of them, so that it may stand over a class as a decorator.
    """
    from ...core.loader import plugins, register

    held = plugins()
    met, names = dict(held.met), held.registry
    entries, schedules, presets = dict(names.entries), dict(names.schedules), dict(names.presets)

    def registered(*what: Any) -> Any:
        register(*what)
        return what[0]

    yield registered
    fresh = [name for name, record in held.met.items() if met.get(name) is not record]
    for name in fresh:
        held.remove(name)
    for name in met.keys() & set(fresh):  # a class that was registered again gives way to its former self
        held.met[name] = met[name]
        names.entries |= {key: entry for key, entry in entries.items() if entry.plugin == name}
        names.schedules |= {key: entry for key, entry in schedules.items() if entry.plugin == name}
        names.presets |= {key: entry for key, entry in presets.items() if entry[1] == name}


@pytest.fixture
def strategy() -> Callable[..., Strategy]:
    """``strategy("top_k(5) | sample")``: a text parsed, and checked as ``logitmill check`` does.

    What the check warns of is shown among pytest's warnings; ``ignore`` silences codes, "no-bound" unless others are
    given. ``ignore=None`` does not check.
    """

    def make(text: str, *, ignore: Sequence[str] | None = ("no-bound",)) -> Strategy:
        from ...core.strategy import Strategy

        made = Strategy.parse(text)
        for warning in () if ignore is None else made.check(ignore):
            warnings.warn(str(warning), UserWarning, stacklevel=2)
        return made

    return make


__all__ = ["byte_model", "engine", "register_plugin", "strategy"]
