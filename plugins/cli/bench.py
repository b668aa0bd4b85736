"""``logitmill bench``: tokens a second on this machine, alone or in turn with another engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ...core.errors import UsageError
from .inputs import add_plugins
from .options import plugin_option
from .output import console, json_line, note


def _words(ctx: click.Context, option: click.Parameter, given: str) -> tuple[str, ...]:
    """A list of words, told apart by commas."""
    found = tuple(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not found:
        raise click.BadParameter("is empty", ctx, option)
    return found


def _weights(ctx: click.Context, option: click.Parameter, given: str) -> tuple[str, ...]:
    """Ways to hold weights."""
    from ...core.model.spec import DTYPE_ALIASES, DTYPES, QUANTIZATIONS, choose

    words, known = _words(ctx, option, given), (*QUANTIZATIONS, *DTYPES, "none")
    for word in words:
        if word not in known and word not in DTYPE_ALIASES:
            raise click.BadParameter(str(choose("way to hold weights", word, known)), ctx, option)
    return words


def _numbers(ctx: click.Context, option: click.Parameter, given: str) -> tuple[int, ...]:
    """A list of whole numbers from 1."""
    words = _words(ctx, option, given)
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{given!r} is no list of whole numbers from 1, as in 1,8", ctx, option)
    return tuple(sorted(int(word) for word in words))


def _sizes(ctx: click.Context, option: click.Parameter, given: str | None) -> tuple[int, ...]:
    """A list of whole numbers, or none."""
    return () if given is None else _numbers(ctx, option, given)


@click.command(
    short_help="Measure tokens a second, alone or beside another engine.",
    epilog="Ratios hold where other programs leave the machine alone; their lowest and highest say whether they did.",
)
@click.option("-m", "--model", metavar="MODEL", help="Hub id, folder or GGUF file. Default: SmolLM2-135M-Instruct.")
@click.option(
    "-q",
    "--quantize",
    "weights",
    default="nf4",
    callback=_weights,
    metavar="LIST",
    help="How the weights are held, as in nf4,int8,bfloat16: a dtype is not quantized. Default: nf4.",
)
@click.option("-s", "--strategy", "strategies", multiple=True, metavar="TEXT",
              help="A strategy without until, or 'sampled'. Repeatable. Default: greedy, and sampled, which is "
                   "temperature(0.8) | top_k(50) | top_p(0.95) | sample.")  # fmt: skip
@click.option("--batch", "batches", default="1,8", callback=_numbers, metavar="LIST",
              help="Rows at a time. Default: 1,8.")  # fmt: skip
@click.option("--tokens", type=click.IntRange(min=1), default=128, metavar="N", help="New tokens a row. Default: 128.")
@click.option("--pairs", type=click.IntRange(min=1), default=5, metavar="N",
              help="How often each side runs, in turn. Default: 5.")  # fmt: skip
@click.option("--peer", type=click.Choice(["hf", "vllm", "llamacpp"]), help="The engine to measure in turn.")
@click.option("--peer-python", metavar="PYTHON", help="The Python that has the peer. Default: this one.")
@click.option("--peer-model", metavar="PATH", help="What the peer loads, where that is another file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps. Default: auto.")
@click.option("--dtype", default="auto", metavar="DTYPE", help="What quantized weights are computed in. Default: auto.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of each side. Default: torch's own.")
@click.option("--vocab", "vocabularies", callback=_sizes, metavar="LIST",
              help="Instead: what choosing a token costs at these vocabularies, without a model.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Write bench.md and bench.json there, and of several batches or vocabularies a chart.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The whole result as one JSON document, instead of a table.")
@plugin_option
def command(
    strategies: tuple[str, ...], vocabularies: tuple[int, ...], plugin: tuple[str, ...], out: Path | None,
    as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Measure how many tokens a second a model makes here: prefill, choosing tokens and text included.

    With --peer the same prompts are given to another engine under the same strategy, in turn, and the ratio is the
    median over the pairs. A peer may need other versions of what logitmill needs: --peer-python names the Python that
    has it.

    With --vocab no model is loaded: what is measured is the choice of a token alone, from logits that fall as a model's
    do.
    """
    add_plugins(plugin)
    for option in ("peer_python", "peer_model"):
        if given[option] is not None and given["peer"] is None:
            raise UsageError(
                f"--{option.replace('_', '-')} says something about a peer, and none is named: add --peer hf, "
                "--peer vllm or --peer llamacpp, or leave it out"
            )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is known before anything is measured
    if vocabularies:
        if given["peer"] is not None:
            raise UsageError("--vocab measures without a model, and --peer needs one: leave out one of them")
        from ..bench.measure import set_threads

        set_threads(given["threads"])
        result = _choosing(strategies, given["batches"], vocabularies, given["device"])
    else:
        given["turns"] = given.pop("pairs")
        result = _generating(strategies, given)
    if as_json:
        json_line(result.document, indent=1)
    else:
        _show(result)
    if out is not None:
        from ..bench.table import write

        for file in write(out, "bench", result.page, result.document, result.picture):
            note(f"wrote {file}")
        if result.picture is None:
            note(f"no chart: {result.why_none}")


