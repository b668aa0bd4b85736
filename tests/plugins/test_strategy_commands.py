"""check, fmt and schema: a strategy without a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from click.testing import Result

import logitmill as lm

Golden = Callable[[str, str], None]
Run = Callable[..., Result]
WHOLE = "temperature(0.8) | top_k(50) | sample(seed=1) until eos or max_tokens(64)"


# -- check -------------------------------------------------------------------------------------------------------------


def test_check_a_sound_one(logitmill: Run):
    result = logitmill("check", WHOLE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_warnings_do_not_change_the_status(logitmill: Run, golden: Golden):
    result = logitmill("check", "temperature(0.5) | top_p(0.9) | greedy")
    assert result.exit_code == 0
    golden(result.stdout + result.stderr, "check_warnings.txt")


def test_ignored_warnings(logitmill: Run):
    result = logitmill("check", "temperature(0.5) | sample", "--ignore", "no-bound")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_a_fragment_only_where_asked_for(logitmill: Run):
    assert logitmill("check", "temperature(0.5)").exit_code == 2
    assert logitmill("check", "temperature(0.5)", "--fragment").exit_code == 0


def test_check_reads_files_and_pipes(logitmill: Run, tmp_path: Path):
    (tmp_path / "s.yaml").write_text("pipeline:\n- temperature: 0.8\n- greedi\n", encoding="utf-8")
    wrong = logitmill("check", str(tmp_path / "s.yaml"))
    assert wrong.exit_code == 2
    assert "unknown stage 'greedi'" in wrong.stderr
    assert str(tmp_path / "s.yaml") in wrong.stderr
    assert logitmill("check", "-", input=WHOLE + "\n").stdout == "ok\n"


def test_what_can_only_be_a_path_is_read_as_one(logitmill: Run, tmp_path: Path):
    (tmp_path / "strategy").write_text(WHOLE, encoding="utf-8")
    assert logitmill("check", str(tmp_path / "strategy")).stdout == "ok\n"
    folder = logitmill("check", str(tmp_path))
    assert (folder.exit_code, folder.stderr) == (2, f"error: {tmp_path} cannot be read: Is a directory\n")
    gone = logitmill("check", str(tmp_path / "gone"))
    assert (gone.exit_code, "gone cannot be read: No such file or directory" in gone.stderr) == (2, True)
    empty = logitmill("check", "/dev/null")
    assert empty.exit_code == 2
    assert empty.stderr.startswith("error: the text is empty\n  --> /dev/null:1:1\n")
    assert logitmill("check", "temperature(3/2) | sample", "--ignore", "no-bound").stdout == "ok\n"


def test_check_as_json(logitmill: Run):
    sound = json.loads(
        logitmill("check", "temperature(0.5) | top_p(0.9) | sample until max_tokens(9)", "--json").stdout
    )
    assert sound["ok"]
    assert [w["code"] for w in sound["warnings"]] == ["cut-after-temperature"]
    assert sound["warnings"][0]["column"] == 20
    result = logitmill("check", "temperature(0.5) |\n topp(0.9)", "--json")
    wrong = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (2, "")
    assert not wrong["ok"]
    assert (wrong["error"]["code"], wrong["error"]["line"], wrong["error"]["column"]) == ("unknown-stage", 2, 2)


@pytest.mark.parametrize("text", ["(" * 2000 + ")" * 2000, "let a = greedy", "\x00", "", "|", "x" * 70_000])
def test_hostile_texts_are_usage_errors(text: str, logitmill: Run):
    result = logitmill("check", "-", input=text.encode())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


# -- fmt ---------------------------------------------------------------------------------------------------------------


def test_fmt_a_text(logitmill: Run):
    result = logitmill("fmt", "temperature( 0.80 )|sample until  eos  or max_tokens(64)")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "temperature(0.8) | sample until eos or max_tokens(64)\n"
    assert logitmill("fmt", result.stdout).stdout == result.stdout
    assert logitmill("fmt", input="greedy |  ").exit_code == 2


def test_fmt_keeps_comments_and_unknown_stages(logitmill: Run, tmp_path: Path):
    path = tmp_path / "house.decode"
    path.write_text("# ours\ndsl 1\nlet main = acme.unheard_of( 1 )|greedy # the end\n", encoding="utf-8")
    result = logitmill("fmt", str(path))
    assert result.exit_code == 0
    assert "# ours" in result.stdout
    assert "# the end" in result.stdout
    assert "acme.unheard_of(1) | greedy" in result.stdout


@pytest.mark.parametrize("form", ["json", "yaml", "text"])
def test_conversions_say_the_same(form: str, logitmill: Run, tmp_path: Path):
    result = logitmill("fmt", WHOLE, "--to", form)
    path = tmp_path / f"strategy.{form}"
    path.write_text(result.stdout, encoding="utf-8")
    assert lm.Strategy.load(path) == lm.Strategy.parse(WHOLE)
    again = logitmill("fmt", str(path))
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert logitmill("fmt", str(path), "--check").exit_code == 0


def test_fmt_write_and_check(logitmill: Run, tmp_path: Path):
    path = tmp_path / "mine.decode"
    path.write_text("temperature( 0.8 )|greedy", encoding="utf-8")
    looked = logitmill("fmt", str(path), "--check")
    assert (looked.exit_code, looked.stdout) == (1, "")
    assert "+temperature(0.8) | greedy" in looked.stderr
    assert path.read_text("utf-8") == "temperature( 0.8 )|greedy"
    written = logitmill("fmt", str(path), "--write")
    assert (written.exit_code, written.stdout) == (0, "")
    assert path.read_text("utf-8") == "temperature(0.8) | greedy\n"
    assert list(tmp_path.iterdir()) == [path]
    assert logitmill("fmt", str(path), "--check").exit_code == 0
    assert logitmill("fmt", str(path), "--write").stderr == ""


def test_fmt_write_loses_no_comment(logitmill: Run, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("# ours\npipeline: [greedy]\n", encoding="utf-8")
    result = logitmill("fmt", str(path), "--write")
    assert result.exit_code == 2
    assert "would lose the comments" in result.stderr
    assert path.read_text("utf-8").startswith("# ours")


@pytest.mark.parametrize("args", [("--write", "--check"), ("--write", "--to", "json")])
def test_fmt_options_that_contradict(args: tuple[str, ...], logitmill: Run, tmp_path: Path):
    path = tmp_path / "mine.decode"
    path.write_text("greedy\n", encoding="utf-8")
    assert logitmill("fmt", str(path), *args).exit_code == 2


# -- schema ------------------------------------------------------------------------------------------------------------


def test_schema_accepts_what_we_write(logitmill: Run):
    schema = json.loads(logitmill("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(lm.Strategy.parse(WHOLE).to_dict(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            {"dsl": 1, "main": {"pipeline": [{"stage": "temperature@1", "args": {"value": -1}}]}}, schema
        )


def test_schema_leaves_out_what_cannot_be_imported(
    installed: Callable[..., Path], fresh: SimpleNamespace, logitmill: Run
):
    source = (
        "from logitmill import hookimpl\n@hookimpl\ndef register_signals(register):\n"
        "    register('nowhere_at_all:X', name='acme.x')\n"
    )
    installed("acme", {"schema_hooks": source}, plugins={"acme": "schema_hooks"})
    fresh.discover()
    result = logitmill("schema")
    assert result.exit_code == 0
    assert "acme.x" not in result.stdout
    assert result.stderr.startswith("warning: plugin 'acme': 'acme.x' cannot be imported")
    assert result.stderr.count("\n") == 1
