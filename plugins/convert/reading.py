"""Reading a peer's document: every field is known, has the right type, and is accounted for."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from ...core.dsl.files import read_json
from ...core.errors import Path, StrategyError
from .conversion import LeftOut

_NOTHING: tuple[Any, ...] = (None, False, [], {}, "")


@dataclass(frozen=True)
class Field:
    """What becomes of one of a peer's fields, in words for its table in the docs."""

    fate: Literal["carried", "no effect", "not carried"]
    says: str
    #: what the peer takes where the document does not have it
    default: Any = None
    #: whether a value that cannot be carried does nothing
    off: Callable[[Any], bool] = lambda value: _among(value, _NOTHING)


def carried(says: str, default: Any = None) -> Field:
    """A field with a counterpart here."""
    return Field("carried", says, default)


def inert(says: str) -> Field:
    """A field that changes nothing about the tokens."""
    return Field("no effect", says)


def refused(says: str, *neutral: Any) -> Field:
    """A field without a counterpart; at ``neutral`` values (and None, False and empty ones) it does nothing."""
    return Field("not carried", says, None, lambda value: _among(value, (*_NOTHING, *neutral)))


def _among(value: Any, choices: tuple[Any, ...]) -> bool:
    """Whether a value is one of these; 1 is no True."""
    return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)


class Reading:
    """One document of a peer, and what has been found out about it."""

    def __init__(
        self, peer: str, fields: Mapping[str, Field], given: Mapping[str, Any], file: str | None = None
    ) -> None:
        self.peer, self.fields, self.file = peer, fields, file
        self.given: dict[str, Any] = {}
        self.left_out: list[LeftOut] = []
        self.unused: list[LeftOut] = []
        for name, value in given.items():
            if not isinstance(name, str) or name not in fields:
                self.left_out.append(LeftOut(str(name), written(name, value), self._unknown(str(name))))
                continue
            self.given[name] = value
            field = fields[name]
            if field.fate == "not carried" and not field.off(value):
                self.lose(name, field.says)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.fields, n=1, cutoff=0.7)
        return f"unknown to {self.peer}" + (f"; did you mean {near[0]!r}?" if near else "")

    # -- what became of fields -----------------------------------------------------------------------------------------

    def lose(self, name: str, why: str) -> None:
        """Say that a field cannot be carried over."""
        self.left_out.append(LeftOut(name, written(name, self.get(name)), why))

    def ignore(self, why: str, *names: str) -> None:
        """Say that the peer does not use these fields here, where the document sets them to anything but a default."""
        for name in names:
            if self.has(name) and self.given[name] != self.fields[name].default:
                self.unused.append(LeftOut(name, written(name, self.given[name]), why))

    def wrong(self, name: str, wanted: str) -> StrategyError:
        """The error for a value that the peer refuses."""
        return StrategyError(
            f"{self.peer}: {name} is {wanted}, got {self.get(name)!r}", Path(name, self.file), code="type"
        )

    # -- values --------------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the document says something here; null is as good as nothing."""
        return self.given.get(name) is not None

    def get(self, name: str) -> Any:
        """A value, or the peer's default."""
        return self.given[name] if self.has(name) else self.fields[name].default

    def number(self, name: str) -> float:
        """A finite number."""
        value = _plain(self.get(name))
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "a number")
        return float(value)

    def whole(self, name: str) -> int:
        """A whole number."""
        value = _plain(self.get(name))
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise self.wrong(name, "a whole number")
        return int(value)

    def truth(self, name: str) -> bool:
        """True or false."""
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def texts(self, name: str) -> list[str]:
        """Texts: one, several or none."""
        value = self.get(name)
        found = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(found, list | tuple | set | frozenset) or not all(isinstance(text, str) for text in found):
            raise self.wrong(name, "a text or a list of texts")
        return list(found)

    def ids(self, name: str) -> tuple[int, ...]:
        """Token ids: one, several or none."""
        value = _plain(self.get(name))
        found = [] if value is None else [value] if isinstance(value, int) else value
        if not isinstance(found, list | tuple | set | frozenset) or not all(map(is_id, found)):
            raise self.wrong(name, "a token id or a list of them")
        return tuple(found)

    def sequences(self, name: str) -> list[tuple[int, ...]]:
        """Sequences of token ids, none of them empty."""
        found = _plain(self.get(name)) or ()
        if not isinstance(found, list | tuple) or not all(map(is_sequence, found)):
            raise self.wrong(name, "a list of lists of token ids")
        return [tuple(sequence) for sequence in found]

    def mapping(self, name: str) -> dict[str, Any]:
        """Fields of its own: a mapping, or an object's attributes."""
        value = self.get(name)
        if not isinstance(value, Mapping) and not hasattr(value, "__dict__"):
            raise self.wrong(name, "a mapping or an object with fields")
        return dict(value) if isinstance(value, Mapping) else dict(vars(value))

    def seed(self, name: str, *drawn: int) -> int | None:
        """A seed; None where there is none, or one of ``drawn``, by which the peer asks for a random one."""
        if self.get(name) is None or self.whole(name) in drawn:
            return None
        return self.whole(name)


def _plain(value: Any) -> Any:
    """A tensor's or an array's content; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def is_id(value: Any) -> TypeGuard[int]:
    """Whether this is a token's id."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_sequence(value: Any) -> bool:
    """Whether these are ids of tokens, one at least."""
    return isinstance(value, list | tuple) and bool(value) and all(map(is_id, value))


def written(name: Any, value: Any) -> str:
    """``name=value``, or an option as on a command line, at a length for a line."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if str(name).startswith("-"):
        return name if value is True else f"{name} {shown}"
    return f"{name}={shown}"


def read_object(text: str, peer: str, file: str | None = None) -> dict[str, Any]:
    """A JSON object. Raises StrategyError, which names the peer, for anything else."""
    try:
        found = read_json(text, file, infinite=True)
    except StrategyError as error:
        raise StrategyError(f"{peer}: {error.message}", error.where, hint=error.hint, code=error.code) from None
    if not isinstance(found, dict):
        raise StrategyError(f"{peer}: a JSON object is wanted", Path("the document", file), code="type")
    return found


__all__ = ["Field", "Reading", "carried", "inert", "is_id", "is_sequence", "read_object", "refused", "written"]