@dataclass(frozen=True)
class _Result:
    """What was measured, in every form. ``why_none``: why there is no picture, where there is none."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    page: str
    document: dict[str, Any]
    picture: str | None
    why_none: str


def _generating(strategies: tuple[str, ...], given: dict[str, Any]) -> _Result:
    """Tokens a second."""
    from ..bench import table
    from ..bench.chart import chart
    from ..bench.machine import machine
    from ..bench.measure import PROMPT, Work, measure
    from ..bench.pictures import by_batch
    from ..bench.sampling import USUAL

    work = Work(strategies=strategies or tuple(USUAL), **given)
    lines = list(measure(work, note))
    facts, head = machine(), table.columns(lines)
    turns = f"{work.turns} turn{'s' * (work.turns > 1)}"
    notes = [
        f"{work.tokens} new tokens a row behind {PROMPT}-token prompts, {turns} after a warm-up: medians, "
        "and in brackets the lowest and the highest. Prefill, choosing tokens and text are included.",
        *(f"{name}: `{text}`." for name, text in USUAL.items() if name in work.strategies and name != text),
    ]
    panels = by_batch(lines)
    shown = [*notes, *(["", "![tokens a second by batch](bench.svg)"] if panels else [])]
    return _Result(
        head,
        [table.brief(line, len(head)) for line in lines],
        [*(f"{key}: {value}" for key, value in facts.items()), *notes],
        table.page("Tokens a second", facts, lines, shown),
        table.document(facts, lines, notes=notes),
        chart("Tokens a second by batch", panels) if panels else None,
        "it shows tokens a second by batch, and one batch was measured (--batch 1,8 measures two)",
    )


def _choosing(
    strategies: tuple[str, ...], batches: tuple[int, ...], vocabularies: tuple[int, ...], device: str
) -> _Result:
    """Milliseconds of choosing a token."""
    from ..bench import table
    from ..bench.chart import chart
    from ..bench.choosing import HISTORY, STAGES, costs
    from ..bench.machine import machine
    from ..bench.pictures import by_vocabulary
    from ..bench.sampling import USUAL

    asked = strategies or STAGES
    found = list(costs(asked, batches, vocabularies, "cpu" if device == "auto" else device))
    facts, head, rows = machine(), table.cost_columns(found), table.cost_rows(found)
    notes = [
        f"One step's choice of a token for each row, {HISTORY} tokens of history: the median of many steps, and in "
        "brackets where the middle half of them lay.",
        *(f"{name}: `{text}`." for name, text in USUAL.items() if name in asked and name != text),
    ]
    panels = by_vocabulary(found)
    shown = [*notes, *(["", "![cost by vocabulary](bench.svg)"] if panels else [])]
    return _Result(
        head,
        rows,
        [*(f"{key}: {value}" for key, value in facts.items()), *notes],
        table.titled("Choosing a token", facts, table.markdown(head, rows), shown),
        table.document(facts, found, notes=notes),
        chart("Milliseconds of choosing a token by vocabulary", panels) if panels else None,
        "it shows milliseconds by vocabulary, and one was measured (--vocab 32000,128000 measures two)",
    )


def _show(result: _Result) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for name in result.head:
        shown.add_column(name, justify="left" if name in ("weights", "strategy", "its weights") else "right")
    for row in result.rows:
        shown.add_row(*map(Text, row))
    console().print(shown)
    console().print()
    for words in result.notes:
        console().print(Text(words))
