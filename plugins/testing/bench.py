"""Stages on a bench: contexts and distributions made by hand, without a model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ...core.context import Context
from ...core.dist import Dist
from ...core.expression import Comparison, Constant, Expression, Read
from ...core.history import History
from ...core.loader import registry
from ...core.planner import plan
from ...core.rng import Noise, RowNoise, stage_key
from ...core.session import Session, bound_now
from ...core.stage import LogitsProcessor, Sampler, Signal, Stage, StoppingCriterion
from ...core.strategy import Strategy
from ...core.tokens import TokenText
from ...core.vocab import Vocab

INF = float("inf")


def stage(name: str, *args: Any, **fields: Any) -> Any:
    """A registered stage or signal."""
    return registry().stage(name, *args, **fields)


def logits_of(probs: Sequence[Any]) -> Tensor:
    """Float32 logits [R, V] whose softmax is ``probs``, one row or several; 0 is removed."""
    table = torch.tensor(probs, dtype=torch.float64)
    return (table if table.dim() == 2 else table[None]).log().float()


def context(
    dist: Dist,
    prompt: Sequence[Any] = (),
    output: Sequence[Any] = (),
    *,
    seeds: Sequence[int] | None = None,
    tokenizer: Any = None,
    eos: tuple[int, ...] = (),
    raw: Dist | None = None,
    scores: Tensor | None = None,
    elapsed: Sequence[float] | None = None,
    entropies: Sequence[Sequence[float]] | None = None,
    noise: type[Noise] = Noise,
    prepared: dict[Any, Any] | None = None,
) -> Context:
    """A context for dist's rows. ``prompt`` and ``output``: token ids, one list for all rows or one for each.

    ``entropies``: of the distributions that a row's output was drawn from, a number for each token of it. ``prepared``:
    where stages' constants are kept from one context to the next, as an engine keeps them.
    """
    prompts, outputs = _rows(prompt, dist.rows), _rows(output, dist.rows)
    reader = None if tokenizer is None else functools.partial(TokenText, tokenizer, skip_special=False)
    history = History(dist.vocab_size, dist.device, reader)
    history.extend(prompts, outputs)
    if entropies is not None:
        history.recall(entropies)
    made = [RowNoise(seed) for seed in (seeds or range(dist.rows))]
    positions = [len(before) + len(after) for before, after in zip(prompts, outputs, strict=True)]
    vocab = Vocab(dist.vocab_size, tokenizer, eos, dist.device)
    ctx = Context(
        history, vocab, raw or dist, noise(made, positions, dist.device),
        scores=scores, elapsed=elapsed, prepared=prepared,
    )  # fmt: skip
    return ctx.at(SimpleNamespace(key=stage_key("bench")), ())


def _rows(tokens: Sequence[Any], rows: int) -> list[list[int]]:
    many = bool(tokens) and not isinstance(tokens[0], int)
    return [list(row) for row in tokens] if many else [list(tokens) for _ in range(rows)]


def bound(stages: Stage | Sequence[Stage], dist: Dist, ctx: Context) -> tuple[Any, Context]:
    """The stage with the values of this step in its Scalar fields, and the context as it sees it.

    One stage for all rows, or a stage for each, which then run stacked.
    """
    written = [stages] * dist.rows if isinstance(stages, Stage) else list(stages)
    view = ctx.at(SimpleNamespace(key=stage_key(written[0].stage_name)), written)
    return bound_now(written[0], written, dist, view), view


def run(stages: Stage | Sequence[Stage], dist: Dist, ctx: Context) -> Any:
    """What a processor's apply, a sampler's law, a signal's read or a criterion's check returns.

    One stage for all rows, or a stage for each, which then run stacked.
    """
    made, view = bound(stages, dist, ctx)
    if isinstance(made, LogitsProcessor):
        return made.apply(dist, made.init(view), view)
    if isinstance(made, Sampler):
        return made.law(dist, made.init(view), view)
    if isinstance(made, Signal):
        return made.read(dist, view)
    assert isinstance(made, StoppingCriterion)
    return made.check(view)


def apply(what: Any, logits: Any, prompt: Sequence[Any] = (), output: Sequence[Any] = (), **more: Any) -> Tensor:
    """Logits [R, V] after a stage (or a stage for each row) on logits [V] or [R, V]."""
    table = torch.as_tensor(logits, dtype=torch.float32)
    dist = Dist(table if table.dim() == 2 else table[None])
    after: Tensor = run(what, dist, context(dist, prompt, output, **more)).dense().logits
    return after


def kept(what: Any, logits: Any, *args: Any, **more: Any) -> list[list[int]]:
    """The ids of the tokens left in each row."""
    return [row.nonzero()[:, 0].tolist() for row in apply(what, logits, *args, **more) > -INF]


@functools.cache
def tokenizer() -> Any:
    """A byte-level BPE tokenizer of 320 tokens, with <|end|> as special token and <think>, </think> as added tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=317,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    made.train_from_iterator(
        ["the cat however sat on the mat however the end yes yes 12 12 34 User: the cat\n\n"] * 8, trainer
    )
    made.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


def law(
    strategy: Any,
    logits: Any,
    prompt: Sequence[Any] = (),
    output: Sequence[Any] = (),
    *,
    as_written: bool = False,
    **more: Any,
) -> Dist:
    """What a whole strategy draws from, with any end-of-sequence ids (Strategy.distribution takes none)."""
    built = plan(Strategy.of(strategy), as_written=as_written, fragment=True)
    table = torch.as_tensor(logits, dtype=torch.float32)
    dist = Dist(table if table.dim() == 2 else table[None])
    ctx = context(dist, prompt, output, **more)
    return Session.opened(built, ctx).law(dist, ctx)[0]


def stage_of_schedule(name: str) -> Any:
    """A registered schedule."""
    entry = registry().schedule(name)
    assert entry is not None
    return entry.load()()


def read(signal: Stage) -> Read:
    """The expression that reads a signal."""
    assert isinstance(signal, Signal)
    return Read(signal)


def compare(left: Expression, op: str, value: float) -> Comparison:
    """An expression against a constant."""
    return Comparison(op, left, Constant(value))


__all__ = [
    "INF",
    "apply",
    "bound",
    "compare",
    "context",
    "kept",
    "law",
    "logits_of",
    "read",
    "run",
    "stage",
    "stage_of_schedule",
    "tokenizer",
]
