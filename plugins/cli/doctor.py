"""``logitmill doctor``: what is installed, what works here, and what to do where it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from .output import FAILED, console, json_line, line

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``remedy`` is what to do, for a fault or a note."""

    subject: str
    state: State
    found: str
    remedy: str = ""


@click.command(short_help="Look at this installation: what works, what to do about the rest.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each finding, one a line.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool) -> None:
    """Look at this installation: versions, processor, GPUs, bitsandbytes, the default model, the cache, plugins.

    Nothing is downloaded and nothing is changed, but that kernels are compiled where they were not yet. The exit status
    is 1 where something does not work.
    """
    findings = list(examine())
    if as_json:
        for finding in findings:
            json_line(asdict(finding))
    else:
        _show(findings)
    if any(finding.state == "fault" for finding in findings):
        ctx.exit(FAILED)


def examine() -> Iterator[Finding]:
    """Every finding, in the order of what builds on what. A check that fails in an unforeseen way is a finding too."""
    from . import machine, packages

    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("packages", packages.look),
        ("torch", machine.torch),
        ("processor", machine.processor),
        ("gpu", machine.gpus),
        ("bitsandbytes", machine.bitsandbytes),
        ("kernels", machine.kernels),
        ("packed layers", machine.packed_layers),
        ("default model", machine.default_model),
        ("cache", machine.cache),
        ("plugins", packages.plugins),
    ]
    for subject, check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever is broken here is what the person wants to know
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Finding(
                subject, "fault", f"cannot be looked at: {reason}", "reinstall: pip install --force-reinstall logitmill"
            )


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", f"{version}, {sys.executable}")


def _show(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "note": "yellow", "fault": "bold red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        words = finding.found + (f"\n-> {finding.remedy}" if finding.remedy else "")
        table.add_row(Text(finding.state, styles[finding.state]), Text(finding.subject), Text(words))
    console().print(table)
    faults = sum(finding.state == "fault" for finding in findings)
    line(f"\n{faults} fault{'s' * (faults != 1)}" if faults else "\nall works")
