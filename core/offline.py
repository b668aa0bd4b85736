"""A strategy on given logits, without a model: what ``Strategy.distribution`` and ``Strategy.draw`` run."""

from __future__ import annotations

import math
import numbers
import reprlib
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .context import Context
from .dist import Dist
from .dsl.faults import placed
from .errors import LogitmillError, RequestError, StageError, StrategyError
from .halt import Halt, Offsets
from .history import History, Rows, packed, sizes_of
from .patch import patched
from .planner import Plan, plan
from .rng import Noise, RowNoise, check_seed, folded
from .session import Fault, Session, Visit
from .step import SHOWN, faulty, first_trouble, outside, trouble, unsound
from .strategy import Strategy
from .vocab import Vocab


def distribution(strategy: Strategy, logits: Any, prompt: Any, output: Any, seed: Any, tokenizer: Any) -> Tensor:
    """float32 [R, V]. See Strategy.distribution."""
    built = _planned(strategy, fragment=True)
    try:
        dist, ctx, session, steps = _prepare(built, logits, prompt, output, seed, tokenizer)
        law, visits = session.law(dist, ctx)
    except Fault as fault:
        raise _error(fault, built) from fault.cause
    return _sound(law, steps, lambda: visits).dense().probs


def draw(strategy: Strategy, logits: Any, prompt: Any, output: Any, seed: Any, tokenizer: Any) -> Tensor:
    """int64 [R]. See Strategy.draw."""
    built = _planned(strategy, fragment=False)
    try:
        dist, ctx, session, steps = _prepare(built, logits, prompt, output, seed, tokenizer)
        proposal = session.propose(dist, ctx)
    except Fault as fault:
        raise _error(fault, built) from fault.cause
    law = _sound(proposal.law(), steps, lambda: proposal.visits)
    if built.picks and bool(outside(law, proposal.tokens).any()):
        raise StageError(
            "pick chose a token which the law does not hold",
            stage=proposal.visits[-1].node.name,
            step=max(steps),
            row=0,
        )
    return proposal.tokens[:, 0]


def _planned(strategy: Strategy, *, fragment: bool) -> Plan:
    """The strategy's plan, made once for each object that says it."""
    held: dict[bool, Plan] = strategy.__dict__.setdefault("_planned", {})
    if fragment not in held:
        held[fragment] = plan(patched(strategy), fragment=fragment)
    return held[fragment]


def _prepare(
    built: Plan, logits: Any, prompt: Any, output: Any, seed: Any, tokenizer: Any
) -> tuple[Dist, Context, Session, list[int]]:
    dist = Dist(_logits(logits))
    _sound(dist, [0] * dist.rows)
    prompts, outputs = _tokens("prompt", prompt, dist), _tokens("output", output, dist)
    reader = None
    if tokenizer is not None:
        from .tokens import TokenText

        reader = lambda: TokenText(tokenizer, skip_special=False)  # noqa: E731  # a factory, named by its place
    vocab, prepared = _constants(built, dist, tokenizer)
    noise = [RowNoise(s) for s in _seeds(seed, dist.rows)]
    history = History(dist.columns, dist.device, reader)
    steps = sizes_of(outputs)
    at_once = not max(steps) or not built.looks_at_the_prompt
    history.begin(prompts, outputs if at_once else [output[:0] for output in outputs])
    ctx = _context(history, vocab, dist, noise, prepared)
    session = Session.opened(built, ctx)
    if at_once:
        return dist, ctx, session, steps
    if not session.phases:
        _replace(history, prompts, outputs)
        return dist, _context(history, vocab, dist, noise, prepared), session, steps
    # Phases follow the output: replay it, a token at a time, and let each phase's own stop test move its rows on.
    halt = Halt()

    def text(row: int, start: int) -> str:
        return str(
            vocab.require_tokenizer("a text criterion").decode(history.host[row][start:], skip_special_tokens=True)
        )

    rows = []
    for i, (tokens, own) in enumerate(zip(prompts, outputs, strict=True)):
        one = session.select([i])
        offsets: Offsets = {}
        for n in range(len(own)):
            _replace(history, [tokens], [own[: n + 1]])
            one.index = [0]
            halt.advance(one, _context(history, vocab, dist.select([i]), [noise[i]], prepared), text, offsets)
        rows.append(one)
    _replace(history, prompts, outputs)
    session = Session.joined(rows)
    session.index = list(range(dist.rows))
    return dist, _context(history, vocab, dist, noise, prepared), session, steps


