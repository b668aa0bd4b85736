"""assert_laws: every law that fits, tried on a stage at several values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...core.stage import Stage
from .law import LawBroken, breaches, laws
from .subjects import known, stages_of


def assert_laws(*stages: type[Stage] | Stage | str, **fields: Any) -> None:
    """Raise LawBroken where a stage breaks a law, with the smallest counterexample found.

    ``stages``: stage classes, stages, or their text in the language (``"my.top_a(0.3)"``). ``fields``: values for the
    classes' fields, one or, in a list, several; every combination is tried. Without any, a class is tried at its
    ``examples``, else in the middle of what its required fields take. A class need not be registered.

        assert_laws(TopA, a=[0.0, 0.3, 1.0])
        assert_laws("my.top_a(0.3)", "my.steady")

    The first law broken is raised, and names the others that are. Values that a stage refuses raise StrategyError.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    broken = check_laws(*stages, **fields)
    if broken:
        same = [other.law for other in broken[1:] if other.stage == broken[0].stage]
        broken[0].others = tuple(same)
        raise broken[0]


def check_laws(*stages: type[Stage] | Stage | str, **fields: Any) -> list[LawBroken]:
    """As ``assert_laws``, but every law broken comes back, by stage and then in the order of ``laws()``."""
    if not stages:
        raise TypeError("a stage class, a stage or its text in the language is wanted")
    return list(_broken(stages, fields))


def _broken(stages: tuple[type[Stage] | Stage | str, ...], fields: dict[str, Any]) -> Iterator[LawBroken]:
    for what in stages:
        for stage in stages_of(what, fields):
            with known(type(stage)):
                yield from breaches(stage, laws(stage.kind).values())


__all__ = ["assert_laws", "check_laws"]
