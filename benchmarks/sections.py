"""Every section by name, in the order of the page: `make bench` shows them, `make bench-check` holds the ratios."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from choosing import choosing
from loop import loop
from memory import memory
from section import Asked, Section
from stages import stages
from steps import STEPS, step

#: those with ratios that are held: beside a peer, another way to do it, or what is allowed
HELD: dict[str, Callable[[Asked], Section | None]] = {
    **{name: partial(step, work) for name, work in STEPS.items()},
    "choosing": choosing,
    "loop": loop,
    "memory": memory,
}

SECTIONS: dict[str, Callable[[Asked], Section | None]] = {**HELD, "stages": stages}
