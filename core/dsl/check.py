"""Warnings: what is legal and probably not what was meant. Each has a code by which it can be silenced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Span, Where
from ..expression import Comparison, Constant, Read
from ..stage import Combinator, LogitsProcessor, Search, Stage, StoppingCriterion
from ..strategy import AllOf, AnyOf, Not, Step, Strategy, Test
from . import render

#: code -> what it warns of, and why it matters
CODES = {
    "cut-after-temperature": (
        "A min_p or top_p behind a temperature cuts the distribution that the temperature made. Above 1 that lets in "
        "tokens the model itself finds unlikely; llama.cpp, for one, cuts first."
    ),
    "before-greedy": (
        "Greedy takes the most likely token. A temperature or a truncation ahead of it keeps that token the most "
        "likely, so it changes nothing."
    ),
    "removes-nothing": "A truncation whose argument turns it off, or which an earlier one has already done.",
    "stop-is-eos": (
        "A stop string that is an end-of-sequence token: 'eos' ends the row there already, and its text is not shown."
    ),
    "no-bound": (
        "Nothing bounds the length: a row that never meets its stop test runs until the cache or the model ends."
    ),
    "mirostat-after-cut": (
        "Mirostat steers the surprise of what it draws by truncating itself; behind another truncation it cannot reach "
        "its target."
    ),
}

_CUTS = ("min_p", "top_p")
_TEMPERATURES = ("temperature", "dynamic_temperature")
_EOS_TEXTS = frozenset(
    "</s> <eos> <|end|> <|endoftext|> <|end_of_text|> <|im_end|> <|eot_id|> <|eom_id|> <end_of_turn> <|return|>".split()
)


@dataclass(frozen=True)
class Warning:  # noqa: A001  # the language's warnings, not Python's
    """One thing to look at. ``where`` is a Span or Path, None for a strategy built in Python."""

    code: str
    message: str
    where: Where | None = None
    hint: str = ""

    def __str__(self) -> str:
        head = f"warning: {self.message} [{self.code}]"
        if isinstance(self.where, Span):
            return f"{head}\n{self.where.excerpt(self.hint)}"
        at = f"\n  at {self.where.text}" if self.where is not None else ""
        return head + at + (f"\n  {self.hint}" if self.hint else "")


def warnings(strategy: Strategy, ignore: Sequence[str] = (), *, eos: Sequence[str] = ()) -> list[Warning]:
    """All warnings but those whose code is in ``ignore``, in the order of the text.

    ``eos``: the texts of the tokenizer's end-of-sequence tokens; without them the well-known ones are looked for.
    Raises ValueError for a code that is none.
    """
    unknown = sorted(set(ignore) - CODES.keys())
    if unknown:
        raise ValueError(f"no warning has the code {unknown[0]!r}; there are {', '.join(CODES)}")
    found = [*_pipeline(strategy, ()), *_tests(strategy, frozenset(eos) or _EOS_TEXTS)]
    if strategy.complete and not _bounded(strategy):
        found.append(_warn("no-bound", "nothing bounds the length", _end(strategy), _bound_hint(strategy)))
    found.sort(key=lambda item: item.where.start if isinstance(item.where, Span) else 0)
    return [item for item in found if item.code not in ignore]


def _warn(code: str, message: str, where: Where | None, hint: str) -> Warning:
    return Warning(code, message, where, hint)


def _bound_hint(strategy: Strategy) -> str:
    return "add 'until eos or max_tokens(512)'" if strategy.stop is None else "add 'or max_tokens(512)' to its until"


def _end(strategy: Strategy) -> Where | None:
    last = strategy.pipeline[-1].where if strategy.pipeline else None
    return last or strategy.where


# pipelines


def _pipeline(strategy: Strategy, outer: tuple[Stage, ...]) -> Iterator[Warning]:
    """Warnings of one pipeline; ``outer`` ran before it on its way here."""
    before: list[Stage] = list(outer)
    for position, step in enumerate(strategy.pipeline):
        stage = step.stage
        ahead = [item.stage for item in strategy.pipeline[:position]]
        yield from _order(step, before)
        yield from _useless(step, ahead)
        if stage.stage_name == "greedy":
            yield from _before_greedy(strategy.pipeline[:position])
        before.append(stage)
        if isinstance(stage, Combinator | Search):
            for block in stage.children():
                yield from _pipeline(block, tuple(before))
            before.extend(inner.stage for block in stage.children() for inner in block.steps())


def _order(step: Step, before: Sequence[Stage]) -> Iterator[Warning]:
    stage = step.stage
    heat = next((s for s in before if s.stage_name in _TEMPERATURES and not s.is_identity()), None)
    if heat is not None and stage.stage_name in _CUTS and not stage.is_identity():
        message = f"'{stage.stage_name}' cuts what '{heat.stage_name}' has changed"
        yield _warn(
            "cut-after-temperature",
            message,
            step.where,
            f"to cut the model's own distribution, put it before '{heat.stage_name}'",
        )
    cut = next((s for s in before if _is_cut(s)), None)
    if stage.stage_name == "mirostat" and cut is not None:
        message = f"mirostat behind the truncation '{cut.stage_name}'"
        yield _warn("mirostat-after-cut", message, step.where, "mirostat truncates by itself: take the other away")


def _is_cut(stage: Stage) -> bool:
    """A truncation by rank or probability that does something."""
    return isinstance(stage, LogitsProcessor) and stage.masks_only and stage.monotone and not stage.is_identity()


def _useless(step: Step, ahead: Sequence[Stage]) -> Iterator[Warning]:
    """A truncation that is off, or that a like one has done on the same logits."""
    stage = step.stage
    if not isinstance(stage, LogitsProcessor) or not stage.masks_only:
        return
    name = stage.stage_name
    if stage.is_identity():
        yield _warn(
            "removes-nothing", f"'{name}' is off at this value", step.where, "take it away, or give it another value"
        )
        return
    for earlier in reversed(ahead):
        if not isinstance(earlier, LogitsProcessor) or not (earlier.masks_only or earlier.monotone):
            return
        if earlier.stage_name == name and _done(stage, earlier):
            yield _warn(
                "removes-nothing", f"an earlier '{name}' has removed what this one would", step.where, "take one away"
            )
            return
        if not earlier.masks_only and name != "top_k":  # changed probabilities; ranks are the same
            return


def _done(stage: Any, earlier: Any) -> bool:
    """Whether ``earlier`` leaves nothing to its like: a smaller k, a higher threshold."""
    field = {"top_k": "k", "min_p": "p"}.get(stage.stage_name)
    if field is None:
        return bool(stage == earlier) and stage.stage_name in ("ban", "allow", "top_n_sigma")
    now, then = getattr(stage, field), getattr(earlier, field)
    if not isinstance(now, int | float) or not isinstance(then, int | float):
        return False
    return 0 < then <= now if field == "k" else then >= now


def _before_greedy(steps: Sequence[Step]) -> Iterator[Warning]:
    for step in reversed(steps):
        stage = step.stage
        if not isinstance(stage, LogitsProcessor) or not stage.monotone:
            return
        if not stage.is_identity():
            yield _warn(
                "before-greedy",
                f"'{stage.stage_name}' changes nothing ahead of greedy",
                step.where,
                "take it away, or draw with 'sample'",
            )


# stop tests


def _tests(strategy: Strategy, eos: frozenset[str]) -> Iterator[Warning]:
    if isinstance(strategy.stop, AnyOf) and not isinstance(strategy.stop, AllOf | Not):
        tests: Any = strategy.stop.tests
        if any(getattr(test, "stage_name", None) == "eos" for test in tests):
            for test in tests:
                covered = [text for text in getattr(test, "strings", ()) if text in eos]
                if covered:
                    message = f"'eos' already stops at {covered[0]!r}"
                    yield _warn("stop-is-eos", message, _literal(strategy.where, covered[0]), "take the string away")
    for child in strategy.children():
        yield from _tests(child, eos)


def _literal(where: Where | None, text: str) -> Where | None:
    """The place of a string in the source of ``where``, if it is written there just so."""
    if isinstance(where, Span):
        quoted = render.quote(text)
        at = where.source.find(quoted, where.start, where.end)
        if at >= 0:
            return Span(where.source, at, at + len(quoted), where.file)
    return where


def _bounded(strategy: Strategy) -> bool:
    """Whether a row of it surely ends."""
    if strategy.stop is not None and _bounds(strategy.stop):
        return True
    last = strategy.pipeline[-1].stage if strategy.pipeline else None
    if isinstance(last, Search):
        return any(_bounded(block) for block in last.children())
    if isinstance(last, Combinator) and last.sequential:
        return all(_bounded(block) for block in last.children())
    return False


def _bounds(test: Test) -> bool:
    match test:
        case Not():
            return False
        case AllOf():
            return all(_bounds(part) for part in test.tests)
        case AnyOf():
            return any(_bounds(part) for part in test.tests)
        case StoppingCriterion():
            return test.finish_reason == "length"
        case Comparison(op=">" | ">=", left=Read(signal=signal), right=Constant()):
            return signal.stage_name in ("step", "position")
    return False
