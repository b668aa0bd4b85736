"""``logitmill run`` on a model whose text is known: "a" is followed by "bcdef..."."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import logitmill as lm

GREEDY = "greedy until eos or max_tokens(5)"
BYPASSED = "note: raw text bypasses this chat model's template; --chat-template applies it\n"


@pytest.fixture
def run(logitmill: Callable[..., Result], alphabet: str) -> Callable[..., Result]:
    def call(*args: str, **extra: object) -> Result:
        return logitmill("run", "-m", alphabet, "-q", "none", *args, **extra)

    return call


def test_text_to_stdout_and_all_else_to_stderr(run: Callable[..., Result]):
    result = run("a", "-s", GREEDY)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "bcdef\n", BYPASSED)


def test_the_chat_template_on_request(run: Callable[..., Result]):
    result = run("xyz", "-s", GREEDY, "--chat-template")  # the template ends in "a"
    assert (result.exit_code, result.stdout, result.stderr) == (0, "bcdef\n", "")


def test_stats(run: Callable[..., Result]):
    result = run("xa", "-s", GREEDY, "--seed", "7", "--stats", "--chat-template")
    assert result.stdout == "bcdef\n"
    words = result.stderr.removeprefix("stats: ")
    assert words.startswith("5 tokens in ")
    assert "; ended by max_tokens; seed 7; strategy " + lm.Strategy.parse(GREEDY).hash[:12] in words


@pytest.mark.parametrize("prompt", [(), ("-",)])
@pytest.mark.parametrize("piped", [b"a", b"a\n", b"a\r\n", "\ufeffa".encode()])
def test_the_prompt_from_a_pipe(prompt: tuple[str, ...], piped: bytes, run: Callable[..., Result]):
    """One line break at the end is echo's, not the prompt's."""
    assert run(*prompt, "-s", GREEDY, input=piped).stdout == "bcdef\n"


def test_a_pipe_that_is_no_text(run: Callable[..., Result]):
    result = run("-s", GREEDY, input=b"abc\xff")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "error: standard input is not UTF-8 text: byte 0xff at offset 3; convert it first (iconv -t utf-8)\n"
    )


def test_an_argument_that_is_no_text(run: Callable[..., Result]):
    result = run("abc\udcff", "-s", GREEDY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the prompt is not text" in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.decode", GREEDY),
        ("mine", GREEDY),
        ("mine.yaml", "main:\n  pipeline: [greedy]\n  until: eos or max_tokens(5)\ndsl: 1\n"),
        ("mine.json", '{"dsl": 1, "main": {"pipeline": ["greedy"], "until": "max_tokens(5)"}}'),
    ],
)
def test_a_strategy_in_a_file(name: str, content: str, run: Callable[..., Result], tmp_path: Path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert run("a", "-s", str(tmp_path / name)).stdout == "bcdef\n"


def test_a_long_strategy_is_no_files_name(run: Callable[..., Result]):
    long = " | ".join(["temperature(1)"] * 100) + " | " + GREEDY
    assert run("a", "-s", long).stdout == "bcdef\n"


def test_settings_change_fields(run: Callable[..., Result]):
    assert run("a", "-s", GREEDY, "--set", "max_tokens.n=2").stdout == "bc\n"
    assert run("a", "-s", GREEDY, "--set", "max_tokens.n=2", "--set", "max_tokens.n=3").stdout == "bcd\n"


@pytest.mark.parametrize("strategy", ["greedy", "greedy until eos", "greedy until eos or max_tokens(40)", None])
def test_max_tokens_bounds_any_strategy(strategy: str | None, run: Callable[..., Result]):
    given = () if strategy is None else ("-s", strategy)
    assert run("a", *given, "--max-tokens", "3").stdout == "bcd\n"


def test_a_seed_gives_the_same_text_again(run: Callable[..., Result]):
    drawn = [
        run("a", "-s", "temperature(9) | sample until max_tokens(30)", "--seed", seed).stdout
        for seed in ("1", "1", "2")
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_answers(run: Callable[..., Result]):
    result = run("a", "-s", GREEDY, "-n", "3", "--chat-template")
    assert result.stdout == "bcdef\n" * 3
    assert result.stderr == "--- 1 of 3\n--- 2 of 3\n--- 3 of 3\n"


def test_answers_as_json(run: Callable[..., Result]):
    result = run("a", "-s", "top_k(1) | sample until max_tokens(4)", "-n", "2", "--json", "--seed", "5")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [item["text"] for item in found] == ["bcde", "bcde"]
    assert found[0]["seed"] == 5
    assert found[0]["seed"] != found[1]["seed"]
    assert found[0]["usage"]["completion_tokens"] == 4
    assert lm.Strategy.parse(found[0]["strategy"]).hash == found[0]["strategy_hash"]
    again = run("a", "-s", found[1]["strategy"], "--json", "--seed", str(found[1]["seed"]))
    assert json.loads(again.stdout)["tokens"] == found[1]["tokens"]


def test_a_trace_is_json_lines(run: Callable[..., Result], tmp_path: Path):
    path = tmp_path / "trace.jsonl"
    result = run(
        "a", "-s", "temperature(0.5) | top_k(3) | sample until max_tokens(4)", "--seed", "1", "--trace", str(path)
    )
    steps = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert "".join(step["text"] for step in steps) == result.stdout.removesuffix("\n")
    assert [step["step"] for step in steps] == [0, 1, 2, 3]
    for step in steps:
        assert [stage["stage"] for stage in step["stages"]] == ["temperature", "top_k", "sample"]
        assert step["stages"][1]["kept"] == 3
        assert step["raw_rank"] >= 1


def test_a_trace_that_cannot_be_written_is_known_at_once(run: Callable[..., Result], tmp_path: Path):
    result = run("a", "-s", GREEDY, "--trace", str(tmp_path / "nowhere" / "t.jsonl"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("nowhere/t.jsonl: No such file or directory\n")


def test_show_strategy(run: Callable[..., Result], logitmill: Callable[..., Result]):
    """The model's own where none is given, and no model is loaded where one is."""
    assert run("--show-strategy").stdout == "greedy until eos\n"
    shown = logitmill(
        "run", "-m", "./nowhere", "-s", "temperature(0.5) | sample", "--set", "temperature.value=0.7", "--show-strategy"
    )
    assert (shown.exit_code, shown.stdout) == (0, "temperature(0.7) | sample\n")


