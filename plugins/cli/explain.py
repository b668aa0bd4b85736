"""``logitmill explain``: what each stage did to the next tokens, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .inputs import add_plugins, prompt_of, strategy_of
from .options import model_options, open_engine, plugin_option, seed_of
from .output import FAILED, console, json_line, line, report

if TYPE_CHECKING:
    from rich.console import Console

    from ...core.account import Candidate
    from ...core.planner import Pipe, Plan
    from ...core.strategy import Strategy
    from ...core.trace import StageTrace, StepTrace

#: how many candidates a trace holds
MOST = 5


@click.command(short_help="Show what each stage did to the next token.")
@click.argument("strategy", metavar="STRATEGY")
@click.argument("prompt", required=False)
@click.option("--steps", type=click.IntRange(min=1), default=1, metavar="N", help="How many tokens. Default: 1.")
@click.option(
    "--top",
    type=click.IntRange(1, MOST),
    default=3,
    metavar="K",
    help="How many candidates to show, at most 5. Default: 3.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME.FIELD=VALUE", help="Change a stage's field. Repeatable."
)
@click.option("--seed", type=int, callback=seed_of, metavar="N", help="Where the random numbers start. Default: drawn.")
@click.option(
    "--chat-template", is_flag=True, help="Lay the prompt out as a user's message, by the model's chat template."
)
@click.option("--json", "as_json", is_flag=True, help="The trace, one JSON object a step.")
@model_options
@plugin_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    strategy: str,
    prompt: str | None,
    settings: tuple[str, ...],
    plugin: tuple[str, ...],
    **options: Any,
) -> None:
    """Show what each stage of STRATEGY (text or a file) does to the distribution of the token that follows PROMPT.

    For each stage: how many candidates it leaves, the probability it removes, the entropy (nats) before and after, and
    the likeliest candidates before and after. PROMPT is read from standard input where it is absent or "-".
    """
    add_plugins(plugin)
    given = strategy_of(strategy)
    ready = _stepwise(given, settings, options["steps"])
    text = prompt_of(prompt)
    with open_engine(options) as engine:
        asked: Any = [{"role": "user", "content": text}] if options["chat_template"] else text
        generate = engine.chat if options["chat_template"] else engine.generate
        completion = generate(asked, strategy=ready, seed=options["seed"], trace=True)
    if options["as_json"]:
        for step in completion.trace or ():
            json_line(step.to_dict())
    else:
        line("\n".join(planned(ready)))
        out = console()
        for step in completion.trace or ():
            show(out, step, options["top"])
    if completion.error is not None:
        report(completion.error)
        ctx.exit(FAILED)


def _stepwise(strategy: Strategy, settings: tuple[str, ...], steps: int) -> Strategy:
    """The patched strategy, ended after so many tokens. Raises StrategyError for a fragment."""
    from ...core.dsl.kinds import whole
    from ...core.patch import patched
    from .inputs import overrides_of
    from .options import bounded

    ready = patched(strategy, overrides_of(settings))
    whole(ready)
    return bounded(ready, steps)


def planned(strategy: Strategy) -> list[str]:
    """How the strategy is run: as written, as planned, and whether it waits for text at each step."""
    from ...core.planner import plan

    written, built = plan(strategy, as_written=True), plan(strategy)
    lines = [f"as written: {_order(written)}"]
    if _order(built) != _order(written):
        lines.append(
            f"as planned: {_order(built)}  (the same law in fewer operations; the tables follow what is written)"
        )
    if built.host_coupled:
        lines.append("host-coupled: it reads text or tokens on the host, so each step waits for the one before")
    return lines


def _order(built: Plan) -> str:
    def words(pipe: Pipe) -> str:
        return " | ".join(
            " ".join([node.name, *(f"{{ {words(child)} }}" for child in node.children)]) for node in pipe.nodes
        )

    return words(built.root)


def show(out: Console, step: StepTrace, top: int) -> None:
    """One step as a table."""
    from rich.table import Table
    from rich.text import Text

    chosen = f"step {step.step}: {quoted(step.text)}"
    facts = f"the model's number {step.raw_rank:,}, raw p {step.raw_prob:.2%}, final p {step.final_prob:.2%}"
    table = Table(title=Text(f"{chosen}, {facts}"), title_justify="left", title_style="bold", show_lines=True)
    table.add_column("stage")
    for heading in ("left", "removed", "entropy"):
        table.add_column(heading, justify="right")
    table.add_column("before", overflow="fold")
    table.add_column("after", overflow="fold")
    for stage in step.stages:
        table.add_row(
            Text(stage.stage), Text(_left(stage)), Text(_mass(stage.removed_mass)), Text(_entropy(stage)),
            Text(candidates(stage.top_before, top)), Text(candidates(stage.top_after, top)),
        )  # fmt: skip
    out.print(table)


def _left(stage: StageTrace) -> str:
    return f"{stage.kept:,}" + ("\nrescued" if stage.rescued else "")


def _mass(mass: float) -> str:
    """A probability that keeps the difference between nothing and little."""
    return "-" if mass == 0 else "<0.01%" if mass < 1e-4 else f"{mass:.2%}"


def _entropy(stage: StageTrace) -> str:
    before, after = abs(stage.entropy_before), abs(stage.entropy_after)  # no -0.000
    return f"{after:.3f}" if before == after else f"{before:.3f}\n{after:.3f}"


def candidates(items: tuple[Candidate, ...], top: int) -> str:
    """The first few, one a line."""
    return "\n".join(f"{p:7.2%} {quoted(text)}" for _, text, p in items[:top])


def quoted(text: str) -> str:
    """A token's text so that spaces and line breaks can be seen."""
    import json

    return json.dumps(text, ensure_ascii=False)
