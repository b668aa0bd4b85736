"""``logitmill chat``: a conversation. Answers go to stdout; the prompt, notes and speed go to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from .inputs import add_plugins, decoded, spoken, unended
from .options import bounded, model_options, open_engine, plugin_option, strategy_options, wanted
from .output import FAILED, note, report
from .streaming import follow
from .summary import stats

if TYPE_CHECKING:
    from ...core.engine import Engine

PROMPT = "> "
WELCOME = "/system TEXT sets the system message, /reset starts over, /exit or Ctrl-D ends; Ctrl-C stops an answer"


@click.command(short_help="Talk with a chat model.")
@strategy_options
@model_options
@click.option("--system", metavar="TEXT", help="The system message.")
@click.option("--stats", is_flag=True, help="Tokens, speed and seed after each answer, to stderr.")
@plugin_option
@click.pass_context
def command(ctx: click.Context, /, settings: tuple[str, ...], plugin: tuple[str, ...], **options: Any) -> None:
    """Talk with a chat model, by its chat template.

    Lines that start with a slash are commands: /system TEXT, /reset, /exit. Where standard input is no terminal, each
    of its lines is one message.
    """
    add_plugins(plugin)
    strategy, overrides = wanted(options, settings)
    with open_engine(options) as engine:
        if strategy is None:
            strategy = bounded(engine.default_strategy, options["max_tokens"])
        request = {"strategy": strategy, "overrides": overrides, "seed": options["seed"]}
        talk = Conversation(engine, request, options["system"], show_stats=options["stats"])
        if sys.stdin.isatty():
            note(WELCOME)
        for said in _lines():
            if not talk.take(said):
                break
    ctx.exit(FAILED if talk.failed and not sys.stdin.isatty() else 0)


class Conversation:
    """The messages so far, and what a line does to them."""

    def __init__(
        self, engine: Engine, request: dict[str, Any], system: str | None, *, show_stats: bool = False
    ) -> None:
        self.engine, self.request, self.show_stats = engine, request, show_stats
        self.failed = False
        self.reset(system)

    def reset(self, system: str | None) -> None:
        """Start over, with this system message."""
        self.system = system
        self.messages: list[dict[str, str]] = [] if system is None else [{"role": "system", "content": system}]

    def take(self, said: str) -> bool:
        """One line of the person's. False when it ends the conversation."""
        word, _, rest = said.strip().partition(" ")
        if not word:
            return True
        if word.startswith("/"):
            return self._order(word, rest.strip())
        self._answer(said)
        return True

    def _order(self, word: str, rest: str) -> bool:
        if word in ("/exit", "/quit"):
            return False
        if word == "/reset":
            self.reset(self.system)
            note("a new conversation" + (" under the same system message" if self.system else ""))
        elif word == "/system":
            self.reset(rest or None)
            note(
                "a new conversation under this system message"
                if rest
                else "a new conversation without a system message"
            )
        else:
            note(f"no command {word}: there are /system TEXT, /reset and /exit")
        return True

    def _answer(self, said: str) -> None:
        """One turn. One that fails leaves the conversation as it was; one that was stopped stays with what was said."""
        messages = [*self.messages, {"role": "user", "content": said}]
        completion = follow(self.engine.stream(messages, **self.request))
        if completion.error is not None:
            self.failed = True
            report(completion.error)
            return
        self.messages = [*messages, {"role": "assistant", "content": completion.text}]
        if self.show_stats:
            note(stats(completion))


def _lines() -> Iterator[str]:
    """What the person types, or the lines of a pipe. Ends with the input."""
    if not sys.stdin.isatty():
        for number, data in enumerate(sys.stdin.buffer, 1):
            yield unended(decoded(data, f"line {number} of standard input"))
        return
    with suppress(ImportError):
        import readline  # noqa: F401  # line editing and history, where the platform has it
    while True:
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        try:
            yield spoken(input(), "that line")
        except EOFError:
            note("")
            return
        except KeyboardInterrupt:  # at the prompt: drop the line, as a shell does
            note("")
