"""The program itself: what --help costs and says, commands of others, and how errors reach a person."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import Result

import logitmill as lm
from logitmill.plugins.cli.main import BUILTIN

Golden = Callable[[str, str], None]


def test_help(logitmill: Callable[..., Result], golden: Golden):
    result = logitmill("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    golden(result.stdout, "help/logitmill.txt")


@pytest.mark.parametrize("name", BUILTIN)
def test_help_of_each_command(name: str, logitmill: Callable[..., Result], golden: Golden):
    result = logitmill(name, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: logitmill {name} ")
    golden(result.stdout, f"help/{name}.txt")


def test_the_table_of_commands_is_the_entry_points():
    own = {entry.name: entry for entry in entry_points(group="logitmill.commands") if entry.dist.name == "logitmill"}
    assert set(own) == set(BUILTIN)
    for name, line in BUILTIN.items():
        assert own[name].load().get_short_help_str(200) == line


def test_version(logitmill: Callable[..., Result]):
    result = logitmill("--version")
    assert (result.exit_code, result.stdout) == (0, f"logitmill {lm.__version__}\n")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_no_command_and_nothing_heavy(option: str):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "logitmill", option], capture_output=True, text=True, check=True
    )
    modules = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    heavy = {
        "torch",
        "transformers",
        "pydantic",
        "bitsandbytes",
        "accelerate",
        "numpy",
        "lark",
        "rich",
        "pluggy",
        "regex",
        "ruamel.yaml",
    }
    assert not heavy & modules
    ours = {name for name in modules if name.startswith("logitmill")}
    assert ours == {
        "logitmill", "logitmill.core", "logitmill.core.errors", "logitmill.plugins", "logitmill.plugins.cli",
        "logitmill.plugins.cli.main", "logitmill.plugins.cli.output",
    }  # fmt: skip


def test_the_script_is_the_module():
    [script] = [entry for entry in entry_points(group="console_scripts") if entry.name == "logitmill"]
    from logitmill.plugins.cli.main import main

    assert script.load() is main


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ((), "no_command"),
        (("rum",), "near_command"),
        (("Once upon a time",), "prompt_as_command"),
        (("check", "temperature(0.8) | topp(0.9) | sample"), "wrong_strategy"),
        (("run", "a", "-s", "temperature(0.8)"), "fragment"),
        (("run", "a", "-s", "missing.decode"), "missing_file"),
        (("run", "a", "-s", "greedy", "--set", "temperature=1"), "bad_setting"),
        (("run", "a", "-s", "greedy", "--set", "sample.seed=1", "--show-strategy"), "setting_of_no_stage"),
        (
            ("run", "a", "-s", "temperature(0.5) | sample", "--set", "temperature.value=-1", "--show-strategy"),
            "setting_out_of_range",
        ),
        (("run", "a", "--plugin", "missing.py"), "missing_plugin_file"),
        (("run", "a", "--plugin", "a_module_that_is_not_there"), "missing_plugin_module"),
        (("stages", "top_pp"), "unknown_stage"),
        (("check", "greedy", "--ignore", "no-bounds"), "unknown_code"),
        (("fmt", "greedy", "--write"), "fmt_write_text"),
    ],
)
def test_usage_errors(args: tuple[str, ...], name: str, logitmill: Callable[..., Result], golden: Golden):
    result = logitmill(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    golden(result.stderr, f"messages/{name}.txt")


@pytest.mark.parametrize(
    "args",
    [
        ("--model", "x"),
        ("run", "a", "--strategie", "greedy"),
        ("run", "a", "-q", "nf8"),
        ("run", "a", "-n", "0"),
        ("run", "a", "b"),
    ],
)
def test_options_that_click_refuses(args: tuple[str, ...], logitmill: Callable[..., Result]):
    """In click's words, but in our form."""
    result = logitmill(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    command = "logitmill run" if args[0] == "run" else "logitmill"
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith(f"\n  see '{command} --help'\n")
    assert result.stderr.count("\n") == 2


def test_a_model_that_is_not_there_is_a_failed_run(
    logitmill: Callable[..., Result], golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = logitmill("run", "a", "-m", "./no-such-folder", "-s", "greedy")
    assert (result.exit_code, result.stdout) == (1, "")
    golden(result.stderr.replace(str(tmp_path), "HERE"), "messages/no_model.txt")


def test_an_unforeseen_error_is_one_message(
    logitmill: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, golden: Golden
):
    monkeypatch.setattr(lm.Strategy, "parse", lambda text: 1 / 0)
    result = logitmill("check", "greedy")
    assert (result.exit_code, result.stdout) == (1, "")
    golden(result.stderr, "messages/unforeseen.txt")
    shown = logitmill("check", "greedy", env={"LOGITMILL_DEBUG": "1"})
    assert "Traceback" in shown.stderr
    assert result.stderr in shown.stderr


# -- commands of others ------------------------------------------------------------------------------------------------

HELLO = "import click\n@click.command()\ndef command():\n    click.echo('hello')\n"


def test_a_third_partys_command(installed: Callable[..., Path], logitmill: Callable[..., Result], golden: Golden):
    installed("acme-tools", {"hello_command": HELLO}, commands={"hello": "hello_command:command"})
    listed = logitmill("--help")
    assert "hello_command" not in sys.modules
    golden(listed.stdout, "help/with_a_third_party.txt")
    result = logitmill("hello")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("command = 3", "is no click command: broken_command:command is 3"),
    ],
)
def test_a_third_partys_command_that_does_not_work(
    source: str, says: str, installed: Callable[..., Path], logitmill: Callable[..., Result]
):
    installed("acme-tools", {"broken_command": source}, commands={"hello": "broken_command:command"})
    assert logitmill("--help").exit_code == 0
    result = logitmill("hello")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: the command 'hello' of acme-tools 1.2 ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_built_in_command_cannot_be_taken(installed: Callable[..., Path], logitmill: Callable[..., Result]):
    before = logitmill("--help").stdout
    installed("acme-tools", {"taking_command": HELLO}, commands={"check": "taking_command:command"})
    assert logitmill("--help").stdout == before
    assert logitmill("check", "greedy", "--fragment").stdout.startswith("ok")


def test_two_commands_of_one_name(installed: Callable[..., Path], logitmill: Callable[..., Result]):
    installed("one", {"one_command": HELLO}, commands={"hello": "one_command:command"})
    installed("two", {"two_command": HELLO}, commands={"hello": "two_command:command"})
    result = logitmill("hello")
    assert result.exit_code == 2
    assert "the command 'hello' is claimed by " in result.stderr
    assert "one 1.2" in result.stderr
    assert "two 1.2" in result.stderr
