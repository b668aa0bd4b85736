"""A law: a name, what it says, the kinds of stage it holds for, and a function that finds where it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...core.errors import StrategyError
from ...core.stage import Stage, StageKind
from .cases import Case, ordinary
from .shrink import smallest
from .subjects import vocabulary_for

ANY: frozenset[StageKind] = frozenset(
    {"logits processor", "sampler", "stopping criterion", "combinator", "search", "signal", "schedule"}
)
DISTS: frozenset[StageKind] = frozenset({"logits processor", "sampler", "combinator"})
PIPED: frozenset[StageKind] = frozenset({"logits processor", "sampler"})
ROWS: frozenset[StageKind] = DISTS | {"signal", "stopping criterion"}


class Breach(NamedTuple):
    """How a law is broken, in words, and in which row."""

    says: str
    row: int | None = None


class LawBroken(AssertionError):  # noqa: N818  # it says what happened
    """A stage breaks a law. ``law`` is the law's name, ``stage`` the stage as the language writes it, ``case`` the
    smallest counterexample found (None where the law looks at no distribution), ``row`` the row of it.
    """

    def __init__(self, law: Law, stage: Stage, breach: Breach, case: Case | None) -> None:
        self.law, self.stage, self.case, self.row, self.says = law.name, repr(stage), case, breach.row, breach.says
        self.others: tuple[str, ...] = ()
        self._law, self._stochastic = law, stage.stochastic
        super().__init__(self.law, self.stage)

    @property
    def counterexample(self) -> str:
        """``logits [[0, 1]], prompt [], output [1], row 0``."""
        if self.case is None:
            return ""
        parts = [str(self.case)]
        if self._stochastic:
            seeds = list(self.case.seeds)
            parts.append(f"seeds {seeds}" if len(seeds) > 1 else f"seed {seeds[0]}")
        if self._law.walks and self.case.steps:
            parts.append(f"{self.case.steps} token{'s' * (self.case.steps != 1)} on")
        if self.row is not None:
            parts.append(f"row {self.row}")
        return ", ".join(parts)

    def __str__(self) -> str:
        lines = [f"{self.stage} breaks the law {self.law!r}: {self._law.says}"]
        if self.case is not None:
            lines.append(f"  smallest counterexample: {self.counterexample}")
        lines.append(f"  {self.says}")
        if self.others:
            lines.append(f"  other laws it breaks: {', '.join(self.others)}")
        return "\n".join(lines)


Check = Callable[[Stage, Case], Breach | None]


@dataclass(frozen=True)
class Law:
    """``says``: in one line. ``kinds``: whom it holds for. ``cases``: where it is tried; none where it needs none."""

    name: str
    says: str
    kinds: frozenset[StageKind]
    check: Check = field(repr=False)
    cases: tuple[Callable[[int], Case], ...] = (ordinary,)
    walks: bool = False

    def broken_by(self, stage: Stage) -> LawBroken | None:
        """The law, broken by this stage at the smallest case found, or None.

        Raises ValueError for a stage that names tokens which the laws' vocabulary lacks.
        """
        vocab = vocabulary_for(stage)
        if not self.cases:
            breach = self._breach(stage, ordinary(vocab))
            return None if breach is None else LawBroken(self, stage, breach, None)
        for make in self.cases:
            case = make(vocab)
            breach = self._breach(stage, case)
            if breach is not None:
                return self._smallest(stage, case, breach)
        return None

    def _smallest(self, stage: Stage, case: Case, breach: Breach) -> LawBroken:
        raises = _Raised.kind(breach)

        def fails(smaller: Case) -> bool:
            found = self._breach(stage, smaller)
            return found is not None and _Raised.kind(found) == raises

        least = smallest(case, fails)
        return LawBroken(self, stage, self._breach(stage, least) or breach, least)

    def _breach(self, stage: Stage, case: Case) -> Breach | None:
        """What the check finds. A StrategyError is a stage's word that the case is not for it, and breaks nothing but
        the law that it runs at all; whatever else is raised breaks this one.
        """
        try:
            return self.check(stage, case)
        except StrategyError:
            return None
        except Exception as error:  # a stranger's stage may raise anything
            said = raised(error)
            return None if said is None else _Raised(f"it {said}", None)


class _Raised(Breach):
    """A breach by an exception."""

    @staticmethod
    def kind(breach: Breach) -> str | None:
        """The name of what was raised."""
        return breach.says.split(":")[0] if isinstance(breach, _Raised) else None


def raised(error: Exception) -> str | None:
    """``raised KeyError: 'a'``; None for a StrategyError, which is a stage's word that the case is not for it."""
    cause = getattr(error, "cause", None) or error
    return None if isinstance(cause, StrategyError) else f"raised {type(cause).__name__}: {first_line(cause)}"


def first_line(error: BaseException) -> str:
    """The first line of what was raised, at a length for a message."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if len(line) <= 120 else line[:117] + "..."


_TABLE: dict[str, Law] = {}


def law(
    kinds: frozenset[StageKind],
    *cases: Callable[[int], Case],
    walks: bool = False,
    needs_case: bool = True,
) -> Callable[[Check], Check]:
    """Enter a check in the table under its function's name; its docstring's first paragraph is what the law says."""

    def enter(check: Check) -> Check:
        where = (cases or (ordinary,)) if needs_case else ()
        says = " ".join((check.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
        says = says[:1].lower() + says[1:]
        _TABLE[check.__name__] = Law(check.__name__, says, kinds, check, where, walks)
        return check

    return enter


def laws(kind: str | None = None) -> dict[str, Law]:
    """Every law by name, in the order in which they are tried; those that hold for a kind of stage alone where given.

    ``laws()["monotone"].broken_by(stage)`` tries one.
    """
    from . import laws as _  # noqa: F401  # fills the table

    return {name: law for name, law in _TABLE.items() if kind is None or kind in law.kinds}


def breaches(stage: Stage, tried: Iterable[Law]) -> Iterator[LawBroken]:
    """Every one of these laws that a stage breaks. Where it does not run at all, that one alone."""
    for one in tried:
        if stage.kind not in one.kinds:
            continue
        broken = one.broken_by(stage)
        if broken is not None:
            yield broken
            if one.name == "contract":
                return


__all__ = [
    "ANY",
    "DISTS",
    "PIPED",
    "ROWS",
    "Breach",
    "Law",
    "LawBroken",
    "breaches",
    "first_line",
    "law",
    "laws",
    "raised",
]
