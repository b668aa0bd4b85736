"""The batch: rows compact in slots 0 ..

n-1 of the runner and of the history, joined at the end, moved when one leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .context import Context
from .dist import Dist
from .history import History
from .request import Ask, Request, Row
from .rng import Noise, RowNoise, fold
from .session import Fault, Session
from .stage import Search
from .transfer import index_on, to_device

if TYPE_CHECKING:
    from .model.runner import Runner
    from .tokens import TokenText
    from .vocab import Vocab

CHUNK = 512
"""Tokens of prompts that are prefilled in a step while other rows decode."""


@dataclass
class Filling:
    """A request whose prompt is being prefilled into a slot, of which ``kept`` positions were there."""

    request: Request
    slot: int
    kept: int
    started: float
    pieces: Iterator[Tensor | None] = field(default_factory=lambda: iter(()))


class Batch:
    """The rows in flight, their sessions, and the logits of their next step."""

    def __init__(
        self, runner: Runner, vocab: Vocab, reader: Callable[[bool], TokenText], *, alone: bool = False
    ) -> None:
        self.runner, self.vocab, self._reader = runner, vocab, reader
        self.alone = alone  # each row runs its pipeline by itself: see batch_invariant
        self.history = History(runner.vocab_size, runner.device, lambda: reader(False))
        self.rows: list[Row] = []
        self.sessions: list[Session] = []
        self.logits: Tensor | None = None  # float32 [n, V]
        self.filling: Filling | None = None  # a long prompt on its way into a slot
        self.ahead: dict[Request, tuple[Filling, Tensor]] = {}  # prefilled in one pass, about to start
        self.prepared: dict[Any, Any] = {}
        self.needs: frozenset[str] = frozenset()  # of any row's plan
        self.asked = False  # whether any row wants logprobs
        self.zeros = torch.zeros(0, 1, dtype=torch.float64, device=runner.device)  # [n, 1]
        self._parked: dict[int, list[int]] = {}  # idle slot -> the tokens its cache still holds

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def reserved(self) -> int:
        """Slots spoken for: a request whose search will need several has them from the start."""
        return sum(request.plan.rows for request in {row.request for row in self.rows})

    @property
    def full(self) -> bool:
        """Whether some row's slot has no room for another token."""
        return max(self.history.host_lengths) >= self.runner.max_length

    def context(self, raw: Dist, index: Sequence[int]) -> Context:
        """The context of some rows, by slot."""
        now = time.perf_counter()
        rows = [self.rows[i] for i in index]
        return Context(
            self.history,
            self.vocab,
            raw,
            Noise([row.noise for row in rows], [self.history.host_lengths[i] for i in index], self.runner.device),
            index=index,
            scores=self._scores(rows),
            elapsed=[now - row.request.submitted for row in rows],
            prepared=self.prepared,
        )

    def _scores(self, rows: Sequence[Row]) -> Tensor:
        """float64 [R, 1]; 0 where no plan in the batch asks for them, and so nobody has added them up."""
        if "scores" not in self.needs:
            return self.zeros if len(rows) == len(self.zeros) else self.zeros.new_zeros(len(rows), 1)
        return to_device([[row.score] for row in rows], torch.float64, self.runner.device)

    # -- rows come -----------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> None:
        """Prefill a request into the next slot.

        Raises what the runner or a stage's ``init`` raises, and leaves no trace then.
        """
        self.filling = None
        ahead = self.ahead.pop(request, None)
        if ahead is not None:
            filling, logits = ahead
            if filling.slot != len(self.rows):  # one before it could not join
                self.runner.copy(filling.slot, len(self.rows))
        else:
            filling = self._prepared(request, len(self.rows))
            logits = self.runner.prefill(filling.slot, request.prompt, start=filling.kept)
        self._join(filling, logits)

    def prefill_together(self, requests: Sequence[Request]) -> None:
        """Prefill what will ``start`` next in one pass, in the slots that they will have, where the runner gains by it.

        Each owns one row, and none wants what a slot still holds.
        """
        if len(requests) < 2 or self.alone or not hasattr(type(self.runner), "prefill_many"):
            return  # a runner around another, which hands on what it does not know, wants to see each prompt
        begun, first = time.perf_counter(), len(self.rows)
        try:
            logits = self.runner.prefill_many(first, [request.prompt for request in requests])
        except (RuntimeError, MemoryError):  # of all of them, maybe: who it is turns out when each is tried by itself
            return
        if logits is None:
            return
        for i, request in enumerate(requests):
            request.started = begun
            self._parked.pop(first + i, None)
            self.ahead[request] = Filling(request, first + i, 0, begun), logits[i : i + 1]

    def start_in_chunks(self, request: Request) -> bool:
        """``start``, one chunk of the prompt a call. Whether the request has joined; what is begun for another is
        dropped.

        It fills a slot that no row in flight will want, whatever forks, and moves where rows have left meanwhile.
        """
        filling = self.filling
        if filling is None or filling.request is not request:
            filling = self.filling = self._prepared(request, self.reserved)
            filling.pieces = self._pieces(filling)
        try:
            logits = next(filling.pieces)
            if logits is None:
                return False
            if filling.slot != len(self.rows):
                self.runner.copy(filling.slot, len(self.rows))
                self._parked.pop(len(self.rows), None)
        except BaseException:
            self.filling = None
            raise
        self.filling = None
        self._join(filling, logits)
        return True

    def _pieces(self, filling: Filling) -> Iterator[Tensor | None]:
        """Chunk by chunk, or at once with a runner that knows no chunks."""
        slot, prompt, kept = filling.slot, filling.request.prompt, filling.kept
        if hasattr(self.runner, "prefill_in_chunks"):
            return self.runner.prefill_in_chunks(slot, prompt, kept, CHUNK)
        return iter([self.runner.prefill(slot, prompt, start=kept)])

    def begun(self, request: Request) -> bool:
        """Whether some of a request's prompt has been prefilled."""
        return self.filling is not None and self.filling.request is request

    def _prepared(self, request: Request, slot: int) -> Filling:
        request.started = started = time.perf_counter()
        kept = self._kept(slot, request) if request.reuse and not self.alone else 0
        self._parked.pop(slot, None)
        return Filling(request, slot, kept, started)

    def _join(self, filling: Filling, logits: Tensor) -> None:
        """A request whose prompt lies in the next slot becomes a row."""
        request, slot = filling.request, len(self.rows)
        row = Row(request, RowNoise(request.seed), self._reader(True))
        self.history.join(request.prompt)
        self.rows.append(row)
        try:
            session = Session.opened(request.plan, self.context(Dist(logits), [slot]))
        except BaseException:
            self.rows.pop()
            self.history.select(range(slot))
            raise
        request.reused, request.prefill_s = filling.kept, time.perf_counter() - filling.started
        request.rows.append(row)
        self._add(session, logits)
        self.regroup()

    def _add(self, session: Session, logits: Tensor) -> None:
        self.logits = logits if self.logits is None else torch.cat([self.logits, logits])
        self.sessions.append(session)

    def _kept(self, slot: int, request: Request) -> int:
        """How much of the prompt an idle slot still holds; ``slot``'s cache is made to hold it."""
        best, source = 0, slot
        for idle, tokens in self._parked.items():
            same = _common(tokens, request.prompt[:-1])
            if same > best:
                best, source = same, idle
        if best and source != slot:
            self.runner.copy(source, slot)
        return best

    def fork(self) -> None:
        """Rows whose search has just begun become as many as it wants."""
        for i in range(len(self.rows)):
            request = self.rows[i].request
            if request.plan.rows == 1 or len(request.rows) > 1:
                continue
            session, at = next((s, s.index.index(i)) for s in self.sessions if i in s.index)
            search = _search(session, at)
            if search is not None and search.expand() > 1:
                self._branch(i, session, at, search.expand())

    def _branch(self, i: int, session: Session, at: int, count: int) -> None:
        row, logits = self.rows[i], self.logits
        assert logits is not None
        for branch in range(1, count):
            slot = len(self.rows)
            self.runner.copy(i, slot)
            self._parked.pop(slot, None)
            self.history.select([*range(slot), i])
            twin = row.fork(fold(row.request.seed, branch, level=1), self._reader(True))
            row.request.rows.append(twin)
            self.rows.append(twin)
            copy = session.select([at, at]).select([1])  # the second of two, so that host objects are its own
            copy.index = [slot]
            self._add(copy, logits[i : i + 1])
        self.regroup()

    def advance(self, tokens: Tensor) -> Tensor:
        """Searches may let rows go on from other rows of their request.

        Returns ``tokens`` (int64 [n, 1]) as they follow.
        """
        parents = list(range(len(self.rows)))
        for request in {row.request for row in self.rows if len(row.request.rows) > 1}:
            slots = [i for i, row in enumerate(self.rows) if row.request is request]
            session, at = next((s, s.index.index(slots[0])) for s in self.sessions if slots[0] in s.index)
            search = _search(session, at)
            if search is None:
                continue
            try:
                wanted = search.advance([self.rows[i] for i in slots])
                if wanted is None:
                    continue
                if len(wanted) != len(slots) or not all(0 <= j < len(slots) for j in wanted):
                    raise ValueError(f"advance returned {wanted}, which names no parent for each of {len(slots)} rows")
            except Exception as error:  # a stranger's search may raise anything: its request ends, the loop does not
                for i in slots:
                    self.rows[i].fail(Fault(search.stage_name, error))
                continue
            for slot, j in zip(slots, wanted, strict=True):
                parents[slot] = slots[j]
        return tokens if parents == list(range(len(parents))) else self._follow(parents, tokens)

    def _follow(self, parents: list[int], tokens: Tensor) -> Tensor:
        """Row i goes on from row parents[i], under its own seed."""
        where = {i: session.select([at]) for session in self.sessions for at, i in enumerate(session.index)}
        rows, sessions = [], []
        for i, parent in enumerate(parents):
            row, session = self.rows[i], where[parent]
            if i != parent:
                owner = row.request
                twin = self.rows[parent].fork(row.noise.seed, self._reader(True))
                owner.rows[owner.rows.index(row)] = twin
                row, session = twin, session.select([0, 0]).select([1])
            session.index = [i]
            rows.append(row)
            sessions.append(session)
        index = index_on(self.runner.device, parents)
        self.runner.select(parents)
        self.history.select(parents)
        self.rows, self.sessions = rows, sessions
        if self.logits is not None:
            self.logits = self.logits[index]
        self.regroup()
        return tokens[index]

    # -- rows go -------------------------------------------------------------------------------------------------------

    def drop_ended(self, tokens: Tensor) -> Tensor:
        """Ended rows leave, and the last ones move into their places.

        ``tokens`` (int64 [n, 1]) is returned for who stays.
        """
        stay = [i for i, row in enumerate(self.rows) if row.verdict is None]
        if len(stay) == len(self.rows):
            return tokens
        late = [i for i in stay if i >= len(stay)]
        kept = set(stay)
        parents = [i if i in kept else late.pop() for i in range(len(stay))]
        self._park(len(stay))
        if parents:
            self.runner.select(parents)
        place = {old: new for new, old in enumerate(parents)}
        self.history.select(parents)
        self.rows = [self.rows[i] for i in parents]
        index = index_on(self.runner.device, parents)
        if self.logits is not None:
            self.logits = self.logits[index] if parents else None
        sessions = []
        for session in self.sessions:
            alive = [at for at, i in enumerate(session.index) if i in place]
            if alive:
                left = session if len(alive) == session.rows else session.select(alive)
                left.index = [place[i] for i in left.index]
                sessions.append(left)
        self.sessions = sessions
        self.regroup()
        return tokens[index]

    def _park(self, count: int) -> None:
        """Slots that fall idle keep their cache. A row's last token was never decoded, so it ends before that."""
        for slot in range(count, len(self.rows)):
            self._parked[slot] = self.history.host[slot][
                : min(self.history.host_lengths[slot] - 1, self.runner.lengths[slot])
            ]

    def clear(self) -> None:
        """Forget every row, and whatever caches still hold."""
        self.history.select([])
        self.rows, self.sessions, self.logits, self._parked, self.filling = [], [], None, {}, None
        self.ahead.clear()

    def regroup(self) -> None:
        """Sessions of one shape become one, its rows in the order of their slots, unless each row runs by itself."""
        self.needs = frozenset().union(*(row.request.plan.needs for row in self.rows))
        self.asked = any(row.request.ask != Ask() for row in self.rows)
        self.zeros = torch.zeros(len(self.rows), 1, dtype=torch.float64, device=self.runner.device)
        if self.alone:
            self.sessions = [session.select([i]) for session in self.sessions for i in range(session.rows)]
            return
        groups: dict[Any, list[Session]] = {}
        for session in self.sessions:
            groups.setdefault(session.plans[0].shape, []).append(session)
        self.sessions = [_ordered(Session.joined(group)) for group in groups.values()]


def _ordered(session: Session) -> Session:
    """The same rows by slot: a session that is the whole batch in its order needs no indexing."""
    order = sorted(range(session.rows), key=session.index.__getitem__)
    return session if order == list(range(session.rows)) else session.select(order)


def _common(held: Sequence[int], wanted: Sequence[int]) -> int:
    """The length of the common prefix."""
    for n, (a, b) in enumerate(zip(held, wanted, strict=False)):
        if a != b:
            return n
    return min(len(held), len(wanted))


def _search(session: Session, row: int) -> Search | None:
    """The search that a row is in, on the path it runs now."""
    for pipe, _, _ in session.pipes(row):
        for node in pipe.nodes:
            if isinstance(node.stage, Search):
                return node.stage
    return None
