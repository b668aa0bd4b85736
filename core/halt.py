"""Stop tests: which rows end, why, and which rows move on to their next phase.

Criteria on tokens and expressions of signals are evaluated on the device, one column each, and travel to the host in
the step's one read. Criteria on text run on the host behind it. A text criterion that held without ending its row
(``stop(x) and not within(a, b)``) looks from then on at what comes after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .context import Context
from .dist import Dist
from .errors import LogitmillError, StageError
from .expression import Expression
from .planner import Node
from .returned import truth_of
from .session import Fault, Session, bound_now
from .stage import StoppingCriterion
from .strategy import AllOf, AnyOf, Not, Test, leaves

Reason = Literal["eos", "stop", "length", "error", "cancelled"]
#: (row of the history, position where the text begins) -> the visible text from there
Texts = Callable[[int, int], str]
#: what a row's text criteria have seen already: (criterion, index of the sequential node it is in) -> length of that
#: text
Offsets = dict[tuple[StoppingCriterion, int | None], int]


class _Eos(StoppingCriterion, name="eos"):
    """What ends a row whose strategy has no ``until``."""

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "eos"

    def check(self, ctx: Context) -> Tensor:
        ids = torch.tensor(ctx.vocab.eos_ids, dtype=torch.int64, device=ctx.device)
        return torch.isin(ctx.last, ids)


@dataclass(frozen=True)
class Verdict:
    """Why a row ends. ``cut``: the visible text of the row ends at this character."""

    reason: Reason
    criterion: str | None
    cut: int | None = None


@dataclass
class _Column:
    """One leaf, evaluated for some rows of a session; ``owner``: the sequential node whose child is at work."""

    leaf: Test
    owner: Node | None
    rows: list[int]


@dataclass
class _Layout:
    """The columns of a session, and for each row its tests: (test, owner, whether it ends the row, leaf -> column)."""

    columns: list[_Column]
    tests: list[list[tuple[Test, Node | None, bool, dict[Test, int]]]]


@dataclass
class Halt:
    """The stop tests of a loop."""

    default: StoppingCriterion = field(default_factory=_Eos)

    # -- on the device -------------------------------------------------------------------------------------------------

    def flags(self, session: Session, law: Callable[[], Dist], ctx: Context) -> Tensor:
        """bool [R, L]: every leaf on tokens and signals, for a session whose ctx contains the token just committed."""
        if session.moved:  # only now: until here verdicts read the flags of the step before, by its layout
            session.layout, session.moved = None, False
        layout = self._layout(session)
        flags = torch.zeros(session.rows, len(layout.columns), dtype=torch.bool, device=ctx.device)
        for number, column in enumerate(layout.columns):
            whole = len(column.rows) == session.rows
            view = ctx if whole else ctx.select(column.rows)
            if column.owner is not None:
                starts = [[session.starts[column.owner.index][i]] for i in column.rows]
                view = view.starting(torch.tensor(starts, device=ctx.device))
            leaf = column.leaf
            if isinstance(leaf, Expression):
                value = leaf.evaluate(law() if whole else law().select(column.rows), view)
            else:
                assert isinstance(leaf, StoppingCriterion)
                if not leaf.reads_tokens():
                    continue
                view = view.at(None, [leaf])
                if leaf.scalars:
                    leaf = bound_now(leaf, [leaf], law() if whole else law().select(column.rows), view)
                try:
                    value = truth_of(leaf.check(view), view.rows)
                except Exception as error:  # a stranger's criterion may raise anything
                    raise Fault(leaf.stage_name, error) from error
            flags[column.rows, number] = value[:, 0]
        return flags

    def _layout(self, session: Session) -> _Layout:
        if session.layout is None:
            session.layout = self._laid_out(session)
        assert isinstance(session.layout, _Layout)
        return session.layout

    def _laid_out(self, session: Session) -> _Layout:
        columns: dict[tuple[Test, int | None], _Column] = {}
        order: list[_Column] = []
        tests: list[list[tuple[Test, Node | None, bool, dict[Test, int]]]] = []
        for row in range(session.rows):
            mine = []
            pipes = list(session.pipes(row))
            found = [(pipe.stop, owner, _ends(owner, number)) for pipe, owner, number in pipes if pipe.stop is not None]
            if not any(ends for _, _, ends in found):
                found.append((self.default, None, True))
            for test, owner, ends in found:
                where: dict[Test, int] = {}
                for leaf in leaves(test):
                    key = (leaf, None if owner is None else owner.index)
                    if key not in columns:
                        columns[key] = _Column(leaf, owner, [])
                        order.append(columns[key])
                    columns[key].rows.append(row)
                    where[leaf] = order.index(columns[key])
                mine.append((test, owner, ends, where))
            tests.append(mine)
        return _Layout(order, tests)

    # -- on the host ---------------------------------------------------------------------------------------------------

    def verdict(
        self, session: Session, row: int, flags: Sequence[bool], ctx: Context, text: Texts, offsets: Offsets
    ) -> Verdict | None:
        """Whether row ``row`` of the session ends. A row whose phase is over moves on instead.

        ``offsets`` is the row's own memory of what its text criteria have already seen.
        """
        layout, place = self._layout(session), session.index[row]
        prompt = ctx.history.prompt_sizes[place]
        ending: list[Verdict] = []
        for test, owner, ends, where in layout.tests[row]:
            start = prompt if owner is None else session.starts[owner.index][row]
            mine = None if owner is None else owner.index

            def held(
                leaf: Test, where: dict[Test, int] = where, start: int = start, mine: int | None = mine
            ) -> tuple[bool, int | None]:
                if flags[where[leaf]]:
                    return True, None
                if isinstance(leaf, StoppingCriterion) and leaf.reads_text():
                    return self._text(leaf, mine, text(place, start), ctx.select([row]), offsets)
                return False, None

            holds, cut, reason, name = _tree(test, held)
            if not holds:
                continue
            if ends:
                before = 0 if cut is None else len(text(place, prompt)) - len(text(place, start))
                ending.append(Verdict(reason, name, None if cut is None else before + cut))
                continue
            assert owner is not None
            session.move_on(row, owner, len(ctx.history.host[place]))
            for key in [key for key in offsets if key[1] == mine]:
                del offsets[key]
        return min(ending, key=lambda verdict: _earliness(verdict.cut), default=None)

    def _text(
        self, leaf: StoppingCriterion, owner: int | None, text: str, ctx: Context, offsets: Offsets
    ) -> tuple[bool, int | None]:
        offset = offsets.get((leaf, owner), 0)
        now = bound_now(leaf, [leaf], ctx.raw, ctx) if leaf.scalars else leaf
        try:
            found = now.check_text(text[offset:], ctx)
        except Exception as error:  # as above
            raise Fault(leaf.stage_name, error) from error
        if found is None or found is False:
            return False, None
        offsets[leaf, owner] = len(text)
        return True, None if found is True else offset + int(found)

    def held(self, session: Session, row: int, text: Callable[[int], str]) -> int:
        """How many characters at the end of the row's text a stop test may yet cut off.

        ``text(start)``: the text from a position.
        """
        most = 0
        for test, owner, ends, _ in self._layout(session).tests[row]:
            if not ends:
                continue
            for leaf in leaves(test):
                if isinstance(leaf, StoppingCriterion) and leaf.reads_text():
                    start = -1 if owner is None else session.starts[owner.index][row]
                    most = max(most, leaf.held(text(start)))
        return most

    def advance(self, session: Session, ctx: Context, text: Texts, offsets: Offsets) -> None:
        """Replay for one row: evaluate its tests at this point and let it move on, whatever would end it."""
        session.layout = None
        try:
            flags = self.flags(session, lambda: ctx.raw, ctx)[0].tolist()
            self.verdict(session, 0, flags, ctx, text, offsets)
        except (LogitmillError, Fault):
            raise
        except Exception as error:
            raise StageError(f"{type(error).__name__}: {error}", stage="until", step=0, row=0) from error


def _ends(owner: Node | None, number: int) -> bool:
    """Whether a test of this pipe ends the row, rather than moving it to the next phase."""
    return owner is None or number == len(owner.children) - 1


def _tree(
    test: Test, held: Callable[[Test], tuple[bool, int | None]]
) -> tuple[bool, int | None, Literal["eos", "stop", "length"], str]:
    """(holds, cut, reason, name) of a test from its leaves."""
    if isinstance(test, Not):
        return not _tree(test.tests[0], held)[0], None, "stop", _name(test)
    if isinstance(test, AllOf):
        parts = [_tree(part, held) for part in test.tests]
        cuts = [cut for _, cut, _, _ in parts if cut is not None]
        reasons = {reason for _, _, reason, _ in parts}
        reason: Literal["eos", "stop", "length"] = reasons.pop() if len(reasons) == 1 else "stop"
        return all(holds for holds, *_ in parts), min(cuts, default=None), reason, _name(test)
    if isinstance(test, AnyOf):
        # Every part is asked, so that text criteria remember what they saw. The first that holds is the one that fired,
        # but for one that cuts the text: what it cuts must not come out because a bound was reached in the same step.
        parts = [part for part in (_tree(part, held) for part in test.tests) if part[0]]
        return min(parts, key=lambda part: _earliness(part[1]), default=(False, None, "stop", ""))
    holds, cut = held(test)
    return holds, cut, test.finish_reason if isinstance(test, StoppingCriterion) else "stop", _name(test)


def _earliness(cut: int | None) -> float:
    return math.inf if cut is None else cut


def _name(test: Test) -> str:
    if isinstance(test, StoppingCriterion):
        return test.stage_name
    from .dsl.write import test_text

    return test_text(test)


__all__ = ["Halt", "Verdict"]
