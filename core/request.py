"""A request and the rows it owns while it is being decoded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .completion import Completion, Logprobs, Timings, TokenLogprob, Usage
from .errors import LogitmillError, ModelError, StageError
from .halt import Offsets, Verdict
from .planner import Plan
from .rng import RowNoise
from .session import Fault
from .strategy import Strategy
from .tokens import TokenText
from .trace import StepTrace


@dataclass(frozen=True)
class Ask:
    """Which logprobs to give: how many alternatives of the raw and of the final distribution; None: none."""

    raw: int | None = None
    final: int | None = None


@dataclass(eq=False)
class Request:
    """One prompt under one plan. ``index`` is the caller's number for it."""

    prompt: tuple[int, ...]
    plan: Plan
    strategy: Strategy  # as it was given, patches and all: what the result names
    seed: int
    index: int = 0
    ask: Ask = field(default_factory=Ask)
    trace: bool = False
    echo: str = ""  # what stands before the generated text in the result
    reuse: bool = False  # whether a kept prefix of the cache may serve its prompt
    cancelled: bool = False
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None
    prefill_s: float = 0.0
    reused: int = 0
    rows: list[Row] = field(default_factory=list, repr=False)  # all it ever owned, ended ones included

    def cancel(self) -> None:
        """End it at the next step, with what there is."""
        self.cancelled = True

    @cached_property
    def identity(self) -> tuple[str, str]:
        """(canonical text, hash) of its strategy."""
        return self.strategy.to_text(), self.strategy.hash


@dataclass(eq=False)
class Row:
    """One sequence of a request while it lives in a slot."""

    request: Request
    noise: RowNoise
    reader: TokenText
    text: str = ""  # visible, complete characters only
    sent: int = 0  # characters of text that were streamed
    tokens: list[int] = field(default_factory=list)  # generated
    marks: list[int] = field(default_factory=list)  # length of text after each token
    offsets: Offsets = field(default_factory=dict)
    score: float = 0.0  # sum of raw logprobs, where the plan needs it
    raw: list[tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=list
    )  # (logprob, top values, top ids), left on the device
    final: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    trace: list[StepTrace] = field(default_factory=list)
    verdict: Verdict | None = None
    error: LogitmillError | None = None
    measures: tuple[float, ...] = ()
    began: float = field(default_factory=time.perf_counter)
    first_token: float | None = None
    last_token: float | None = None
    told: int = 0  # tokens that events have named

    @property
    def finish_reason(self) -> str | None:
        return None if self.verdict is None else self.verdict.reason

    def push(self, token: int) -> None:
        """Take in a committed token."""
        now = time.perf_counter()
        self.first_token = self.first_token or now
        self.last_token = now
        self.tokens.append(token)
        self.text += self.reader.push(token)
        self.marks.append(len(self.text))

    def text_from(self, generated: int) -> str:
        """The visible text of the tokens from the n-th generated on."""
        return self.text if generated <= 0 else self.text[self.marks[generated - 1] :]

    def end(self, verdict: Verdict, error: LogitmillError | None = None) -> None:
        """No more tokens: trim what a stop cuts off, and let go what waited for the rest of a character."""
        self.verdict, self.error = verdict, error
        if verdict.cut is not None:  # a criterion that held too little back cannot take back what was streamed
            self.text = self.text[: max(verdict.cut, self.sent)]
        else:
            self.text += self.reader.finish()

    def fail(self, fault: Fault, step: int | None = None) -> None:
        """End it because a stage raised, at the step of its next token or at another."""
        step = len(self.tokens) if step is None else step
        self.end(Verdict("error", None), stage_error(fault, step, self.request.index))

    def fork(self, seed: int, reader: TokenText) -> Row:
        """A copy that goes its own way under another seed."""
        twin = Row(
            self.request, self.noise.clone(seed), reader, self.text, self.sent, list(self.tokens), list(self.marks)
        )
        for token in self.tokens:
            twin.reader.push(token)
        twin.offsets, twin.score = dict(self.offsets), self.score
        twin.raw, twin.final, twin.trace = list(self.raw), list(self.final), list(self.trace)
        twin.began, twin.first_token, twin.last_token = self.began, self.first_token, self.last_token
        return twin

    def completion(self, text_of: Callable[[int], str]) -> Completion:
        """The result of this row."""
        request, verdict = self.request, self.verdict
        assert verdict is not None
        canonical, fingerprint = request.identity
        span = (self.last_token or 0.0) - (self.first_token or 0.0)
        later = len(self.tokens) - 1
        logprobs = None
        if request.ask.raw is not None or request.ask.final is not None:
            logprobs = Logprobs(
                None if request.ask.raw is None else _read(self.raw, self.tokens, text_of),
                None if request.ask.final is None else _read(self.final, self.tokens, text_of),
            )
        return Completion(
            text=request.echo + self.text,
            tokens=tuple(self.tokens),
            finish_reason=verdict.reason,
            criterion=verdict.criterion,
            seed=request.seed,
            strategy=canonical,
            strategy_hash=fingerprint,
            prompt_tokens=request.prompt,
            logprobs=logprobs,
            usage=Usage(len(request.prompt), len(self.tokens), request.reused),
            timings=Timings(
                (request.started or request.submitted) - request.submitted,
                request.prefill_s,
                max(0.0, span),
                later / span if later > 0 and span > 0 else 0.0,
            ),
            error=self.error,
            trace=tuple(self.trace) if request.trace else None,
            score=self.measures[0] if self.measures else None,
        )


def _read(
    kept: list[tuple[Tensor, Tensor, Tensor]], tokens: list[int], text_of: Callable[[int], str]
) -> tuple[TokenLogprob, ...]:
    """Device slices to plain data, in one copy."""
    if not kept:
        return ()
    own = torch.stack([item[0] for item in kept]).tolist()
    values = torch.stack([item[1] for item in kept]).tolist()
    ids = torch.stack([item[2] for item in kept]).tolist()
    return tuple(
        TokenLogprob(
            token, text_of(token), logprob,
            tuple((i, text_of(i), v) for v, i in zip(top, which, strict=True) if v > float("-inf")),
        )
        for token, logprob, top, which in zip(tokens, own, values, ids, strict=False)
    )  # fmt: skip


def stage_error(fault: Fault, step: int, row: int) -> LogitmillError:
    """The error a person reads, with the stage, the step and the row."""
    if isinstance(fault.cause, StageError | ModelError):
        return fault.cause
    error = StageError(str(fault), stage=fault.stage, step=step, row=row)
    error.__cause__ = fault.cause
    return error


def unstarted(request: Request, verdict: Verdict, error: LogitmillError | None) -> Completion:
    """The result of a request that never got a row."""
    canonical, fingerprint = request.identity
    return Completion(
        request.echo, (), verdict.reason, verdict.criterion, request.seed, canonical, fingerprint,
        request.prompt, usage=Usage(len(request.prompt)), error=error,
    )  # fmt: skip
