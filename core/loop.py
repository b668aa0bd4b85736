"""The loop: continuous batching over a runner, with one host read a step.

A step admits what fits, turns the batch's logits into one token a row (core.step), reads tokens and stop flags in one
transfer, and decodes the next logits. With ``lookahead`` (a GPU) that decode is under way before the read, and what a
row that has ended computed in vain is dropped; on a CPU nothing would be gained.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from .batch import CHUNK, Batch
from .completion import Completion, Event
from .context import Context
from .dist import Dist
from .errors import LogitmillError, ModelError, RequestError
from .halt import Halt, LateContext, Verdict
from .request import Request, Row, stage_error, unstarted
from .session import Fault, Proposal, Session
from .stage import Search
from .step import CHOSEN, FLAGS, LAW_TOP, LOGPROB, PICKED, RAW_TOP, Drawn, draw, numerical_fault
from .trace import Wanted, traced

if TYPE_CHECKING:
    from .model.runner import Runner
    from .tokens import TokenText
    from .vocab import Vocab

# What a model's forward may raise: CUDA's and the allocators' errors are RuntimeErrors.
_MODEL_FAILURES = (RuntimeError, MemoryError)


@dataclass(frozen=True)
class StepEvent:
    """What observers are told after each step: (request, its row, token) of every token committed."""

    step: int
    tokens: tuple[tuple[Request, int, int], ...]


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
        self.lookahead = runner.device.type == "cuda" if lookahead is None else lookahead
        self.batch = Batch(runner, vocab, reader, alone=batch_invariant)
        self.halt = Halt()
        self.queue: deque[Request] = deque()
        self.steps = 0
        self.served = False  # whether a thread of core.serving drives it
        self._texts: dict[int, str] = {}

    def submit(self, request: Request) -> None:
        """Queue a request."""
        self.queue.append(request)
        self.notify("on_request", request)

    @property
    def busy(self) -> bool:
        return bool(self.queue or len(self.batch))

    def abandon(self) -> None:
        """Forget everything in flight."""
        self.queue.clear()
        self.batch.clear()

    def step(self) -> list[Event]:
        """Admit what fits, and give every row one token. Returns what became known."""
        events = [*self._cancel(), *self._admit()]
        if not len(self.batch):
            return events
        try:
            drawn = draw(self.batch, self.halt)
            if self.lookahead and not self.batch.full:
                self.batch.logits = self.runner.decode(drawn.tokens, len(self.batch))
                events += self._read(drawn)
            else:
                events += self._read(drawn)
                if len(self.batch):
                    self.batch.logits = self.runner.decode(drawn.tokens, len(self.batch))
            self.batch.fork()
        except _MODEL_FAILURES as error:
            events += self._lost(error)
        self.steps += 1
        return events

    # -- admission -----------------------------------------------------------------------------------------------------

    def _admit(self) -> list[Event]:
        """Who fits joins. While rows are decoding they wait for a chunk of prompts a step at most; a longer prompt is
        prefilled between their steps, and who queues behind it waits, too.
        """
        events: list[Event] = []
        left = CHUNK if len(self.batch) else math.inf
        while self.queue and left > 0:
            request = self.queue[0]
            problem = self._misfit(request)
            if problem is None and self.batch.reserved + request.plan.rows > self.runner.rows:
                break
            self.queue.popleft()
            left -= len(request.prompt)
            try:
                if problem is not None:
                    raise problem
                if request not in self.batch.ahead:
                    self.batch.prefill_together(self._company(request, left))
                if not self._joins(request, alone=math.isinf(left)):
                    self.queue.appendleft(request)
                    break
            except Fault as fault:
                events.append(self._refuse(request, stage_error(fault, 0, request.index)))
            except LogitmillError as error:
                events.append(self._refuse(request, error))
            except _MODEL_FAILURES as error:
                events.append(self._refuse(request, _model_error(error)))
            else:
                try:
                    self.batch.fork()
                except _MODEL_FAILURES as error:
                    events += self._end(request.rows, Verdict("error", None), _model_error(error))
        self.batch.ahead.clear()
        return events

    def _company(self, first: Request, left: float) -> list[Request]:
        """``first`` and those behind it in the queue that join in this step and can be prefilled in one pass with it:
        each of one row, with a prompt that nothing is kept of, a chunk of tokens in all at most.
        """
        room = self.runner.rows - self.batch.reserved
        tokens, company = 0.0, list[Request]()
        left += len(first.prompt)  # it has been taken off already
        for request in (first, *self.queue):
            tokens += len(request.prompt)
            fits = request.plan.rows == 1 and not request.reuse and not request.cancelled
            if not fits or tokens > min(left, CHUNK) or len(company) == room or self._misfit(request) is not None:
                break
            company.append(request)
        return company if self.batch.filling is None else []

    def _joins(self, request: Request, *, alone: bool) -> bool:
        """Whether a request is in the batch now; with rows that wait for it (not ``alone``) it may take more steps."""
        if not self.batch.begun(request) and (alone or len(request.prompt) <= CHUNK):
            self.batch.start(request)
            return True
        while not self.batch.start_in_chunks(request):
            if not alone:
                return False
        return True

    def _misfit(self, request: Request) -> RequestError | None:
        """Why a request can never run here, or None."""
        rows, length = self.runner.rows, self.runner.max_length
        if request.plan.rows > rows:
            return RequestError(
                f"the strategy needs {request.plan.rows} rows at a time, the engine has {rows}: "
                f"load the model with max_rows={request.plan.rows}"
            )
        if len(request.prompt) >= length:
            return RequestError(
                f"the prompt has {len(request.prompt)} tokens, and a row holds {length} with the answer: "
                "shorten it, or load the model with a larger max_length where the model allows it"
            )
        return None

    # -- the host's read -----------------------------------------------------------------------------------------------

    def _read(self, drawn: Drawn) -> list[Event]:
        """The one transfer of the step, and everything that follows from it on the host."""
        batch = self.batch
        packed = drawn.packed.tolist()
        last = drawn.raw.columns - 1
        tokens = [min(max(int(line[PICKED]), 0), last) for line in packed]
        batch.history.note(tokens)
        measures = {i: values for slots, part in drawn.measures for i, values in zip(slots, part.tolist(), strict=True)}
        committed = []
        for session, proposal in drawn.sessions:
            traces: list[Wanted] = []
            for at, i in enumerate(session.index):
                row, line = batch.rows[i], packed[i]
                if row.verdict is not None:
                    continue
                of_model = not math.isfinite(line[RAW_TOP])
                if of_model or not (math.isfinite(line[LAW_TOP]) and line[CHOSEN] > -math.inf):
                    numerical_fault(batch, i, at, proposal, drawn.raw, from_model=of_model)
                    continue
                row.score += line[LOGPROB]
                row.measures = tuple(measures.get(i, ()))
                row.push(tokens[i])
                committed.append((row.request, row.request.rows.index(row), tokens[i]))
                if row.request.trace:
                    traces.append(Wanted(at, len(row.tokens) - 1, batch.history.host_lengths[i] - 1, tokens[i]))
                self._judge(session, at, i, line[FLAGS:], drawn.raw)
            if traces:
                self._trace(session, proposal, drawn, traces)
        self.notify("on_step", StepEvent(self.steps, tuple(committed)))
        events = self._emit()
        drawn.tokens = batch.drop_ended(drawn.tokens)
        if any(row.request.plan.rows > 1 for row in batch.rows):
            drawn.tokens = batch.advance(drawn.tokens)
        return events

    def _trace(self, session: Session, proposal: Proposal, drawn: Drawn, wanted: Sequence[Wanted]) -> None:
        """Give the rows of a session that are traced the account of this step."""
        raw, tokens = drawn.raw, drawn.tokens
        if session.index != list(range(raw.rows)):
            raw, tokens = raw.select(session.index), tokens[session.index]
        for one, account in zip(wanted, traced(proposal, raw, tokens, wanted, self._text_of), strict=True):
            self.batch.rows[session.index[one.row]].trace.append(account)

    def _judge(self, session: Session, at: int, i: int, flags: Sequence[float], raw: Dist) -> None:
        """Whether a row ends, now that its token is known."""
        batch = self.batch
        row = batch.rows[i]

        def text(slot: int, start: int) -> str:
            return batch.rows[slot].text_from(start - batch.history.prompt_sizes[slot])

        def context(slot: int) -> Context:
            return LateContext(lambda: batch.context(raw.select(slice(slot, slot + 1)), [slot]))

        try:
            verdict = self.halt.verdict(session, at, flags, batch.history, context, text, row.offsets, self.vocab)
        except Exception as error:  # a stranger's criterion may raise anything: its row ends, the loop does not
            row.fail(error if isinstance(error, Fault) else Fault("until", error), len(row.tokens) - 1)
            return
        if verdict is None and batch.history.host_lengths[i] >= self.runner.max_length:
            verdict = Verdict("length", "cache")
        if verdict is not None:
            row.end(verdict)

    # -- what comes out ------------------------------------------------------------------------------------------------

    def _emit(self) -> list[Event]:
        """What may be shown of each row, and the results of requests whose rows have all ended."""
        events = []
        where = {i: (session, at) for session in self.batch.sessions for at, i in enumerate(session.index)}
        finished: set[Request] = set()
        for i, row in enumerate(self.batch.rows):
            request = row.request
            # A search shows its best when it knows it; a row between two steps has nothing new.
            if row.verdict is None and request.plan.rows == 1 and len(row.tokens) > row.told:
                try:
                    piece = self._ready(i, row, *where[i])
                except Exception as error:  # a stranger's criterion may raise anything
                    row.fail(error if isinstance(error, Fault) else Fault("until", error), len(row.tokens) - 1)
                else:
                    row.told = len(row.tokens)
                    events.append(Event(piece, row.tokens[-1], request.index, row.told - 1))
            if row.verdict is None or request in finished:
                continue
            if all(other.verdict is not None for other in request.rows):
                finished.add(request)
                completion = self._completed(request)
                self.notify("on_finish", completion)
                rest = completion.text[len(request.echo) + row.sent :]
                last = completion.tokens[-1] if len(completion.tokens) > row.told else None
                step = max(0, len(completion.tokens) - 1)
                events.append(Event(rest, last, request.index, step, completion.finish_reason, completion))
        return events

    def _ready(self, i: int, row: Row, session: Session, at: int) -> str:
        """The text that no stop test can take back, as far as it was not shown yet."""
        size = self.batch.history.prompt_sizes[i]
        held = self.halt.held(session, at, lambda start: row.text_from(start - size))
        ready = max(row.sent, len(row.text) - held)
        piece, row.sent = row.text[row.sent : ready], ready
        return piece

    def _completed(self, request: Request) -> Completion:
        """The result of a request: its one row's, or the best of its search's."""
        results = [row.completion(self._text_of) for row in request.rows]
        searches = [node.stage for node in request.plan.nodes if isinstance(node.stage, Search)]
        if len(results) == 1 or not searches:
            return results[0]
        try:
            order = searches[-1].finish(list(request.rows))
            if sorted(order) != list(range(len(results))):
                raise ValueError(f"finish returned {order}, which is no order of {len(results)} rows")
        except Exception as error:  # a stranger's search may raise anything
            fault = Fault(searches[-1].stage_name, error)
            failed = stage_error(fault, len(results[0].tokens), request.index)
            return replace(results[0], finish_reason="error", error=failed, candidates=tuple(results))
        ranked = tuple(results[i] for i in order)
        return replace(ranked[0], candidates=ranked)

    def _refuse(self, request: Request, error: LogitmillError | None, reason: Any = "error") -> Event:
        completion = unstarted(request, Verdict(reason, None), error)
        self.notify("on_finish", completion)
        return Event("", None, request.index, 0, reason, completion)

    def _lost(self, error: BaseException) -> list[Event]:
        """The model itself failed: every row ends with what it has."""
        for row in self.batch.rows:
            if row.verdict is None:
                row.end(Verdict("error", None), _model_error(error))
        events = self._emit()
        self.batch.clear()
        return events

    def _cancel(self) -> list[Event]:
        events = []
        for request in [request for request in self.queue if request.cancelled]:
            self.queue.remove(request)
            events.append(self._refuse(request, None, "cancelled"))
        cancelled = [row for row in self.batch.rows if row.request.cancelled]
        return events + (self._end(cancelled, Verdict("cancelled", None)) if cancelled else [])

    def _end(self, rows: Sequence[Row], verdict: Verdict, error: LogitmillError | None = None) -> list[Event]:
        """Rows end between two steps, with what they have."""
        for row in rows:
            if row.verdict is None:
                row.end(verdict, error)
        events = [event for event in self._emit() if event.completion is not None]
        self.batch.drop_ended(torch.zeros(len(self.batch), 1, dtype=torch.int64, device=self.runner.device))
        return events

    def _text_of(self, token: int) -> str:
        if token not in self._texts:
            tokenizer = self.vocab.tokenizer
            self._texts[token] = "" if tokenizer is None else str(tokenizer.decode([token]))
        return self._texts[token]


def _model_error(error: BaseException) -> ModelError:
    made = ModelError(f"the model failed while decoding: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made