def _constants(built: Plan, dist: Dist, tokenizer: Any) -> tuple[Vocab, dict[Any, Any]]:
    """The vocabulary, and what stages prepare for it: without a tokenizer, kept with the plan."""
    if tokenizer is not None:
        return Vocab(dist.columns, tokenizer, device=dist.device), {}
    held: dict[Any, tuple[Vocab, dict[Any, Any]]] = built.__dict__.setdefault("_constants", {})
    key = dist.columns, str(dist.device)
    if key not in held:
        held[key] = Vocab(dist.columns, device=dist.device), {}
    return held[key]


def _context(history: History, vocab: Vocab, dist: Dist, noise: list[RowNoise], prepared: dict[Any, Any]) -> Context:
    return Context(history, vocab, dist, Noise(noise, list(history.host_lengths), dist.device), prepared=prepared)


def _replace(history: History, prompts: Rows, outputs: Rows) -> None:
    history.select([])
    history.begin(prompts, outputs)


def _logits(logits: Any) -> Tensor:
    tensor = (logits if isinstance(logits, Tensor) else _of_numbers(logits)).detach()
    _check_dense("logits are", tensor)
    if tensor.dim() == 1:
        tensor = tensor.unsqueeze(0)
    if tensor.dim() != 2 or tensor.shape[0] == 0 or tensor.shape[1] == 0:
        raise RequestError(
            f"logits are [vocab] or [rows, vocab] with at least one of each, got shape {list(tensor.shape)}"
        )
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise RequestError(f"logits are real numbers, got {tensor.dtype}")
    single = tensor.float()
    if tensor.dtype == torch.float64 and bool((tensor.isfinite() & (single == float("inf"))).any()):
        raise RequestError(f"logits are float32, and {float(tensor.max()):g} is beyond its range: scale them down")
    return single


def _check_dense(what: str, tensor: Tensor) -> None:
    """Raise RequestError for a tensor without a number at each place. ``what``: is such a tensor."""
    for kind, holds, instead in (
        ("meta", tensor.is_meta, "run the model on a device that holds values"),
        ("quantized", tensor.is_quantized, "dequantize() it first"),
        ("nested", tensor.is_nested, "pad it first"),
        ("sparse", tensor.layout != torch.strided, "call to_dense() first"),
    ):
        if holds:
            raise RequestError(f"{what} a dense tensor with values in it, got a {kind} one: {instead}")


