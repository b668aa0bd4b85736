"""``logitmill detect``: whether a text was made under a watermark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import RequestError, UsageError
from .inputs import add_plugins, decoded, names_file, piped, spoken, strategy_of, unended, vocabulary_of
from .options import plugin_option
from .output import json_line, line

if TYPE_CHECKING:
    from ...samplers.detection import Detection


@click.command(short_help="Find out whether a text was made under a watermark.")
@click.argument("source", metavar="[TEXT|FILE|-]", default="-")
@click.option(
    "-s", "--strategy", required=True, metavar="TEXT|FILE", help="The watermark, or a strategy that holds it."
)
@click.option("-m", "--model", metavar="MODEL", help="Whose tokenizer reads the text. Default: SmolLM2-135M-Instruct.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
@click.option("--tokens", is_flag=True, help="The text is given as token ids: numbers, however they are separated.")
@click.option("--vocab-size", type=click.IntRange(min=1), metavar="N", help="With --tokens: the number of logits.")
@click.option(
    "--max-p",
    type=click.FloatRange(0, 1),
    default=0.001,
    metavar="P",
    help="The largest p-value that counts as found. Default: 0.001.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each watermark, one a line.")
@plugin_option
def command(
    source: str,
    strategy: str,
    model: str | None,
    revision: str | None,
    tokens: bool,
    vocab_size: int | None,
    max_p: float,
    as_json: bool,
    plugin: tuple[str, ...],
) -> None:
    """Look in a text, given as text, as a file or on standard input, for the watermarks of a strategy.

    The text is the answer alone, without its prompt. Its tokens are those that the tokenizer makes of it now, which may
    differ from those it was generated as; --tokens takes the very ids. The p-value says how likely a text without the
    watermark would look as much like it.
    """
    add_plugins(plugin)
    from ...samplers.detection import DETECTORS, detect

    found = strategy_of(strategy)
    marks = [step.stage for step in found.steps() if step.stage.stage_name in DETECTORS]
    if not marks:
        raise UsageError(f"the strategy holds no watermark: there are {', '.join(DETECTORS)}")
    text = _text(source)
    size: int | None
    eos: tuple[int, ...] = ()
    if tokens:
        ids, size = _numbers(text), vocab_size
    else:
        if vocab_size is not None:
            raise UsageError("--vocab-size goes with --tokens: the model knows its own")
        vocab = vocabulary_of(model, revision)
        ids, size, eos = vocab.encode(text), vocab.size, vocab.eos_ids
    if size is None and any(getattr(mark, "dialect", None) == "hf" for mark in marks):
        raise UsageError("green lists of the hf dialect depend on the number of logits: give it with --vocab-size")
    try:
        detections = [detect(ids, mark, vocab_size=size, eos=eos) for mark in marks]
    except RequestError as error:
        raise UsageError(str(error)) from None
    for detection in detections:
        if as_json:
            json_line({**detection.to_dict(), "detected": detection.p_value <= max_p})
        else:
            line(told(detection, max_p))


def told(detection: Detection, max_p: float) -> str:
    """One line for people."""
    verdict = "found" if detection.p_value <= max_p else "not found"
    what = "green" if detection.stage == "watermark" else "mean g"
    return (
        f"{detection.stage}: {verdict} (p = {detection.p_value:.2g}, z = {detection.z:.2f}; "
        f"{what} {detection.found:.3f} at {detection.scored} places, {detection.expected:.3f} expected without)"
    )


def _text(source: str) -> str:
    """The text that the argument is, names or pipes in."""
    if source == "-":
        return piped("text")
    if names_file(source):
        return unended(decoded(Path(source).read_bytes(), source))
    return spoken(source, "the text")


def _numbers(text: str) -> list[int]:
    """Token ids from text: a JSON list, or numbers between anything that is no word."""
    stray: Any = re.search(r"[^\s,;\[\]]*[^\s\d,;\[\]][^\s,;\[\]]*", text)  # the whole word around it
    if stray:
        raise UsageError(f"--tokens takes whole numbers, got {stray[0]!r}: leave --tokens out for plain text")
    return [int(number) for number in re.findall(r"\d+", text)]


__all__ = ["command"]
