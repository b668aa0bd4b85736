"""``logitmill convert``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import logitmill as lm
from logitmill.plugins.convert.peers import PEERS

Run = Callable[..., Result]
Golden = Callable[[str, str], None]
GREEDY = '{"do_sample": false, "eos_token_id": 2, "max_new_tokens": 9}'


@pytest.fixture
def convert(logitmill: Run) -> Run:
    """``convert("--from", ...)``: the command, in this process."""
    return lambda *args, **extra: logitmill("convert", *args, **extra)


def test_help(convert: Run) -> None:
    result = convert("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    for name in PEERS:
        assert f"  {name}" in result.stdout


def test_a_file(convert: Run, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_p": 0.9}', "utf-8")
    result = convert("--from", "hf", "--to", "logitmill", str(tmp_path / "generation_config.json"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        'temperature(0.6, dialect="hf") | top_k(50, dialect="hf") | top_p(0.9, dialect="hf") | sample '
        "until eos or max_tokens(20)\n"
    )
    assert lm.Strategy.parse(result.stdout).complete


def test_a_text_and_a_pipe(convert: Run) -> None:
    wanted = convert("--from", "textgen", "--to", "openai", "temperature: 0.7")
    assert json.loads(wanted.stdout) == {"temperature": 0.7}
    assert convert("--from", "textgen", "--to", "openai", input="temperature: 0.7\n").stdout == wanted.stdout
    assert convert("--from", "textgen", "--to", "openai", "-", input="temperature: 0.7\n").stdout == wanted.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--temp 0.7 --samplers temperature",),
        ("llama-cli -hf some/model --temp 0.7 --samplers temperature",),
        ("./llama-cli -hf some/model --temp 0.7 --samplers temperature",),
        ("--temp", "0.7", "--samplers", "temperature"),
        ("-hf", "some/model", "--temp", "0.7", "--samplers", "temperature"),
        ("--", "-hf some/model --temp 0.7 --samplers temperature"),
        ('{"temperature": 0.7, "samplers": ["temperature"]}',),
    ],
)
def test_a_command_line_as_it_is(words: tuple[str, ...], convert: Run) -> None:
    result = convert("--from", "llamacpp", "--to", "logitmill", *words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "temperature(0.7) | sample until eos\n"


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_reads_what_is_printed(peer: str, convert: Run) -> None:
    text = "temperature(0.7) | min_p(0.1) | sample until eos or max_tokens(9)"
    one = convert("--from", "logitmill", "--to", peer, "--lossy", text)
    assert one.exit_code == 0
    again = convert("--from", peer, "--to", peer, one.stdout)
    assert (again.exit_code, again.stdout, again.stderr) == (0, one.stdout, "")


def test_a_strategys_file_may_use_its_neighbours(convert: Run, tmp_path: Path) -> None:
    (tmp_path / "house.decode").write_text("dsl 1\nlet warm = temperature(0.9)\n", "utf-8")
    (tmp_path / "main.decode").write_text('dsl 1\nuse "./house.decode"\nlet main = warm | sample\n', "utf-8")
    result = convert("--from", "logitmill", "--to", "openai", str(tmp_path / "main.decode"))
    assert json.loads(result.stdout) == {"temperature": 0.9}


def test_what_has_no_effect_is_a_note(convert: Run) -> None:
    result = convert("--from", "hf", "--to", "logitmill", '{"temperature": 0.7}')
    assert result.exit_code == 0
    assert result.stderr == "note: temperature=0.7 has no effect there: do_sample is off\n"


LOSING = (
    "--from",
    "hf",
    "--to",
    "textgen",
    '{"do_sample": true, "num_beams": 4, "temprature": 1, "max_new_tokens": 9}',
)


def test_what_cannot_be_carried(convert: Run, golden: Golden) -> None:
    result = convert(*LOSING)
    assert (result.exit_code, result.stdout) == (2, "")
    golden(result.stderr, "cannot_import.txt")
    result = convert("--from", "hf", "--to", "textgen", GREEDY)
    assert (result.exit_code, result.stdout) == (2, "")
    golden(result.stderr, "cannot_export.txt")


def test_lossy_lists_it(convert: Run, golden: Golden) -> None:
    result = convert(*LOSING, "--lossy")
    assert (result.exit_code, result.stdout) == (0, "top_k: 50\n")
    golden(result.stderr, "left_out.txt")


def test_as_json(convert: Run) -> None:
    result = convert(*LOSING, "--lossy", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert (told["from"], told["to"], told["document"]) == ("hf", "textgen", {"top_k": 50})
    assert [item["field"] for item in told["left_out"]] == ["num_beams", "temprature", "until"]
    assert set(told["left_out"][0]) == {"field", "what", "why"}
    assert told["unused"] == []


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("--from", "hf", "--to", "vllm", '{"top_k": '), "not_json"),
        (("--from", "llamacpp", "--to", "vllm", "--temp", "hot"), "no_number"),
        (("--from", "llamacpp", "--to", "vllm", "make coffee"), "no_option"),
        (("--from", "textgen", "--to", "vllm", "temperature: 0"), "refused_value"),
        (("--from", "vllm", "--to", "hf", "a.json", "b.json"), "two_documents"),
        (("--from", "logitmill", "--to", "hf", "temperature(0.7)"), "fragment"),
        (("--from", "logitmill", "--to", "hf", "topp(0.7) | sample"), "no_strategy"),
    ],
)
def test_usage_errors(args: tuple[str, ...], name: str, convert: Run, golden: Golden) -> None:
    result = convert(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    golden(result.stderr, f"{name}.txt")


def test_a_peer_that_is_none(convert: Run) -> None:
    assert convert("--from", "ollama", "--to", "hf", "x").exit_code == 2
    assert convert("--from", "hf", "x").exit_code == 2


def test_a_file_that_is_not_there(convert: Run, tmp_path: Path) -> None:
    result = convert("--from", "hf", "--to", "vllm", str(tmp_path / "missing.json"))
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path / 'missing.json'}: No such file or directory\n"
