"""Stop tests: which rows end, why, and which rows move on to their next phase.

Criteria on tokens and expressions of signals are evaluated on the device, one column each, and travel to the host in
the step's one read, unless the host can tell from the tokens alone (``check_host``). Criteria on text run on the host
behind it. A text criterion that held without ending its row
(``stop(x) and not within(a, b)``) looks from then on at what comes after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .context import Context
from .dist import Dist
from .errors import LogitmillError, StageError
from .expression import Expression
from .history import History
from .planner import Node
from .returned import truth_of
from .session import Fault, Session, bound_now
from .stage import StoppingCriterion
from .strategy import AllOf, AnyOf, Not, Test, leaves
from .transfer import index_on, to_device
from .vocab import Vocab

Reason = Literal["eos", "stop", "length", "error", "cancelled"]
#: (row of the history, position where the text begins) -> the visible text from there
Texts = Callable[[int, int], str]
#: row of the history -> the context of that row alone
Contexts = Callable[[int], Context]
#: what a row's text criteria have seen already: (criterion, index of the sequential node it is in) -> length of that
#: text
Offsets = dict[tuple[StoppingCriterion, int | None], int]


_HOST = -1  # in the place of a column's number: the host knows by itself


class _Eos(StoppingCriterion, name="eos"):
    """What ends a row whose strategy has no ``until``."""

    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "eos"

    def check(self, ctx: Context) -> Tensor:
        return torch.isin(ctx.last, index_on(ctx.device, ctx.vocab.eos_ids))

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        return bool(tokens) and tokens[-1] in vocab.eos_ids


class LateContext(Context):
    """A context that is made when something is read of it: most criteria on text look at nothing but the text."""

    def __init__(self, make: Callable[[], Context]) -> None:
        self._make: Callable[[], Context] | None = make

    def __getattr__(self, name: str) -> Any:  # only for what is not there yet
        make = self.__dict__.pop("_make", None)
        if make is None:
            raise AttributeError(name)
        self.__dict__.update(make().__dict__)
        return getattr(self, name)

    def _twin(self) -> Context:
        self.history  # noqa: B018  # a twin is a copy of what is there
        return super()._twin()


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
    """The columns of a session, and for each row its tests.

    A test: (test, owner, whether it ends the row, leaf -> column; a leaf on text, or one that the host knows, has
    none). ``quiet``: whether no test of a row can hold while none of its flags does and none of what the host knows
    (``host``), so that there is nothing else to look at then. ``held``: the text criteria that end a row, with their
    owner: what may yet be cut off is not shown.
    """

    columns: list[_Column]
    tests: list[list[tuple[Test, Node | None, bool, dict[Test, int]]]]
    quiet: list[bool] = field(default_factory=list)
    host: list[list[tuple[StoppingCriterion, Node | None]]] = field(default_factory=list)
    held: list[list[tuple[StoppingCriterion, Node | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for mine in self.tests:
            found = [
                (leaf, owner, ends)
                for test, owner, ends, _ in mine
                for leaf in leaves(test)
                if isinstance(leaf, StoppingCriterion)
            ]
            self.host.append([(leaf, owner) for leaf, owner, _ in found if leaf.host_knows()])
            self.held.append([(leaf, owner) for leaf, owner, ends in found if ends and leaf.reads_text()])
            reads_text = any(leaf.reads_text() for leaf, _, _ in found)
            self.quiet.append(not reads_text and all(_monotone(test) for test, *_ in mine))


@dataclass
class Halt:
    """The stop tests of a loop."""

    default: StoppingCriterion = field(default_factory=_Eos)

    # -- on the device -------------------------------------------------------------------------------------------------

    def flags(self, session: Session, law: Callable[[], Dist], ctx: Context) -> Tensor:
        """bool [R, L]: every leaf on tokens and signals, for a session whose ctx contains the token just committed."""
        if session.moved:  # only now: until here verdicts read the flags of the step before, by its layout
            session.layout, session.moved = None, False
        columns = []
        for column in self._layout(session).columns:
            whole = len(column.rows) == session.rows
            view = ctx if whole else ctx.select(column.rows)
            if column.owner is not None:
                starts = [[session.starts[column.owner.index][i]] for i in column.rows]
                view = view.starting(to_device(starts, torch.int64, ctx.device))
            value = _evaluated(column.leaf, law if whole else _some(law, column.rows), view)
            if not whole:
                value = torch.zeros(session.rows, 1, dtype=torch.bool, device=ctx.device).index_copy_(
                    0, index_on(ctx.device, column.rows), value
                )
            columns.append(value)
        if len(columns) == 1:
            return columns[0]
        return torch.cat(columns, -1) if columns else torch.zeros(session.rows, 0, dtype=torch.bool, device=ctx.device)

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
                    if isinstance(leaf, StoppingCriterion) and (leaf.host_knows() or not leaf.reads_tokens()):
                        if leaf.host_knows():
                            where[leaf] = _HOST
                        continue
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
        self, session: Session, row: int, flags: Sequence[float], history: History, ctx: Contexts, text: Texts,
        offsets: Offsets, vocab: Vocab,
    ) -> Verdict | None:  # fmt: skip
        """Whether row ``row`` of the session ends. A row whose phase is over moves on instead.

        ``flags``: a number for each column, not 0 where it holds. ``offsets`` is the row's own memory of what its text
        criteria have already seen.
        """
        layout, place = self._layout(session), session.index[row]
        tokens, prompt = history.host[place], history.prompt_sizes[place]

        def known(leaf: Test, owner: Node | None) -> bool:
            assert isinstance(leaf, StoppingCriterion)
            begin = prompt if owner is None else session.starts[owner.index][row]
            try:
                return leaf.check_host(tokens, prompt, begin, vocab)
            except Exception as error:  # a stranger's criterion may raise anything
                raise Fault(leaf.stage_name, error) from error

        if layout.quiet[row] and not any(flags) and not any(known(*found) for found in layout.host[row]):
            return None
        ending: list[Verdict] = []
        for test, owner, ends, where in layout.tests[row]:
            start = prompt if owner is None else session.starts[owner.index][row]
            mine = None if owner is None else owner.index

            def held(
                leaf: Test, where: dict[Test, int] = where, start: int = start, owner: Node | None = owner,
                mine: int | None = mine,
            ) -> tuple[bool, int | None]:  # fmt: skip
                column = where.get(leaf)
                if column is not None and (known(leaf, owner) if column == _HOST else flags[column]):
                    return True, None
                if isinstance(leaf, StoppingCriterion) and leaf.reads_text():
                    return self._text(leaf, mine, text(place, start), ctx(place), offsets)
                return False, None

            holds, cut, reason, name = _tree(test, held)
            if not holds:
                continue
            if ends:
                before = 0 if cut is None else len(text(place, prompt)) - len(text(place, start))
                ending.append(Verdict(reason, name, None if cut is None else before + cut))
                continue
            assert owner is not None
            session.move_on(row, owner, len(tokens))
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
        for leaf, owner in self._layout(session).held[row]:
            start = -1 if owner is None else session.starts[owner.index][row]
            most = max(most, leaf.held(text(start)))
        return most

    def advance(self, session: Session, ctx: Context, text: Texts, offsets: Offsets) -> None:
        """Replay for one row: evaluate its tests at this point and let it move on, whatever would end it."""
        session.layout = None
        try:
            flags = self.flags(session, lambda: ctx.raw, ctx)[0].tolist()
            for leaf, _ in self._layout(session).host[0]:  # an engine has done so before anything ran
                _prepared(leaf, ctx)
            self.verdict(session, 0, flags, ctx.history, lambda place: ctx, text, offsets, ctx.vocab)
        except (LogitmillError, Fault):
            raise
        except Exception as error:
            raise StageError(f"{type(error).__name__}: {error}", stage="until", step=0, row=0) from error


def _evaluated(leaf: Test, law: Callable[[], Dist], ctx: Context) -> Tensor:
    """bool [R, 1]: an expression, or a criterion on tokens, at this point."""
    if isinstance(leaf, Expression):
        value: Tensor = leaf.evaluate(law(), ctx)
        return value.expand(ctx.rows, 1)
    assert isinstance(leaf, StoppingCriterion)
    ctx = ctx.at(None, [leaf])
    if leaf.scalars:
        leaf = bound_now(leaf, [leaf], law(), ctx)
    try:
        return truth_of(leaf.check(ctx), ctx.rows)
    except Exception as error:  # a stranger's criterion may raise anything
        raise Fault(leaf.stage_name, error) from error


def _prepared(leaf: StoppingCriterion, ctx: Context) -> None:
    """What a vocabulary refuses of a criterion is refused, though its constants may not be needed."""
    try:
        ctx.at(None, [leaf]).prepared(leaf)
    except Exception as error:  # as above
        raise Fault(leaf.stage_name, error) from error


def _some(law: Callable[[], Dist], rows: Sequence[int]) -> Callable[[], Dist]:
    return lambda: law().select(rows)


def _monotone(test: Test) -> bool:
    """Whether a test cannot hold while none of its leaves does."""
    if isinstance(test, Not):
        return False
    return not isinstance(test, AllOf | AnyOf) or (bool(test.tests) and all(map(_monotone, test.tests)))


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
