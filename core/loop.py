"""The loop: slots over a runner, continuous batching, one host read a step.

Rows lie compact in slots 0 .. n-1 of the runner and of the history. A step turns logits [n, V] into one token a row, commits it,
reads tokens and stop flags to the host in one transfer, and decodes the next logits. With ``lookahead`` (a GPU) the decode is
under way before that read, and what a row that has ended computed in vain is dropped; on a CPU nothing would be gained.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .completion import Completion, Event
from .context import Context
from .dist import Dist
from .errors import LogitmillError, ModelError, NumericalError, RequestError, StageError
from .expression import Expression
from .halt import Halt, Verdict
from .history import History
from .request import Request, Row, unstarted
from .rng import Noise, RowNoise, fold
from .session import Fault, Proposal, Session
from .stage import Search
from .trace import traced

if TYPE_CHECKING:
    from .model.runner import Runner
    from .planner import Node
    from .tokens import TokenText
    from .vocab import Vocab


@dataclass(frozen=True)
class StepEvent:
    """What observers are told after each step: the tokens committed, by request number and row."""

    step: int
    tokens: tuple[tuple[Request, int, int], ...]  # (request, its row, token)


@dataclass
class _Drawn:
    """One step between the draw and the host's read of it."""

    tokens: Tensor  # int64 [n, 1]
    packed: Tensor  # float64 [n, 3 + L]: token, fault of the model's logits, fault of the law, raw logprob, flags ...
    sessions: list[tuple[Session, Proposal]]
    raw: Dist
    measures: dict[int, tuple[Session, Tensor]] = field(default_factory=dict)


