"""The smallest document that still fails: pieces are taken away for as long as the same law breaks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from fuzzing import damage


def smallest(content: Any, fails: Callable[[Any], bool], tries: int = 2000) -> Any:
    """``content`` with as much taken away as leaves ``fails`` true, in at most ``tries`` runs."""
    left = [tries]

    def still(candidate: Any) -> bool:
        left[0] -= 1
        return left[0] >= 0 and fails(candidate)

    if not isinstance(content, str):
        return _document(content, still)
    pieces = _without(damage.tokens(content), still)
    return "".join(_without(list("".join(pieces)), still)) if len("".join(pieces)) < 400 else "".join(pieces)


def _without(pieces: list[str], still: Callable[[Any], bool]) -> list[str]:
    """Ever smaller runs of pieces are tried; a run that is not needed goes."""
    size = max(1, len(pieces) // 2)
    while True:
        at, shrunk = 0, False
        while at < len(pieces):
            candidate = pieces[:at] + pieces[at + size :]
            if candidate and still("".join(candidate)):
                pieces, shrunk = candidate, True
            else:
                at += size
        if size == 1 and not shrunk:
            return pieces
        size = max(1, size // 2) if not shrunk else min(size, max(1, len(pieces) // 2))


def _document(document: Any, still: Callable[[Any], bool]) -> Any:
    shrunk = True
    while shrunk:
        shrunk = False
        for path in sorted(damage.places(document), key=len):
            candidate = copy.deepcopy(document)
            holder = candidate
            try:
                for part in path[:-1]:
                    holder = holder[part]
                del holder[path[-1]]
            except (KeyError, IndexError, TypeError):
                continue
            if still(candidate):
                document, shrunk = candidate, True
                break
    return document
