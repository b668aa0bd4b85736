"""Options that several commands share, and what they mean to the engine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ...core.engine import Engine
    from ...core.strategy import Strategy

_F = TypeVar("_F", bound=Callable[..., Any])

#: options of the model, by the keyword of lm.load that they set
LOADING = (
    "model",
    "quantize",
    "device",
    "dtype",
    "max_length",
    "revision",
    "batch_invariant",
    "reference",
    "trust_remote_code",
    "compile",
)


def _all(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


plugin_option = click.option(
    "--plugin",
    "plugin",
    multiple=True,
    metavar="FILE.py|MODULE",
    help="Register this plugin too. It runs, so trust it. Repeatable.",
)

model_options = _all(
    click.option("-m", "--model", metavar="MODEL", help="Hub id, folder or GGUF file. Default: SmolLM2-135M-Instruct."),
    click.option(
        "-q",
        "--quantize",
        type=click.Choice(["nf4", "fp4", "int8", "int4", "int8-packed", "none"]),
        help="How the weights are held. Default: nf4.",
    ),
    click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps. Default: auto."),
    click.option(
        "--dtype", metavar="DTYPE", help="What is computed in: auto, float32, bfloat16, float16. Default: auto."
    ),
    click.option(
        "--max-length", type=click.IntRange(min=1), metavar="N", help="Most tokens of prompt and answer together."
    ),
    click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model."),
    click.option("--batch-invariant", is_flag=True, help="The same tokens alone and in a batch, bit for bit; slower."),
    click.option("--compile", is_flag=True, help="Compile the decoder step first: a minute or so."),
    click.option("--reference", is_flag=True, help="Run stage by stage as written, on the model's modules as loaded."),
    click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model."),
)


def seed_of(ctx: click.Context, option: click.Parameter, given: int | None) -> int | None:
    """A seed that the engine takes, known before a model is loaded."""
    if given is not None and not 0 <= given < 2**64:
        raise click.BadParameter("a seed is a whole number from 0 to 2**64 - 1", ctx, option)
    return given


strategy_options = _all(
    click.option(
        "-s", "--strategy", metavar="TEXT|FILE", help="A strategy, or the file it lies in. Default: the model's own."
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="NAME.FIELD=VALUE", help="Change a stage's field. Repeatable."
    ),
    click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="End after N tokens at the latest."),
    click.option(
        "--seed",
        type=int,
        callback=seed_of,
        metavar="N",
        help="Where the random numbers start. Default: drawn, and shown by --stats.",
    ),
)


def open_engine(options: dict[str, Any]) -> Engine:
    """Load the model that the options name; its notes go to stderr. Raises ModelError."""
    with unswept():
        from ...core.engine import load
    from .output import note

    given = {name: options[name] for name in LOADING if options.get(name)}
    if given.get("quantize") == "none":
        given["quantize"] = None
    with unswept():
        engine = load(**given)
    for line in engine.notes:
        note(f"note: {line}")
    return engine


@contextmanager
def unswept() -> Iterator[None]:
    """Within it no garbage is collected, and what is there behind it is never looked through again.

    A program of our own loads a million objects that stay to its end; looking for garbage among them takes half a
    second.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.freeze()
            gc.enable()


def bounded(strategy: Strategy, tokens: int | None) -> Strategy:
    """``strategy`` that ends after ``tokens`` tokens at the latest. What ends it otherwise still does."""
    if tokens is None:
        return strategy
    from ...core.loader import registry
    from ...core.strategy import any_of

    ends = [] if strategy.stop is not None else [registry().stage("eos")]  # without until a row ends at eos
    return strategy.until(any_of(*ends, registry().stage("max_tokens", tokens)))


def wanted(options: dict[str, Any], settings: Sequence[str]) -> tuple[Strategy | None, dict[str, Any]]:
    """The strategy that the options give (None: the model's own), and the overrides.

    Raises StrategyError for whatever is wrong without looking at a model, so that nobody waits for one first.
    """
    from ...core.dsl.kinds import whole
    from ...core.patch import patched
    from .inputs import overrides_of, strategy_of

    overrides = overrides_of(settings)
    if options["strategy"] is None:
        return None, overrides
    strategy = strategy_of(options["strategy"])
    whole(patched(strategy, overrides))
    return bounded(strategy, options["max_tokens"]), overrides
