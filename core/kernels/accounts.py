"""What a trace says of distributions, on a CPU by kernels (``kernels/account.cpp``).

A distribution is float32 logits ``[R, C]`` and, where its columns are not the whole vocabulary, int64 ids ``[R, C]``.
Numbers are read by the host as they are written: they are in plain arrays. ``accounts`` is None where there are no
kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from . import native
from .choosing import Look

KEPT, ENTROPY, FACTS = 0, 1, 4
"""Where the facts of a row stand, and how many there are; behind them the logits, ids and probabilities of its best."""

_FORM = (c_void_p, c_void_p, c_int64, c_int64)
_ARGUMENTS = {
    "measure": (*_FORM, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_int64),
    "token": (*_FORM, c_void_p, c_void_p, c_int64, c_void_p, c_int64),
    "removed": (*_FORM, c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_int64),
}


@dataclass(frozen=True)
class Measured:
    """A distribution and what is known of it: ``facts``, R times FACTS and 3 ``count`` numbers."""

    logits: Tensor
    ids: Tensor | None
    count: int
    facts: ctypes.Array[c_double]

    @property
    def form(self) -> tuple[int, int | None, int, int]:
        """As the kernels take it."""
        return self.logits.data_ptr(), None if self.ids is None else self.ids.data_ptr(), *self.logits.shape


class Accounts:
    """The kernels, as functions of tensors."""

    _measure: Callable[..., None]
    _token: Callable[..., None]
    _removed: Callable[..., None]

    def __init__(self) -> None:
        for name, takes in _ARGUMENTS.items():
            setattr(self, f"_{name}", native.function(f"account_{name}", *takes))

    def measure(self, logits: Tensor, ids: Tensor | None, count: int, *, ranked: bool, look: Look | None) -> Measured:
        """A distribution and its ``count`` best. ``ranked``: it is in order; ``look``: at these logits, if any was."""
        logits, ids = logits.contiguous(), None if ids is None else ids.contiguous()
        facts = (c_double * (len(logits) * (FACTS + 3 * count)))()
        found = Measured(logits, ids, count, facts)
        maxima, ends = (None, None) if look is None else (look.maxima.data_ptr(), look.ends.data_ptr())
        self._measure(*found.form, ranked, maxima, ends, count, facts, native.threads())
        return found

    def token(self, of: Measured, tokens: Tensor) -> ctypes.Array[c_double]:
        """R times 2 numbers: the probability of a token (int64 [R, 1]), and how many columns are better."""
        tokens, told = tokens.contiguous(), (c_double * (2 * len(of.logits)))()
        self._token(*of.form, tokens.data_ptr(), of.facts, of.count, told, native.threads())
        return told

    def removed(self, before: Measured, after: Measured, vocabulary: int) -> ctypes.Array[c_double]:
        """R numbers: the probability in ``before`` of what ``after`` does not hold.

        Both of the same rows, all of whose ids are below ``vocabulary``.
        """
        gone = (c_double * len(before.logits))()
        others, ids, _, columns = after.form
        self._removed(
            *before.form, before.facts, before.count, others, ids, columns, vocabulary, gone, native.threads()
        )  # fmt: skip
        return gone


def accounts() -> Accounts | None:
    """The kernels, or None where there are none."""
    library = native.library()
    return None if library is None else _of(library)


@lru_cache(maxsize=1)
def _of(library: ctypes.CDLL) -> Accounts:
    return Accounts()


__all__ = ["ENTROPY", "FACTS", "KEPT", "Accounts", "Measured", "accounts"]