def _of_numbers(logits: Any) -> Tensor:
    """float64: lists of numbers, or an array."""
    try:
        return torch.tensor(logits, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        found = _no_number(logits) or type(logits).__name__
    except OverflowError:
        found = "a whole number beyond the range of float32"
    raise RequestError(f"logits are a tensor or lists of numbers, [vocab] or [rows, vocab]; got {found}")


def _no_number(logits: Any) -> str:
    """What it is that torch made no tensor of."""
    if not isinstance(logits, list | tuple):
        return type(logits).__name__
    if not any(isinstance(row, list | tuple) for row in logits):
        odd = [value for value in logits if not isinstance(value, numbers.Real)]
        return f"{reprlib.repr(odd[0])} among them" if odd else ""
    odd_row = next((row for row in logits if not isinstance(row, list | tuple)), None)
    if odd_row is not None:
        return f"{reprlib.repr(odd_row)} among the rows"
    if len({len(row) for row in logits}) > 1:
        return "rows of different lengths"
    return next((found for row in logits if (found := _no_number(row))), "")


def _tokens(name: str, tokens: Any, dist: Dist) -> Rows:
    """The ids of each row, from None, one list for all, or one for each."""
    if tokens is None:
        return torch.empty(dist.rows, 0, dtype=torch.int64)
    if isinstance(tokens, str):
        raise RequestError(f"{name} is token ids here, not text: encode it with the tokenizer first")
    if not hasattr(tokens, "tolist") and not isinstance(tokens, list | tuple):
        raise RequestError(f"{name} is token ids, one list or one for each row, got {type(tokens).__name__}")
    rows: Rows | None = _of_tensor(tokens, dist.columns)
    if rows is None:
        rows = []
        for row in _lists(name, tokens):
            own, wrong = _no_token(row, dist.columns)
            if wrong is not None:
                raise RequestError(f"{name} holds {wrong}, which is no token id of a vocabulary of {dist.columns}")
            rows.append(own)
    if len(rows) not in (1, dist.rows):
        raise RequestError(f"{name} has {len(rows)} rows, logits have {dist.rows}")
    if len(rows) == dist.rows:
        return rows
    return rows[0].expand(dist.rows, -1)


def _of_tensor(tokens: Any, size: int) -> Tensor | None:
    """A tensor of token ids as [n, T]; None for anything else."""
    if not isinstance(tokens, Tensor):
        return None
    _check_dense("token ids are", tokens)
    if tokens.dtype != torch.int64 or not tokens.numel() or tokens.dim() not in (1, 2):
        return None
    least, most = tokens.aminmax()
    own = tokens.detach().cpu()
    return own.reshape(-1, own.shape[-1]) if int(least) >= 0 and int(most) < size else None


def _lists(name: str, tokens: Any) -> list[list[Any]]:
    """The rows of what may be token ids, as lists of whatever they hold."""
    held = tokens.tolist() if hasattr(tokens, "tolist") else list(tokens)
    if not isinstance(held, list):
        raise RequestError(f"{name} is token ids, one list or one for each row, got the single number {held}")
    held = list(map(_plain, held))
    if not held or not isinstance(held[0], list | tuple):
        return [held]
    if not all(isinstance(row, list | tuple) for row in held):
        raise RequestError(f"{name} is token ids, one list or one for each row, got numbers beside lists")
    return [list(row) for row in held]


def _plain(item: Any) -> Any:
    """Tensors and arrays as lists or numbers, anything else as it is."""
    if isinstance(item, Tensor):
        _check_dense("token ids are", item)
    return item.tolist() if hasattr(item, "tolist") else item


def _no_token(row: list[Any], size: int) -> tuple[Tensor, str | None]:
    """(a row as int64 [n], what of it is no token id, as it is written, or None where all are)."""
    if not row:
        return torch.empty(0, dtype=torch.int64), None
    ids, doubtful = torch.empty(0, dtype=torch.int64), row
    try:
        ids = packed(row)
    except (struct.error, TypeError, RuntimeError):  # the last of a tensor without a value
        pass
    else:
        least, most = ids.aminmax()
        if int(least) > 1 and int(most) < size:
            return ids, None
        doubtful = [row[i] for i in ((ids <= 1) | (ids >= size)).nonzero()[:, 0].tolist()]  # True is 1 among numbers
    wrong = (t for t in map(_plain, doubtful) if isinstance(t, bool) or not isinstance(t, int) or not 0 <= t < size)
    return ids, next(map(repr, wrong), None)


def _seeds(seed: Any, rows: int) -> list[int]:
    if isinstance(seed, list | tuple):
        if len(seed) != rows:
            counts = f"{len(seed)} seeds for {rows} row{'s' * (rows > 1)}"
            raise RequestError(f"{counts}: give one seed, or a list of one for each row")
        return [check_seed(s) for s in seed]
    return folded(check_seed(seed), range(rows))


def _sound(dist: Dist, steps: Sequence[int], visits: Callable[[], Sequence[Visit]] = tuple) -> Dist:
    """A Dist there is something to draw from. Raises NumericalError with the first stage at fault, or "logits"."""
    if math.isfinite(float(dist.max_logit.sum())):
        return dist
    bad = faulty(dist)[:, 0].nonzero()[:, 0].tolist()
    if bad:
        found = first_trouble(visits())
        stage, what = found or ("logits", trouble(dist.select(bad[:1])))
        hint = SHOWN if found else "give finite numbers, and -inf for tokens that cannot come"
        raise unsound(what, stage, hint, step=steps[bad[0]], row=bad[0])
    return dist


def _error(fault: Fault, built: Plan) -> LogitmillError:
    if isinstance(fault.cause, StrategyError):
        return placed(fault.cause, built.place_of(fault.stage))
    if isinstance(fault.cause, LogitmillError):
        return fault.cause
    return StageError(str(fault), stage=fault.stage, step=0, row=0)
