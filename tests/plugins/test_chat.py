"""``logitmill chat``, its lines piped in: the template ends in "a", so every answer is "bcdef"."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from logitmill.plugins.cli import chat as module
from logitmill.plugins.cli.chat import Conversation


@pytest.fixture
def chat(logitmill: Callable[..., Result], alphabet: str) -> Callable[..., Result]:
    def call(lines: str | bytes, *args: str) -> Result:
        return logitmill("chat", "-m", alphabet, "-q", "none", "--max-tokens", "5", *args, input=lines)

    return call


def test_each_line_is_a_message(chat: Callable[..., Result]):
    result = chat("hello\n\n  \nhow are you?")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "bcdef\nbcdef\n", "")


def test_stats_show_that_the_conversation_is_kept(chat: Callable[..., Result]):
    result = chat("hello\nhow are you?", "--stats", "--system", "be kind")
    first, second = result.stderr.splitlines()
    assert f"prompt {len('[system] be kind' + chr(10) + '[user] hello' + chr(10) + 'a')} tokens in" in first
    assert "from the cache) in" in second


def test_orders(chat: Callable[..., Result], golden: Callable[[str, str], None]):
    result = chat("/system be kind\nhello\n/reset\n/system\n/reset\n/dance\n/exit\nnot said")
    assert result.stdout == "bcdef\n"
    golden(result.stderr, "messages/chat_orders.txt")


def test_a_line_that_is_no_text(chat: Callable[..., Result]):
    result = chat(b"hello\n\xff\n")
    assert (result.exit_code, result.stdout) == (2, "bcdef\n")
    assert "line 2 of standard input is not UTF-8 text" in result.stderr


def test_a_wrong_strategy_is_known_before_the_model(logitmill: Callable[..., Result]):
    result = logitmill("chat", "-m", "./nowhere", "-s", "temperature(0.5)", input="hello")
    assert result.exit_code == 2
    assert "no sampler after 'temperature'" in result.stderr


def test_a_message_too_long_fails_alone(chat: Callable[..., Result]):
    result = chat("a" * 600 + "\nhello")
    assert (result.exit_code, result.stdout) == (1, "bcdef\n")
    assert result.stderr.startswith("error: ")


class Spoken:
    """An engine that answers with what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, str]]] = []

    def stream(self, messages: list[dict[str, str]], **request: Any) -> Any:
        import logitmill as lm

        self.asked.append(messages)
        done = lm.Completion("yes", (1,), "eos", "eos", 1, "greedy", "0" * 64)

        class Stream:
            completion = done

            def cancel(self) -> None:
                raise AssertionError("nobody asked to stop")

            def __iter__(self) -> Any:
                return iter([lm.Event("yes")])

        return Stream()


def test_the_messages_so_far(capsys: pytest.CaptureFixture[str]):
    engine = Spoken()
    talk = Conversation(engine, {}, "be kind")
    assert talk.take("one")
    assert talk.take("two")
    said = [message["role"] for message in engine.asked[-1]]
    assert said == ["system", "user", "assistant", "user"]
    assert engine.asked[-1][2]["content"] == "yes"
    talk.take("/reset")
    talk.take("three")
    assert engine.asked[-1] == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "three"}]
    talk.take("/system")
    talk.take("four")
    assert engine.asked[-1] == [{"role": "user", "content": "four"}]
    assert not talk.take("/exit")
    assert capsys.readouterr().out == "yes\n" * 4


def test_at_a_terminal_the_prompt_goes_to_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    typed = iter(["hello", KeyboardInterrupt, "again", EOFError])

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def answer() -> str:
        said = next(typed)
        if isinstance(said, str):
            return said
        raise said

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", answer)
    assert list(module._lines()) == ["hello", "again"]
    out, err = capsys.readouterr()
    assert (out, err) == ("", "> > \n> > \n")
