"""The program as a process: pipes, encodings, signals, exit codes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[..., subprocess.CompletedProcess[bytes]]


def _environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **extra}


def start(*args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "logitmill", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        bufsize=0,  # communicate() would not see what a buffer holds
    )


def read(process: subprocess.Popen[bytes], count: int) -> bytes:
    """Exactly so many bytes of its stdout, and none into a buffer."""
    data = b""
    while len(data) < count:
        piece = process.stdout.read(count - len(data))
        assert piece, process.stderr.read()
        data += piece
    return data


def test_a_prompt_through_a_pipe(program: Program, alphabet: str):
    result = program(
        "run", "-m", alphabet, "-q", "none", "-s", "greedy until max_tokens(3)", "--stats", piped=b"xyza\n"
    )
    assert (result.returncode, result.stdout) == (0, b"bcd\n")
    assert b"note: raw text bypasses" in result.stderr
    assert b"stats: 3 tokens in" in result.stderr


def test_exit_codes(program: Program):
    assert program("check", "greedy", "--fragment").returncode == 0
    wrong = program("check", "greddy")
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    assert wrong.stderr.startswith(b"error: unknown stage 'greddy'")
    failed = program("run", "a", "-m", "./nowhere", "-s", "greedy")
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert failed.stderr.startswith(b"error: no folder or file")


def test_nothing_to_read(program: Program):
    result = program("check", "-", piped=b"")
    assert (result.returncode, result.stdout) == (2, b"")


def test_ctrl_c_keeps_what_there_is(alphabet: str):
    process = start(
        "run", "a", "-m", alphabet, "-q", "none", "-s", "greedy until max_tokens(500)", "--stats", "--chat-template"
    )
    first = read(process, 5)
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=120)
    assert first == b"bcdef"
    text = (first + rest).decode()
    assert text.endswith("\n")
    assert text.removesuffix("\n") in "abcdefghijklmnopqrstuvwxyz. " * 20
    assert len(text) < 500
    assert process.returncode == 130
    assert f"stats: {len(text) - 1} tokens" in stderr.decode()
    assert "ended by cancelled" in stderr.decode()
    assert "Traceback" not in stderr.decode()


WATCH = """
import sys
import logitmill as lm

@lm.hookimpl
def on_step(step):
    if step.step == 3:
        print("go", file=sys.stderr, flush=True)
"""


def test_ctrl_c_keeps_what_there_is_of_several_answers(alphabet: str, tmp_path: Path):
    """An observer tells when they are under way: nothing is printed until all have ended."""
    (tmp_path / "watch.py").write_text(WATCH, encoding="utf-8")
    process = start(
        "run", "a", "-m", alphabet, "-q", "none", "-s", "greedy until max_tokens(500)", "--chat-template", "-n", "2",
        "--plugin", str(tmp_path / "watch.py"),
    )  # fmt: skip
    assert process.stderr.read(2) == b"go"
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=120)
    answers = stdout.decode().splitlines()
    assert process.returncode == 130
    assert len(answers) == 2
    for answer in answers:
        assert 3 <= len(answer) < 500
        assert answer.startswith("bcd")


def test_a_reader_that_has_enough(alphabet: str):
    process = start("run", "a", "-m", alphabet, "-q", "none", "-s", "greedy until max_tokens(500)", "--chat-template")
    assert read(process, 3) == b"bcd"
    process.stdout.close()
    stderr = process.stderr.read()
    assert (process.wait(timeout=120), stderr) == (0, b"")
    process.stderr.close()


def test_a_reader_of_many_lines_that_has_enough():
    shell = f'"{sys.executable}" -m logitmill schema | head -c 10; echo; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", shell], capture_output=True, env=_environment(), check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(result.stdout) == 11


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_terminal(encoding: str, program: Program):
    """A character the terminal has not got is replaced; JSON is escaped instead."""
    text = 'stop("é→") or max_tokens(5)'
    shown = program("fmt", f"greedy until {text}", env={"PYTHONIOENCODING": encoding})
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout == f"greedy until {text}\n".encode(encoding, "replace")
    wrong = program("check", "greedy until stop(é→)", env={"PYTHONIOENCODING": encoding})
    assert wrong.returncode == 2
    assert wrong.stderr.decode(encoding).startswith("error: ")


def test_no_colour_in_a_pipe(program: Program, alphabet: str):
    result = program("explain", "greedy", "a", "-m", alphabet, "-q", "none")
    assert result.returncode == 0
    assert b"\x1b" not in result.stdout + result.stderr


@pytest.mark.skipif(importlib.util.find_spec("pty") is None, reason="no pseudo-terminals on this platform")
@pytest.mark.parametrize(("extra", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_on_a_terminal_only_where_wanted(extra: dict[str, str], coloured: bool):
    import pty

    ours, theirs = pty.openpty()
    environment = _environment(**({"TERM": "xterm"} | extra))
    subprocess.run(
        [sys.executable, "-m", "logitmill", "check", "greddy"],
        stderr=theirs,
        stdout=theirs,
        env=environment,
        check=False,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert (b"\x1b[" in shown) == coloured
    assert b"unknown stage 'greddy'" in shown


def test_a_stage_that_raises_leaves_no_traceback(program: Program, alphabet: str, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import logitmill as lm\n"
        'class Bad(lm.LogitsProcessor, name="me.bad"):\n'
        '    """Raises."""\n'
        "    def apply(self, dist, state, ctx):\n"
        '        raise ValueError("never again")\n'
        "@lm.hookimpl\n"
        "def register_logits_processors(register):\n"
        "    register(Bad)\n",
        encoding="utf-8",
    )
    result = program(
        "run", "a", "-m", alphabet, "-q", "none", "-s", "me.bad | greedy", "--plugin", str(tmp_path / "mine.py")
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"never again (stage 'me.bad', step 0, row 0)" in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the full disk that every write fails on is Linux's")
def test_a_full_disk_is_said_plainly():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "logitmill", "stages"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: cannot write: No space left on device\n")
