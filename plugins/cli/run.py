"""``logitmill run``: text from a prompt, streamed to stdout; everything else goes to stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .inputs import add_plugins, prompt_of
from .options import bounded, model_options, open_engine, plugin_option, strategy_options, wanted
from .output import FAILED, INTERRUPTED, json_line, line, note, report
from .streaming import follow, polite
from .summary import stats

if TYPE_CHECKING:
    from ...core.completion import Completion
    from ...core.engine import Engine
    from ...core.strategy import Strategy

BYPASSED = "note: raw text bypasses this chat model's template; --chat-template applies it"


@click.command(
    short_help="Generate text from a prompt under a strategy.",
    epilog="Ctrl-C ends the text where it is; --stats and --trace are still written; the exit status is 130.",
)
@click.argument("prompt", required=False)
@strategy_options
@model_options
@click.option(
    "-n", "--samples", type=click.IntRange(min=1), default=1, metavar="N", help="How many answers. Default: 1."
)
@click.option(
    "--chat-template", is_flag=True, help="Lay the prompt out as a user's message, by the model's chat template."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each answer, instead of its text.")
@click.option("--stats", is_flag=True, help="Tokens, speed, seed and what ended it, to stderr.")
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What each stage did at each step, as JSON Lines.",
)
@click.option("--show-strategy", is_flag=True, help="Print the strategy this run would use, and generate nothing.")
@plugin_option
@click.pass_context
def command(
    ctx: click.Context, /, prompt: str | None, settings: tuple[str, ...], plugin: tuple[str, ...], **options: Any
) -> None:
    """Generate text from PROMPT; without one, or with "-", from standard input (less one line break at its end)."""
    add_plugins(plugin)
    strategy, overrides = wanted(options, settings)
    if options["show_strategy"]:
        line(_final(strategy, overrides, options).to_text())
        return
    text = prompt_of(prompt)
    trace: Path | None = options["trace"]
    if trace is not None:
        trace.write_bytes(b"")  # a place that cannot be written is known before the model is loaded
    with open_engine(options) as engine:
        if engine.tokenizer.chat_template and not options["chat_template"]:
            note(BYPASSED)
        if strategy is None:
            strategy = bounded(engine.default_strategy, options["max_tokens"])
        request = {"strategy": strategy, "overrides": overrides, "seed": options["seed"], "trace": trace is not None}
        completions = _answers(engine, text, request, options)
    if options["as_json"]:
        for completion in completions:
            json_line({key: value for key, value in completion.to_dict().items() if key != "trace"})
    if trace is not None:
        _write_trace(trace, completions)
    if options["stats"]:
        for completion in completions:
            note(stats(completion))
    ctx.exit(_status(completions))


def _final(strategy: Strategy | None, overrides: dict[str, Any], options: dict[str, Any]) -> Strategy:
    """The strategy with all that the command line says about it. A model is loaded only where its own is asked for."""
    from ...core.patch import patched

    if strategy is None:
        with open_engine(options) as engine:
            strategy = bounded(engine.default_strategy, options["max_tokens"])
    return patched(strategy, overrides)


def _answers(engine: Engine, prompt: str, request: dict[str, Any], options: dict[str, Any]) -> list[Completion]:
    """One answer is streamed; several are decoded together and printed one after another."""
    chat = options["chat_template"]
    asked: Any = [{"role": "user", "content": prompt}] if chat else prompt
    if options["samples"] == 1:
        return [follow(engine.stream(asked, **request), show=not options["as_json"])]
    generate = engine.chat if chat else engine.generate
    with polite(engine.cancel):
        completions: list[Completion] = generate(asked, n=options["samples"], **request)
    if not options["as_json"]:
        for number, completion in enumerate(completions, 1):
            note(f"--- {number} of {len(completions)}")
            line(completion.text)
    return completions


def _write_trace(path: Path, completions: list[Completion]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for sample, completion in enumerate(completions):
            for step in completion.trace or ():
                file.write(json.dumps({"sample": sample, **step.to_dict()}, ensure_ascii=False) + "\n")


def _status(completions: list[Completion]) -> int:
    """The exit status, after saying what went wrong."""
    failed = [completion.error for completion in completions if completion.error is not None]
    for fault in failed:
        report(fault)
    if any(completion.finish_reason == "cancelled" for completion in completions):
        return INTERRUPTED
    return FAILED if failed else 0
