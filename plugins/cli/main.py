"""The program: which commands there are, and what a person sees when one fails.

``--help`` and ``--version`` import no command, no plugin and no torch: built-in commands have their help lines here, a
third party's are listed with the distribution they come from. A command is imported when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import click

from ... import __version__
from ...core.errors import UsageError
from .output import INTERRUPTED, USAGE, error, hush, prepare, report

GROUP = "logitmill.commands"
DISTRIBUTION = "logitmill"

#: the built-in commands and their help lines, in the order --help shows them
BUILTIN = {
    "run": "Generate text from a prompt under a strategy.",
    "chat": "Talk with a chat model.",
    "explain": "Show what each stage did to the next token.",
    "detect": "Find out whether a text was made under a watermark.",
    "check": "Check a strategy: its errors, and what was probably not meant.",
    "fmt": "Write a strategy in its canonical form.",
    "convert": "Convert decoding settings of other engines, and to them.",
    "schema": "Print the JSON Schema of strategies, for editors.",
    "stages": "List what a strategy can name, or describe one stage.",
    "plugins": "List the installed plugins.",
    "new-plugin": "Write a package of stages to start from.",
    "bench": "Measure tokens a second, alone or beside another engine.",
    "doctor": "Look at this installation: what works, what to do about the rest.",
}


class Commands(click.Group):
    """Commands by entry point, imported when called; and the one place where errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*BUILTIN, *sorted(_foreign())]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        own, foreign = _entries(name)
        if own is not None:
            return _load(own)
        if len(foreign) > 1:
            raise UsageError(
                f"the command {name!r} is claimed by {' and '.join(map(_distribution, foreign))}: uninstall one of them"
            )
        return _load(foreign[0]) if foreign else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(_unknown(args[0], self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(BUILTIN.items()))
        foreign = _foreign()
        if foreign:
            with formatter.section("Commands from plugins"):
                formatter.write_dl(
                    [
                        (name, f"from {' and '.join(map(_distribution, found))}")
                        for name, found in sorted(foreign.items())
                    ]
                )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has all it wants: not a failure
            hush()
            raise click.exceptions.Exit(0) from None
        except KeyboardInterrupt:  # else click ends it with a status of its own
            raise _InterruptedError from None
        except OSError as caught:
            if caught.filename is not None:
                raise  # a file: the report names it
            hush()  # standard output on a full disk: no fault of the program
            raise click.ClickException(f"cannot write: {caught.strerror or caught}") from caught

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run, and exit: 0, 2 for a wrong strategy or usage, 1 for a failed run, 130 after Ctrl-C."""
        prepare()
        try:
            result = super().main(args, prog_name or DISTRIBUTION, **(extra | {"standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as caught:
            click.echo(caught.format_message(), err=True)
            sys.exit(USAGE)
        except click.UsageError as caught:
            path = caught.ctx.command_path if caught.ctx else DISTRIBUTION
            error(f"error: {caught.format_message()}\n  see '{path} --help'")
            sys.exit(USAGE)
        except click.ClickException as caught:
            error(f"error: {caught.format_message()}")
            sys.exit(caught.exit_code)
        except (click.Abort, _InterruptedError):
            sys.exit(INTERRUPTED)
        except Exception as caught:  # the last place where an error can become a message
            sys.exit(report(caught))
        sys.exit(result if isinstance(result, int) else 0)


class _InterruptedError(Exception):
    """Ctrl-C, past click."""


def _entries(name: str | None = None) -> tuple[EntryPoint | None, list[EntryPoint]]:
    """The built-in command of this name, and everyone else's."""
    own, foreign = None, []
    for entry in entry_points(group=GROUP):
        if _owner(entry) == DISTRIBUTION:
            own = entry if entry.name == name else own
        elif name is None or entry.name == name:
            foreign.append(entry)
    return own, foreign


def _foreign() -> dict[str, list[EntryPoint]]:
    """Third parties' commands by name. A built-in name stays the built-in command's."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in _entries()[1]:
        if entry.name not in BUILTIN:
            found.setdefault(entry.name, []).append(entry)
    return found


def _owner(entry: EntryPoint) -> str:
    return "" if entry.dist is None else entry.dist.name.lower().replace("_", "-")


def _distribution(entry: EntryPoint) -> str:
    return "an unnamed package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _load(entry: EntryPoint) -> click.Command:
    try:
        command = entry.load()
    except (Exception, SystemExit) as caught:  # a stranger's module may do anything when imported
        if _owner(entry) == DISTRIBUTION:
            raise
        reason = f"{type(caught).__name__}: {caught}".splitlines()[0]
        raise click.ClickException(
            f"the command {entry.name!r} of {_distribution(entry)} cannot be imported: {reason}"
        ) from caught
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"the command {entry.name!r} of {_distribution(entry)} is no click command: {entry.value} is {command!r}"
        )
    return command


def _unknown(name: str, known: list[str]) -> str:
    if not any(entry.name in BUILTIN for entry in entry_points(group=GROUP) if _owner(entry) == DISTRIBUTION):
        return "logitmill is not installed, and its commands are entry points: pip install it (-e from a checkout)"
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"no command {name!r}; did you mean {near[0]!r}?"
    return f"no command {name!r}. To generate text: {DISTRIBUTION} run {name!r}"


def _version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"{DISTRIBUTION} {__version__}")
        ctx.exit()


commands = Commands(
    name=DISTRIBUTION,
    help=(
        "From a language model's logits to text under one declarative strategy.\n\n"
        "\b\n"
        'logitmill run "Once upon a time" -s "min_p(0.1) | sample until max_tokens(64)"'
    ),
    epilog="Exit status: 0, 2 for a wrong strategy or usage, 1 for a failed run, 130 after Ctrl-C.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
        )
    ],
)


def main() -> NoReturn:
    """The console script."""
    commands.main()
