"""What a conversion is: its two directions, what it returns, and the error where something cannot be carried."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ...core.dsl.kinds import whole
from ...core.errors import StrategyError
from ...core.patch import patched
from ...core.strategy import Strategy
from .peers import PEERS


@dataclass(frozen=True)
class LeftOut:
    """Something of the source that the result does not have, or has only nearly."""

    #: the peer's field, or the name of a stage
    field: str
    #: it and its value, as a person would write them
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class Imported:
    """A peer's document as a strategy.

    ``unused`` is what the document sets and the peer itself does not use: it is no loss.
    """

    strategy: Strategy
    left_out: tuple[LeftOut, ...] = ()
    unused: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A strategy as a peer's document."""

    document: Any
    left_out: tuple[LeftOut, ...] = ()


LOSSY = "lossy=True (on the command line --lossy) carries over the rest, and lists these"


class ConversionError(StrategyError):
    """A conversion that would lose something. ``left_out`` says what."""

    def __init__(self, what: str, left_out: Sequence[LeftOut], hint: str = LOSSY) -> None:
        lines = "".join(f"\n  {item}" for item in left_out)
        super().__init__(
            f"{what} cannot be carried over whole{lines}",
            hint=hint,
            code="convert",
        )
        self.left_out = tuple(left_out)

    def __str__(self) -> str:
        return f"error: {self.message}\n  {self.hint}"


class Peer(Protocol):
    """What a peer's module has."""

    def read(self, source: Any, file: str | None = None) -> Any:
        """The document behind an object, a dict or a text. Raises StrategyError for what is none."""

    def imported(self, document: Any) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
        """The strategy of a document, what it leaves out, and what the peer does not use."""

    def exported(self, strategy: Strategy) -> tuple[Any, list[LeftOut]]:
        """The document of a strategy, and what it leaves out."""

    def shown(self, document: Any) -> str:
        """A document as text, without a newline at its end. ``read`` takes it."""


def peer_of(name: str) -> Peer:
    """The module of a peer. Raises StrategyError for a name that is none."""
    if name not in PEERS:
        near = difflib.get_close_matches(str(name), PEERS, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PEERS)}"
        raise StrategyError(f"no peer is called {name!r}", hint=hint, code="peer")
    return cast(Peer, importlib.import_module(PEERS[name].module, __package__))


def convert_from(peer: str, document: Any, lossy: bool = False, *, file: str | None = None) -> Imported:
    """The strategy that decodes as ``peer`` does with this document.

    ``document`` is what the peer calls its own: see ``PEERS``. ``file`` is the file it came from, for messages; a
    strategy of logitmill's own is read from there, since it may name files beside it. Raises ConversionError where
    something cannot be carried over (with ``lossy`` it is listed instead), and StrategyError for what is no value.
    """
    module = peer_of(peer)
    strategy, left_out, unused = module.imported(module.read(document, file))
    if left_out and not lossy:
        raise ConversionError(f"this {PEERS[peer].title}", left_out)
    return Imported(strategy, tuple(left_out), tuple(unused))


def convert_to(peer: str, strategy: Any, lossy: bool = False) -> Exported:
    """The document with which ``peer`` decodes as this strategy (or its text, or its dict) says.

    Raises ConversionError where the peer cannot be told something (with ``lossy`` it is listed instead), and
    StrategyError for a fragment.
    """
    module = peer_of(peer)
    strategy = Strategy.of(strategy)
    if peer != "logitmill":
        whole(patched(strategy))
    document, left_out = module.exported(strategy)
    if left_out and not lossy:
        raise ConversionError(f"to {peer} this strategy", left_out)
    return Exported(document, tuple(left_out))


__all__ = ["ConversionError", "Exported", "Imported", "LeftOut", "Peer", "convert_from", "convert_to", "peer_of"]