def test_a_prompt_that_is_too_long_is_a_failed_run(run: Callable[..., Result]):
    result = run("a" * 600, "-s", GREEDY, "--stats")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: " in result.stderr
    assert "600" in result.stderr


# -- a stage of one's own ----------------------------------------------------------------------------------------------

MINE = '''
import logitmill as lm

class Second(lm.LogitsProcessor, name="me.second"):
    """Remove the best token."""

    def apply(self, dist, state, ctx):
        return dist.keep(dist.rank != 0)

class Fails(lm.LogitsProcessor, name="me.fails"):
    """Raises at the third token."""

    def apply(self, dist, state, ctx):
        if int(ctx.step.max()) == 2:
            raise ValueError("three is too many")
        return dist

@lm.hookimpl
def register_logits_processors(register):
    register(Second)
    register(Fails)
'''


@pytest.fixture
def mine(tmp_path: Path, fresh: object) -> str:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    fresh.discover()
    return str(tmp_path / "mine.py")


def test_a_plugin_in_a_file(mine: str, run: Callable[..., Result]):
    result = run("a", "--plugin", mine, "-s", "me.second | greedy until max_tokens(3)")
    assert result.exit_code == 0
    assert result.stdout != "bcd\n"


def test_a_stage_that_raises_ends_the_run_with_what_there_is(mine: str, run: Callable[..., Result]):
    result = run("a", "--plugin", mine, "-s", "me.fails | " + GREEDY, "--stats", "--chat-template")
    assert (result.exit_code, result.stdout) == (1, "bc\n")
    assert "error: " in result.stderr
    assert "three is too many (stage 'me.fails', step 2, row 0)" in result.stderr
    assert "stats: 2 tokens" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "'broken' registers nothing; write a function such as register_samplers under @hookimpl"),
        ("1/0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:", "cannot be imported: SyntaxError: invalid syntax (broken.py, line 1) (line 1)"),
        ("api = 3", "plugin 'broken' is written for plugin api 3, this logitmill speaks api 1: upgrade one of them"),
    ],
)
def test_a_plugin_file_that_does_not_work(
    source: str, says: str, run: Callable[..., Result], tmp_path: Path, fresh: object
):
    fresh.discover()
    (tmp_path / "broken.py").write_text(source, encoding="utf-8")
    result = run("a", "--plugin", str(tmp_path / "broken.py"), "-s", GREEDY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: --plugin {tmp_path / 'broken.py'}: {says}\n"
