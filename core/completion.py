"""What comes out of a request: Completion and its parts, and the events of a stream."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import LogitmillError

if TYPE_CHECKING:
    from .halt import Reason
    from .trace import StepTrace


@dataclass(frozen=True)
class Usage:
    """Tokens. ``reused_tokens``: how much of the prompt was in the cache already."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Timings:
    """Seconds. ``tokens_per_second`` counts the generated tokens after the first over the time of decoding them."""

    queued_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class TokenLogprob:
    """A generated token's log-probability in nats, and the most likely tokens at its place: (token, text, logprob)."""

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Logprobs:
    """``raw``: of the model's own distribution. ``final``: of the law the token was drawn from.

    None where not asked for.
    """

    raw: tuple[TokenLogprob, ...] | None = None
    final: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """The result of one request."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: Reason
    criterion: str | None  # the stopping criterion that fired
    seed: int
    strategy: str  # canonical text
    strategy_hash: str
    prompt_tokens: tuple[int, ...] = ()
    logprobs: Logprobs | None = None
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    error: LogitmillError | None = None
    trace: tuple[StepTrace, ...] | None = None
    candidates: tuple[Completion, ...] = ()  # all finished rows of a search, best first
    score: float | None = None  # what a search ranked it by

    def raise_for_error(self) -> Completion:
        """Itself, or its error raised."""
        if self.error is not None:
            raise self.error
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``logitmill run --json`` prints it."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "finish_reason": self.finish_reason,
            "criterion": self.criterion,
            "seed": self.seed,
            "usage": asdict(self.usage),
            "timings": asdict(self.timings),
            "logprobs": None if self.logprobs is None else asdict(self.logprobs),
            "strategy": self.strategy,
            "strategy_hash": self.strategy_hash,
            "error": None if self.error is None else str(self.error),
            "score": self.score if self.score is not None and math.isfinite(self.score) else None,  # as JSON can hold
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "trace": None if self.trace is None else [step.to_dict() for step in self.trace],
        }

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 70 else f"{self.text[:67]}..."
        parts = [repr(shown), f"{len(self.tokens)} tokens", f"finish_reason={self.finish_reason!r}"]
        if self.criterion:
            parts.append(f"criterion={self.criterion!r}")
        parts.append(f"seed={self.seed}")
        if self.timings.tokens_per_second:
            parts.append(f"{self.timings.tokens_per_second:.1f} tokens/s")
        if self.error is not None:
            parts.append(f"error={str(self.error)!r}")
        return f"Completion({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """For notebooks: the text, and below it what a reader of results wants to know."""
        facts = [
            f"{len(self.tokens)} tokens",
            self.finish_reason + (f" ({self.criterion})" if self.criterion else ""),
            f"seed {self.seed}",
        ]
        if self.timings.tokens_per_second:
            facts.append(f"{self.timings.tokens_per_second:.1f} tokens/s")
        body = "".join(self._marked()) or html.escape(self.text)
        fault = ""
        if self.error is not None:
            fault = f'<div style="color:#b00020;margin-top:.5em">{html.escape(str(self.error))}</div>'
        return (
            '<div style="border-left:3px solid #8884;padding:.4em .9em;max-width:60em">'
            f'<div style="white-space:pre-wrap;line-height:1.5">{body}</div>{fault}'
            f'<div style="opacity:.65;font-size:.85em;margin-top:.6em">{html.escape(" · ".join(facts))}</div>'
            f'<div style="opacity:.65;font-size:.85em;font-family:monospace">{html.escape(self.strategy)} '
            f'<span title="SHA-256 of the strategy\'s canonical form">#{self.strategy_hash[:12]}</span></div></div>'
        )

    def _marked(self) -> Sequence[str]:
        """Each token's text, marked the more the less likely the model found it, where raw logprobs were asked for."""
        if self.logprobs is None or self.logprobs.raw is None:
            return ()
        marked = []
        for item in self.logprobs.raw:
            doubt = min(1.0, -item.logprob / 6.0)
            title = f"token {item.token}, raw logprob {item.logprob:.3f}"
            ground = f"background:rgba(255,140,0,{doubt * 0.45:.2f})"
            marked.append(f'<span title="{title}" style="{ground}">{html.escape(item.text)}</span>')
        return marked


@dataclass(frozen=True)
class Event:
    """One step of a stream. ``text`` is never half a character and never part of a stop string; it may be empty."""

    text: str
    token: int | None = None
    index: int = 0  # which request of the call
    step: int = 0
    finish_reason: Reason | None = None  # set in the last event
    completion: Completion | None = None  # set in the last event
