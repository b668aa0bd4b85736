"""``logitmill convert``: decoding settings of other engines to strategies, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import UsageError
from ..convert.peers import PEERS
from .inputs import add_plugins, decoded, names_file, piped, spoken
from .options import plugin_option
from .output import line, note

if TYPE_CHECKING:
    from ..convert.conversion import LeftOut


# A llama.cpp command line may stand as it is, so unknown options are arguments, and -h is not help (-hf is a model).
@click.command(
    short_help="Convert decoding settings of other engines, and to them.",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("source", nargs=-1, type=click.UNPROCESSED, metavar="[FILE|TEXT|-]")
@click.option("--from", "source_peer", type=click.Choice(list(PEERS)), required=True, help="Whose document it is.")
@click.option("--to", "target_peer", type=click.Choice(list(PEERS)), required=True, help="Whose document it becomes.")
@click.option("--lossy", is_flag=True, help="Leave out what cannot be carried over, and list it on standard error.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object: the document, what was left out, what is unused.")
@plugin_option
def command(
    source: tuple[str, ...], source_peer: str, target_peer: str, lossy: bool, as_json: bool, plugin: tuple[str, ...]
) -> None:
    """Convert decoding settings from one engine's form to another's; logitmill's own is a strategy.

    \b
    hf         transformers' GenerationConfig, as generation_config.json
    llamacpp   llama.cpp's command line, or the JSON of a request to its server
    vllm       vLLM's SamplingParams, as JSON
    openai     an OpenAI chat or completion request, as JSON
    textgen    a preset of text-generation-webui, as YAML
    logitmill  a strategy, as text, YAML or JSON

    What cannot be carried over is an error that names it (exit status 2), or with --lossy a list. Nothing is dropped
    without a word.

    \b
    logitmill convert --from hf --to logitmill generation_config.json
    logitmill convert --from llamacpp --to vllm "--temp 0.7 --top-k 40 --min-p 0"
    """  # noqa: D301  # click's \b keeps the lines apart
    add_plugins(plugin)
    from ..convert.conversion import convert_from, convert_to, peer_of

    document, file = _document(source, source_peer)
    read = convert_from(source_peer, document, lossy, file=file)
    made = convert_to(target_peer, read.strategy, lossy)
    left_out = [*read.left_out, *made.left_out]
    if as_json:
        _as_json(source_peer, target_peer, made.document, left_out, read.unused)
        return
    for item in read.unused:
        note(f"note: {item.what} has no effect there: {item.why}")
    for item in left_out:
        note(f"left out: {item}")
    line(peer_of(target_peer).shown(made.document))


def _document(words: Sequence[str], peer: str) -> tuple[Any, str | None]:
    """What the arguments stand for, and the name of its file."""
    if len(words) > 1:
        if peer != "llamacpp":
            raise UsageError(f"one document is converted at a time, got {len(words)} arguments: put it into quotes")
        return [spoken(word, "the document") for word in words], None
    if not words or words[0] == "-":
        return piped("document"), None
    program = peer == "llamacpp" and " -" in words[0]  # ./llama-cli --temp 0.7: a command line, not a file's name
    if program or not names_file(words[0]):
        return spoken(words[0], "the document"), None
    path = Path(words[0])
    return decoded(path.read_bytes(), words[0]), words[0]


def _as_json(source: str, target: str, document: Any, left_out: Sequence[LeftOut], unused: Sequence[LeftOut]) -> None:
    from .output import json_line

    def told(items: Sequence[LeftOut]) -> list[dict[str, str]]:
        return [{"field": item.field, "what": item.what, "why": item.why} for item in items]

    json_line(
        {"from": source, "to": target, "document": document, "left_out": told(left_out), "unused": told(unused)},
        indent=2,
    )
