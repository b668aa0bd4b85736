"""A session: rows whose plans share a shape, run stacked, with the states of their stages.

``propose`` runs the pipeline and draws; it changes nothing, so it may be run again, for fewer rows or after a fault.
``commit`` moves the states once a token is final. A combinator's child runs for the rows in which it has weight, and
only those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import state as states
from .context import Context
from .dist import Dist
from .errors import LogitmillError
from .planner import Node, Pipe, Plan
from .proposal import Proposal, Visit, narrowed
from .returned import dist_of, state_of, tokens_of, weights_of
from .scalar import undefined
from .stage import Combinator, LogitsProcessor, Sampler, Search, Stage
from .tail import heads


class Fault(Exception):  # noqa: N818  # it carries an error, and never leaves the loop
    """A stage raised. ``stage`` is its name in the plan."""

    def __init__(self, stage: str, cause: BaseException) -> None:
        super().__init__(str(cause) if isinstance(cause, LogitmillError) else f"{type(cause).__name__}: {cause}")
        self.stage, self.cause = stage, cause


_S = TypeVar("_S", bound=Stage)


@dataclass
class Session:
    """R rows of one shape. Row i of the session is row ``index[i]`` of the history."""

    plans: list[Plan]
    index: list[int]
    states: dict[int, Any] = field(default_factory=dict)  # node index -> state of R rows
    phases: dict[int, list[int]] = field(default_factory=dict)  # sequential node -> the child at work, a row
    starts: dict[int, list[int]] = field(default_factory=dict)  # sequential node -> where that child began, a row
    layout: object = field(default=None, repr=False)  # of its stop tests: core.halt's, made again when rows change
    moved: bool = field(default=False, repr=False)  # a row is in another phase than the layout says
    #: node index -> the stages of all rows as written, and the one they run as where no step changes that
    _written: dict[int, list[Stage]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _settled: dict[int, Stage] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._alike = all(plan is self.plans[0] for plan in self.plans)  # one plan for all rows

    @classmethod
    def opened(cls, plan: Plan, ctx: Context) -> Session:
        """Rows of one plan before their first token."""
        session = cls([plan] * ctx.rows, list(ctx.host_index))
        for node in plan.nodes:
            if isinstance(node.stage, LogitsProcessor | Sampler):
                if not node.remembers:
                    session.states[node.index] = ()
                    continue
                with _faults(node):
                    written = [node.stage] * ctx.rows
                    view = ctx.at(node, written)
                    stage = bound_now(node.stage, written, ctx.raw, view)
                    assert isinstance(stage, LogitsProcessor | Sampler)
                    session.states[node.index] = state_of(stage.init(view), ctx.rows)
            elif isinstance(node.stage, Combinator) and node.stage.sequential:
                session.phases[node.index] = [0] * ctx.rows
                session.starts[node.index] = [ctx.history.host_lengths[i] for i in ctx.host_index]
        return session

    @property
    def rows(self) -> int:
        return len(self.plans)

    # -- rows come and go ----------------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Session:
        """A session of some rows; a row named twice is a copy."""
        return Session(
            [self.plans[i] for i in rows],
            [self.index[i] for i in rows],
            {node: states.select(state, rows) for node, state in self.states.items()},
            {node: [phase[i] for i in rows] for node, phase in self.phases.items()},
            {node: [start[i] for i in rows] for node, start in self.starts.items()},
        )

    @staticmethod
    def joined(sessions: Sequence[Session]) -> Session:
        """One session of all their rows, in order. All have the same shape."""
        first = sessions[0]
        if len(sessions) == 1:
            return first
        return Session(
            [plan for s in sessions for plan in s.plans],
            [i for s in sessions for i in s.index],
            {node: states.join([s.states[node] for s in sessions]) for node in first.states},
            {node: [p for s in sessions for p in s.phases[node]] for node in first.phases},
            {node: [p for s in sessions for p in s.starts[node]] for node in first.starts},
        )

    # -- a step --------------------------------------------------------------------------------------------------------

    def propose(self, dist: Dist, ctx: Context) -> Proposal:
        """Run the pipeline on the model's distributions and draw. Raises Fault; changes nothing."""
        proposal = self._proposal(dist)
        self._run(self.plans[0].root, self._given(dist), ctx, list(range(self.rows)), proposal, shared=False)
        return proposal

    def law(self, dist: Dist, ctx: Context) -> tuple[Dist, list[Visit]]:
        """The law alone, also of a fragment, and what each stage did."""
        proposal, rows = self._proposal(dist), list(range(self.rows))
        left = self._run(self.plans[0].root, self._given(dist), ctx, rows, proposal, shared=False, draws=False)
        return proposal.law() if left is None else left, proposal.visits

    def _proposal(self, dist: Dist) -> Proposal:
        return Proposal(torch.zeros(self.rows, 1, dtype=torch.int64, device=dist.device), [])

    def _given(self, dist: Dist) -> Dist:
        """As a plan runs it: a strategy as written takes no shorter way by looking at values."""
        return dist.unlooked() if self.plans[0].as_written else dist

    def _at_work(self, node: Node, rows: list[int], dist: Dist, ctx: Context) -> tuple[Stage, list[Stage], Context]:
        """(the stage with this step's values, the stage of each row as written, the context as it sees it)."""
        if self._alike and node.fixed:  # one stage for all rows, and no step changes it
            written = [node.stage] * len(rows)
            return node.stage, written, ctx.at(node, written)
        whole = len(rows) == self.rows
        held = self._written.get(node.index) if whole else None
        if held is None:
            held = [self.plans[i].nodes[node.index].stage for i in rows]
            if whole:
                self._written[node.index] = held
        view = ctx.at(node, held)
        stage = self._settled.get(node.index) if whole else None
        if stage is None:
            stage = bound_now(node.stage, held, dist, view)
            if whole and all(plan.nodes[node.index].fixed for plan in self.plans):
                self._settled[node.index] = stage
        return stage, held, view

    def _run(
        self, pipe: Pipe, dist: Dist, ctx: Context, rows: list[int], out: Proposal, *, shared: bool, draws: bool = True
    ) -> Dist | None:
        """One pipe for ``rows`` of the session (``dist`` and ``ctx`` hold just those).

        None when a sampler has ended it.
        """
        for at, node in enumerate(pipe.nodes):
            if at >= pipe.tail and draws and self._tail(pipe.nodes[at:], dist, ctx, rows, out, shared=shared):
                return None
            with _faults(node):
                stage, written, view = self._at_work(node, rows, dist, ctx)
                if isinstance(stage, LogitsProcessor):
                    after = dist_of(stage.apply(dist, self._state(node, rows), view), dist)
                    after = after if node.fixed else _sound(stage, written[0], after)
                    out.recorded.append(Visit(node, rows, stage, dist, after, shared))
                    dist = after
                    continue
                if isinstance(stage, Sampler):
                    law = dist_of(stage.law(dist, self._state(node, rows), view), dist)
                    law = law if node.fixed else _sound(stage, written[0], law)
                    out.recorded.append(Visit(node, rows, stage, dist, law, shared))
                    out.laws.append((rows, law))
                    if draws:
                        tokens = tokens_of(stage.pick(law, view), len(rows))
                        out.take(rows, tokens)
                    return None
            if isinstance(stage, Search):
                return (
                    self._run(node.children[0], dist, ctx, rows, out, shared=shared, draws=draws)
                    if node.children
                    else dist
                )
            assert isinstance(stage, Combinator)
            left = self._combine(node, stage, dist, ctx, view, rows, out, shared=shared, draws=draws)
            if left is None:
                return None
            dist = left
        return dist

    def _tail(
        self, nodes: tuple[Node, ...], dist: Dist, ctx: Context, rows: list[int], out: Proposal, *, shared: bool
    ) -> bool:
        """The rest of a pipe in one go. False, and nothing done, where nothing gives the same."""
        found = self._at_once(nodes, dist, ctx, rows)
        if found is None:
            return False
        law, tokens = found
        out.take(rows, tokens)
        out.laws.append((rows, law))

        def tell(told: Proposal) -> None:
            self._run(Pipe(nodes, None, True), dist, ctx, rows, told, shared=shared, draws=False)

        out.untold.append(tell)
        return True

    def _at_once(
        self, nodes: tuple[Node, ...], dist: Dist, ctx: Context, rows: list[int]
    ) -> tuple[Dist, Tensor] | None:
        """(the law, tokens) by the first head on which all of them run; None where there is none."""
        for head in heads(dist, as_written=self.plans[0].as_written):
            with suppress(Exception):  # whatever it is, stage by stage it is reported with its name
                found = self._on_head(head(dist), nodes, dist, ctx, rows)
                if found is not None:
                    return found
        return None

    def _on_head(
        self, head: Any, nodes: tuple[Node, ...], dist: Dist, ctx: Context, rows: list[int]
    ) -> tuple[Dist, Tensor] | None:
        """(the law, tokens); None where a stage cannot, or nothing can be drawn."""
        for node in nodes[:-1]:
            stage, _, view = self._at_work(node, rows, dist, ctx)
            if not stage.on_head(head, view):  # type: ignore[attr-defined]  # the plan says which have it
                return None
        sampler, _, view = self._at_work(nodes[-1], rows, dist, ctx)
        found: tuple[Dist, Tensor] | None = head.drawn(view.noise(sampler))
        return found

    def _combine(
        self, node: Node, stage: Combinator, dist: Dist, ctx: Context, view: Context, rows: list[int], out: Proposal,
        *, shared: bool, draws: bool,
    ) -> Dist | None:  # fmt: skip
        if stage.sequential:
            chosen = [[float(j == self.phases[node.index][i]) for j in range(len(node.children))] for i in rows]
            weights = torch.tensor(chosen, device=dist.device)
        else:
            with _faults(node):
                weights = weights_of(stage.weights(dist, view), len(rows), len(node.children))
                chosen = weights.tolist()  # which rows a child runs for is the host's to know
                if not all(max(row) > 0 and math.isfinite(sum(row)) for row in chosen):
                    raise ValueError(f"each row's weights are finite, and one of them above 0; got {chosen}")
        many = [i for i, row in enumerate(chosen) if sum(w > 0 for w in row) > 1]
        parts: list[tuple[list[int], Dist | None]] = []
        for j, child in enumerate(node.children):
            sub = [i for i, row in enumerate(chosen) if row[j] > 0]
            if not sub:
                parts.append(([], None))
                continue
            whole = len(sub) == len(rows)
            narrowed, inner = (dist, ctx) if whole else (dist.select(sub), ctx.select(sub))
            absolute = [rows[i] for i in sub]
            parts.append(
                (sub, self._run(child, narrowed, inner, absolute, out, shared=shared or bool(many), draws=draws))
            )
        if all(part is None for _, part in parts):
            return None
        merged = _merged(node, stage, parts, weights, len(rows), many)
        out.recorded.append(Visit(node, rows, stage, dist, merged, shared))
        return merged

    def _state(self, node: Node, rows: list[int]) -> Any:
        state = self.states[node.index]
        return state if len(rows) == self.rows else states.select(state, rows)

    # -- the commit ----------------------------------------------------------------------------------------------------

    def commit(self, proposal: Proposal, tokens: Tensor, ctx: Context) -> None:
        """Move the states: ``tokens`` (int64 [R, 1]) are final, and ``ctx`` contains them. Raises Fault."""
        moved = dict(self.states)
        for visit in proposal.recorded:  # what ran in one go has no state
            if not visit.node.accepts:
                continue
            rows, before, after, stage = visit.rows, visit.before, visit.after, visit.stage
            if visit.shared:  # only where the token has mass in what the stage returned
                held = (after.logprob_of(tokens[rows])[:, 0] > float("-inf")).tolist()
                sub = [i for i, has in enumerate(held) if has]
                if not sub:
                    continue
                before, after, rows = before.select(sub), after.select(sub), [rows[i] for i in sub]
                stage = narrowed(stage, sub)
            whole = len(rows) == self.rows
            node = visit.node
            written = [self.plans[i].nodes[node.index].stage for i in rows]
            view = (ctx if whole else ctx.select(rows)).at(node, written).after(before)
            with _faults(node):
                mine = moved[node.index] if whole else states.select(moved[node.index], rows)
                if self.rows > 1:  # host objects move in place, and a stack in which one row raises is run again
                    mine = states.copied(mine)
                accept = stage.accept  # type: ignore[attr-defined]  # a visit that accepts is of a processor or a sampler
                fresh = state_of(accept(mine, tokens if whole else tokens[rows], after, view), len(rows))
                moved[node.index] = fresh if whole else states.put(moved[node.index], rows, fresh)
        self.states = moved

    def pipes(self, row: int) -> Iterator[tuple[Pipe, Node | None, int]]:
        """The pipes whose stop tests apply to a row: (pipe, its sequential node or None, the child's number)."""

        def inside(pipe: Pipe, owner: Node | None, number: int) -> Iterator[tuple[Pipe, Node | None, int]]:
            yield pipe, owner, number
            for node in pipe.nodes:
                if node.index in self.phases:
                    child = self.phases[node.index][row]
                    yield from inside(node.children[child], node, child)
                elif isinstance(node.stage, Search):
                    for child_pipe in node.children:
                        yield from inside(child_pipe, None, 0)

        yield from inside(self.plans[row].root, None, 0)

    def move_on(self, row: int, node: Node, position: int) -> None:
        """Row ``row`` goes to the next child of a sequential combinator, which begins at ``position``."""
        phases, starts = list(self.phases[node.index]), list(self.starts[node.index])
        phases[row] += 1
        starts[row] = position
        self.phases, self.starts = self.phases | {node.index: phases}, self.starts | {node.index: starts}
        self.moved = True