class Loop:
    """Decodes requests until none is left."""

    def __init__(
        self,
        runner: Runner,
        vocab: Vocab,
        reader: Callable[[bool], TokenText],
        *,
        batch_invariant: bool = False,
        lookahead: bool | None = None,
        notify: Callable[[str, Any], None] = lambda hook, event: None,
    ) -> None:
        self.runner, self.vocab, self.notify = runner, vocab, notify
        self.batch_invariant = batch_invariant
        self.lookahead = runner.device.type == "cuda" if lookahead is None else lookahead
        self._reader = reader
        self.halt = Halt()
        self.history = History(runner.vocab_size, runner.device, lambda: reader(False))
        self.queue: deque[Request] = deque()
        self.rows: list[Row] = []
        self.sessions: list[Session] = []
        self.logits: Tensor | None = None  # [n, V] of the next step
        self.steps = 0
        self.prepared: dict[Any, Any] = {}
        self._texts: dict[int, str] = {}
        self._parked: dict[int, list[int]] = {}  # idle slot -> the tokens its cache still holds

    # -- requests ------------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queue a request."""
        self.queue.append(request)
        self.notify("on_request", request)

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.rows)

    def abandon(self) -> None:
        """Forget everything in flight."""
        self.queue.clear()
        self._drop(range(len(self.rows)))

    def step(self) -> list[Event]:
        """Admit what fits, and give every row one token. Returns what became known."""
        events = self._cancel()
        events += self._admit()
        if not self.rows:
            return events
        drawn = self._draw()
        try:
            if self.lookahead and self._room():
                self.logits = self.runner.decode(drawn.tokens, len(self.rows))
                events += self._read(drawn)
            else:
                events += self._read(drawn)
                if self.rows:
                    self.logits = self.runner.decode(drawn.tokens, len(self.rows))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            events += self._lost(error)
        self._fork()
        self.steps += 1
        return events

    def _room(self) -> bool:
        return max(map(len, self.history.host)) < self.runner.max_length

    # -- admission -----------------------------------------------------------------------------------------------------

    def _admit(self) -> list[Event]:
        events: list[Event] = []
        while self.queue:
            request = self.queue[0]
            if request.plan.rows > self.runner.rows:
                why = f"the strategy needs {request.plan.rows} rows at a time, the engine has {self.runner.rows}: load it with max_rows={request.plan.rows}"
                events.append(self._refuse(self.queue.popleft(), RequestError(why)))
                continue
            if len(request.prompt) >= self.runner.max_length:
                why = (
                    f"the prompt has {len(request.prompt)} tokens, and the cache holds {self.runner.max_length} with room for at least one more: "
                    "shorten it, or load the model with a larger max_length"
                )
                events.append(self._refuse(self.queue.popleft(), RequestError(why)))
                continue
            if self._reserved() + request.plan.rows > self.runner.rows:
                break
            self.queue.popleft()
            try:
                self._start(request)
            except Fault as fault:
                events.append(self._refuse(request, self._stage_error(fault, 0, request.index)))
            except LogitmillError as error:
                events.append(self._refuse(request, error))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                events.append(self._refuse(request, _model_error(error)))
            else:
                self._fork()
        return events

    def _reserved(self) -> int:
        return sum(request.plan.rows for request in {row.request for row in self.rows})

    def _start(self, request: Request) -> None:
        slot = len(self.rows)
        request.started = time.perf_counter()
        kept = self._kept(slot, request) if request.reuse and not self.batch_invariant else 0
        logits = self.runner.prefill(slot, request.prompt, start=kept)
        self._parked.pop(slot, None)
        row = Row(request, RowNoise(request.seed), self._reader(True), began=request.started)
        self.history.join(request.prompt)
        try:
            ctx = self._context(Dist(logits), [slot], [row])
            session = Session.opened(request.plan, ctx)
        except BaseException:
            self.history.select(range(slot))
            raise
        request.reused, request.prefill_s = kept, time.perf_counter() - request.started
        request.rows.append(row)
        self.rows.append(row)
        self.logits = logits if self.logits is None else torch.cat([self.logits, logits])
        self.sessions.append(session)
        self._regroup()

    def _kept(self, slot: int, request: Request) -> int:
        """How much of the prompt an idle slot still holds; that slot's cache is brought to ``slot``."""
        best, source = 0, slot
        for idle, tokens in self._parked.items():
            same = 0
            for a, b in zip(tokens, request.prompt[:-1], strict=False):
                if a != b:
                    break
                same += 1
            if same > best:
                best, source = same, idle
        if best and source != slot:
            self.runner.copy(source, slot)
        return best

    def _context(self, raw: Dist, index: Sequence[int], rows: Sequence[Row]) -> Context:
        now = time.perf_counter()
        scores = torch.tensor([[row.score] for row in rows], dtype=torch.float64, device=self.runner.device)
        return Context(
            self.history,
            self.vocab,
            raw,
            Noise([row.noise for row in rows], [len(self.history.host[i]) for i in index], self.runner.device),
            index=index,
            scores=scores,
            elapsed=[now - row.request.submitted for row in rows],
            prepared=self.prepared,
        )

    # -- a step --------------------------------------------------------------------------------------------------------

    def _draw(self) -> _Drawn:
        """Run every session's pipeline, commit, and pack what the host needs to know into one tensor."""
        assert self.logits is not None
        rows, count = self.rows, len(self.rows)
        raw = Dist(self.logits)
        ctx = self._context(raw, range(count), rows)
        proposals = []
        for session in self.sessions:
            proposals += self._propose(session, raw, ctx)
        tokens = torch.zeros(count, 1, dtype=torch.int64, device=raw.device)
        for session, proposal in proposals:
            tokens[session.index] = proposal.tokens
        tokens = tokens.clamp_(0, raw.columns - 1)
        scored = any("scores" in row.request.plan.needs for row in rows)
        lp = raw.logprob_of(tokens).double() if scored else torch.zeros(count, 1, dtype=torch.float64, device=raw.device)
        self.history.append(tokens)
        after = Context(
            self.history, self.vocab, raw, ctx._noise, index=range(count), scores=ctx.scores + lp, elapsed=ctx._elapsed,
            prepared=self.prepared,
        )  # fmt: skip
        kept: list[tuple[Session, Proposal]] = []
        for session, proposal in proposals:
            kept += self._commit(session, proposal, tokens, after)
        self.sessions = [session for session, _ in kept]
        drawn = _Drawn(tokens, torch.empty(0), kept, raw)
        drawn.packed = self._pack(drawn, lp, after)
        return drawn

    def _propose(self, session: Session, raw: Dist, ctx: Context) -> list[tuple[Session, Proposal]]:
        """A session's proposal; where a stage raises, row by row, so that only the rows that raise end."""
        whole = len(session.index) == len(self.rows) and session.index == list(range(len(self.rows)))
        try:
            return [(session, session.propose(raw if whole else raw.select(session.index), ctx if whole else ctx.select(session.index)))]
        except Fault as fault:
            if session.rows == 1:
                self._failed(session.index[0], fault)
                return []
        return [pair for i in range(session.rows) for pair in self._propose(session.select([i]), raw, ctx)]

    def _commit(self, session: Session, proposal: Proposal, tokens: Tensor, ctx: Context) -> list[tuple[Session, Proposal]]:
        """As _propose, for ``accept``: stages are pure, so a row can be committed again from the state before."""
        try:
            session.commit(proposal, tokens[session.index], ctx.select(session.index))
            return [(session, proposal)]
        except Fault as fault:
            if session.rows == 1:
                self._failed(session.index[0], fault)
                return []
        alone = [(session.select([i]), proposal.select(i)) for i in range(session.rows)]
        return [pair for one, own in alone for pair in self._commit(one, own, tokens, ctx)]

    def _pack(self, drawn: _Drawn, lp: Tensor, ctx: Context) -> Tensor:
        count, device = len(self.rows), drawn.raw.device
        columns = [drawn.tokens.double(), _faulty(drawn.raw).double(), torch.zeros(count, 1, dtype=torch.float64, device=device), lp]
        flags = []
        for session, proposal in drawn.sessions:
            columns[2][session.index] = torch.cat([_faulty(law).double() for _, law in proposal.laws])[
                _back([i for rows, _ in proposal.laws for i in rows])
            ]
            view = ctx.select(session.index)
            try:
                flags.append(self.halt.flags(session, proposal.law, view).double())
            except Exception as error:  # a criterion of a stranger may raise anything: its rows end, the loop does not
                flags.append(torch.zeros(session.rows, 0, dtype=torch.float64, device=device))
                for i in session.index:
                    self._failed(i, Fault("until", error))
            self._measure(session, proposal, view, drawn)
            self._log(session, proposal, drawn)
        width = max([0, *(f.shape[1] for f in flags)])
        wide = torch.zeros(count, width, dtype=torch.float64, device=device)
        for (session, _), part in zip(drawn.sessions, flags, strict=True):
            wide[session.index, : part.shape[1]] = part
        return torch.cat([*columns, wide], -1)

    def _measure(self, session: Session, proposal: Proposal, ctx: Context, drawn: _Drawn) -> None:
        """What a search will rank its rows by, at this point of each row."""
        for node in session.plans[0].nodes:
            if isinstance(node.stage, Search) and node.stage.measures():
                values = [measure.evaluate(proposal.law(), ctx).double() for measure in _same_measures(session, node)]
                drawn.measures[id(session)] = (session, torch.cat(values, -1))

    def _log(self, session: Session, proposal: Proposal, drawn: _Drawn) -> None:
        """Logprobs for the rows that asked, left on the device."""
        for at, i in enumerate(session.index):
            row = self.rows[i]
            for kind, count, dist, place in (
                ("raw", row.request.ask.raw, drawn.raw, i),
                ("final", row.request.ask.final, None, at),
            ):
                if count is None:
                    continue
                own = (dist or proposal.law()).select([place])
                logprob = own.logprob_of(drawn.tokens[i : i + 1])[0, 0]
                best = own.order[0, :count]
                getattr(row, kind).append((logprob, own.logprobs[0, best], own.tokens_at(own.order)[0, :count]))

    # -- the host's read -----------------------------------------------------------------------------------------------

    def _read(self, drawn: _Drawn) -> list[Event]:
        """The one transfer of the step, and everything that follows from it on the host."""
        packed = drawn.packed.tolist()
        self.history.note([int(line[0]) for line in packed])
        ctx = self._context(drawn.raw, range(len(self.rows)), self.rows)
        committed, events = [], []
        for session, proposal in drawn.sessions:
            for at, i in enumerate(session.index):
                row, line = self.rows[i], packed[i]
                if row.verdict is not None:
                    continue
                if line[1] or line[2]:
                    self._numerical(i, at, proposal, drawn.raw, from_model=bool(line[1]))
                    continue
                row.score += line[3]
                row.push(int(line[0]))
                committed.append((row.request, row.request.rows.index(row), int(line[0])))
                if row.request.trace:
                    row.trace.append(
                        traced(proposal, at, drawn.raw.select([i]), row.tokens[-1], len(row.tokens) - 1, len(self.history.host[i]) - 1, self._text_of)
                    )
                self._judge(session, at, i, line[4:], ctx)
        for session, values in drawn.measures.values():
            for at, i in enumerate(session.index):
                self.rows[i].measures = tuple(values[at].tolist())
        self.notify("on_step", StepEvent(self.steps, tuple(committed)))
        events += self._emit(drawn.sessions)
        self._drop([i for i, row in enumerate(self.rows) if row.verdict is not None], drawn)
        return events

    def _judge(self, session: Session, at: int, i: int, flags: Sequence[float], ctx: Context) -> None:
        row = self.rows[i]

        def text(index: int, start: int) -> str:
            return self.rows[index].text_from(start - self.history.prompt_sizes[index])

        try:
            verdict = self.halt.verdict(session, at, [bool(f) for f in flags], ctx.select(session.index), text, row.offsets)
        except Exception as error:  # as for flags
            self._failed(i, Fault("until", error))
            return
        if verdict is None and len(self.history.host[i]) >= self.runner.max_length:
            verdict = Verdict("length", "cache")
        if verdict is not None:
            row.end(verdict)

    def _emit(self, sessions: Sequence[tuple[Session, Proposal]]) -> list[Event]:
        """What may be shown of each row, and the results of requests whose rows have all ended."""
        events = []
        where = {i: (session, at) for session, _ in sessions for at, i in enumerate(session.index)}
        for i, row in enumerate(self.rows):
            request = row.request
            single = request.plan.rows == 1
            if row.verdict is None:
                if single and row.tokens:
                    session, at = where[i]
                    held = self.halt.held(session, at, lambda start, row=row, i=i: row.text_from(start - self.history.prompt_sizes[i]))  # type: ignore[misc]
                    ready = max(row.sent, len(row.text) - held)
                    piece, row.sent = row.text[row.sent : ready], ready
                    events.append(Event(piece, row.tokens[-1], request.index, len(row.tokens) - 1))
                continue
            if any(other.verdict is None for other in request.rows):
                continue
            completion = self._completed(request)
            rest = row.text[row.sent :] if single else completion.text[len(request.echo) :]
            last = completion.tokens[-1] if completion.tokens else None
            events.append(Event(rest, last, request.index, max(0, len(completion.tokens) - 1), completion.finish_reason, completion))
        return [event for event in events if event.completion is None or self._told(event.completion)]

    def _told(self, completion: Completion) -> bool:
        self.notify("on_finish", completion)
        return True

    def _completed(self, request: Request) -> Completion:
        """The result of a request: its one row's, or the best of its search's."""
        rows = request.rows
        results = [row.completion(self._text_of) for row in rows]
        searches = [node.stage for node in request.plan.nodes if isinstance(node.stage, Search)]
        if len(rows) == 1 or not searches:
            return results[0]
        try:
            order = searches[-1].finish(list(rows))
            if sorted(order) != list(range(len(rows))):
                raise ValueError(f"finish returned {order}, not an order of {len(rows)} rows")
        except Exception as error:  # a stranger's search may raise anything
            failed = StageError(f"{type(error).__name__}: {error}", stage=searches[-1].stage_name, step=len(rows[0].tokens), row=request.index)
            return _with(results[0], finish_reason="error", error=failed, candidates=tuple(results))
        ranked = tuple(results[i] for i in order)
        return _with(ranked[0], candidates=ranked)

    # -- faults --------------------------------------------------------------------------------------------------------

    def _stage_error(self, fault: Fault, step: int, row: int) -> LogitmillError:
        if isinstance(fault.cause, StageError | ModelError):
            return fault.cause
        error = StageError(str(fault), stage=fault.stage, step=step, row=row)
        error.__cause__ = fault.cause
        return error

    def _failed(self, i: int, fault: Fault) -> None:
        row = self.rows[i]
        row.end(Verdict("error", None), self._stage_error(fault, len(row.tokens), row.request.index))

    def _numerical(self, i: int, at: int, proposal: Proposal, raw: Dist, *, from_model: bool) -> None:
        row, stage, dist = self.rows[i], "model", raw.select([i])
        if not from_model:
            one = proposal.select(at)
            bad = next((v for v in one.visits if bool(_faulty(v.after))), one.visits[-1])
            stage, dist = bad.node.name, bad.after
        what = "NaN" if bool(dist.logits.isnan().any()) else "+inf" if bool((dist.logits == float("inf")).any()) else "no finite logit"
        error = NumericalError(f"{what} among the logits", stage=stage, step=len(row.tokens), row=row.request.index)
        row.end(Verdict("error", None), error)

    def _refuse(self, request: Request, error: LogitmillError) -> Event:
        completion = unstarted(request, Verdict("error", None), error)
        self.notify("on_finish", completion)
        return Event("", None, request.index, 0, "error", completion)

    def _lost(self, error: BaseException) -> list[Event]:
        """The model itself failed: every row ends with what it has."""
        for row in self.rows:
            if row.verdict is None:
                row.end(Verdict("error", None), _model_error(error))
        events = self._emit([])
        self._drop(range(len(self.rows)))
        return events

    def _cancel(self) -> list[Event]:
        events = []
        for request in [request for request in self.queue if request.cancelled]:
            self.queue.remove(request)
            completion = unstarted(request, Verdict("cancelled", None), None)
            self.notify("on_finish", completion)
            events.append(Event("", None, request.index, 0, "cancelled", completion))
        for row in self.rows:
            if row.request.cancelled and row.verdict is None:
                row.end(Verdict("cancelled", None))
        ended = [i for i, row in enumerate(self.rows) if row.verdict is not None]
        if ended:
            events += self._emit([(session, Proposal(torch.empty(0), [])) for session in self.sessions])
            self._drop(ended)
        return events

    # -- rows come and go ----------------------------------------------------------------------------------------------

    def _drop(self, ended: Sequence[int], drawn: _Drawn | None = None) -> None:
        """Rows leave; the last ones move into their places, so that rows stay compact."""
        if not ended:
            return
        gone = set(ended)
        stay = [i for i in range(len(self.rows)) if i not in gone]
        count = len(stay)
        late = [i for i in stay if i >= count]
        parents = [i if i not in gone else late.pop() for i in range(count)]
        held = {i: self.history.host[i] for i in range(len(self.rows))}
        if parents:
            self.runner.select(parents)
        self._parked = {slot: tokens for slot, tokens in self._parked.items() if slot >= len(self.rows)}
        for slot in range(count, len(self.rows)):  # the last token of a row was never decoded, so its cache ends before it
            self._parked[slot] = held[slot][:-1]
        place = {old: new for new, old in enumerate(parents)}
        self.history.select(parents)
        self.rows = [self.rows[i] for i in parents]
        index = torch.tensor(parents, dtype=torch.int64, device=self.runner.device)
        if self.logits is not None:
            self.logits = self.logits[index] if parents else None
        if drawn is not None:
            drawn.tokens = drawn.tokens[index]
        sessions = []
        for session in self.sessions:
            alive = [at for at, i in enumerate(session.index) if i in place]
            if len(alive) == session.rows:
                sessions.append(session)
            elif alive:
                sessions.append(session.select(alive))
            if alive:
                sessions[-1].index = [place[i] for i in sessions[-1].index]
        self.sessions = sessions
        self._regroup()

    def _regroup(self) -> None:
        """Sessions of one shape become one, unless each row runs by itself."""
        if self.batch_invariant:
            self.sessions = [session.select([i]) for session in self.sessions for i in range(session.rows)]
            return
        groups: dict[Any, list[Session]] = {}
        for session in self.sessions:
            groups.setdefault((session.plans[0].shape, self.rows[session.index[0]].request.trace), []).append(session)
        self.sessions = [Session.joined(group) for group in groups.values()]

    def _fork(self) -> None:
        """Rows whose search has just begun become as many as it wants."""
        for i in range(len(self.rows)):
            row = self.rows[i]
            if row.request.plan.rows == 1 or len(row.request.rows) > 1:
                continue
            session, at = next((s, s.index.index(i)) for s in self.sessions if i in s.index)
            search = _search_at(session, at)
            if search is None or search.expand() < 2:
                continue
            own = session.select([at])
            for branch in range(1, search.expand()):
                slot = len(self.rows)
                self.runner.copy(i, slot)
                self._parked.pop(slot, None)
                self.history.select([*range(slot), i])
                twin = row.fork(fold(row.request.seed, branch, level=1), self._reader(True))
                row.request.rows.append(twin)
                self.rows.append(twin)
                if self.logits is not None:
                    self.logits = torch.cat([self.logits, self.logits[i : i + 1]])
                copy = own.select([0, 0]).select([1])
                copy.index = [slot]
                self.sessions.append(copy)
            self._regroup()

    def _text_of(self, token: int) -> str:
        if token not in self._texts:
            tokenizer = self.vocab.tokenizer
            self._texts[token] = "" if tokenizer is None else str(tokenizer.decode([token]))
        return self._texts[token]


def _faulty(dist: Dist) -> Tensor:
    """bool [R, 1]: NaN, +inf, or nothing left."""
    return ~torch.isfinite(dist.max_logit)


def _back(order: Sequence[int]) -> list[int]:
    """The permutation that undoes ``order``."""
    return sorted(range(len(order)), key=order.__getitem__)


def _same_measures(session: Session, node: Node) -> tuple[Expression, ...]:
    stage = session.plans[0].nodes[node.index].stage
    assert isinstance(stage, Search)
    return stage.measures()


def _search_at(session: Session, row: int) -> Search | None:
    """The search that row ``row`` is in, on the path it runs now."""
    for pipe, _, _ in session.pipes(row):
        for node in pipe.nodes:
            if isinstance(node.stage, Search):
                return node.stage
    return None


def _with(completion: Completion, **changes: Any) -> Completion:
    from dataclasses import replace

    return replace(completion, **changes)


def _model_error(error: BaseException) -> ModelError:
    made = ModelError(f"the model failed while decoding: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made