class _faults:  # noqa: N801  # a context manager that reads as a word
    """Turns whatever a stage raises into a Fault with the stage's name."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, Fault):
            raise Fault(self.node.name, error) from error


def bound_now(stage: _S, written: Sequence[Stage], dist: Dist, ctx: Context) -> _S:
    """The stage with this step's values in its Scalar fields."""
    if not stage.scalars:
        return stage
    values = {}
    for name, scalar in stage.scalars.items():
        own = [getattr(item, name) for item in written]
        values[name] = None if own[0] is None else scalar.stacked(own, dist, ctx)
    return stage.bound(values)


def _sound(stage: Stage, written: Stage, after: Dist) -> Dist:
    """What a stage made, with NaN in the rows for which an argument of it was no number: they end with an error."""
    wrong = undefined(stage, written)
    if wrong is None:
        return after
    return Dist(
        torch.where(wrong, torch.nan, after.logits), after.ids, vocab_size=after.vocab_size, rescued=after.rescued
    )


def _merged(
    node: Node,
    stage: Combinator,
    parts: list[tuple[list[int], Dist | None]],
    weights: Tensor,
    rows: int,
    many: list[int],
) -> Dist:
    """The children's Dists put together: rows of one child as they are, rows of several through the stage's merge."""
    device = weights.device
    several = set(many)
    pieces: list[tuple[Tensor, Dist]] = []
    for sub, part in parts:
        if part is None:
            continue
        alone = [k for k, i in enumerate(sub) if i not in several]
        if alone:
            pieces.append((torch.tensor([sub[k] for k in alone], device=device), part.select(alone)))
    if many:
        dense = []
        for sub, part in parts:
            place = {i: k for k, i in enumerate(sub)}
            size = next(p.vocab_size for _, p in parts if p is not None)
            logits = torch.full((len(many), size), float("-inf"), device=device)
            have = [(n, place[i]) for n, i in enumerate(many) if i in place]
            if part is not None and have:
                logits[[n for n, _ in have]] = part.select([k for _, k in have]).dense().logits
            dense.append(Dist(logits))
        with _faults(node):
            pieces.append((torch.tensor(many, device=device), stage.merge(dense, weights[many])))
    if len(pieces) == 1 and len(pieces[0][0]) == rows:
        return pieces[0][1]
    return Dist.assemble(pieces, rows)


__all__ = ["Fault", "Proposal", "Session", "Visit", "bound_now"]
