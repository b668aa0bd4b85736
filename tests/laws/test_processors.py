"""Laws of every registered logits processor, whoever registered it, at several values each."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Constant, Function, Read
from logitmill.core.loader import registry
from logitmill.core.scalar import Ramp
from logitmill.core.stage import LogitsProcessor

INF = float("inf")
VOCAB, ROWS = 40, 5

VALUES: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]]
VALUES = runpy.run_path(str(Path(__file__).with_name("examples.py")))["PROCESSORS"]


def made() -> Iterator[Any]:
    for entry in registry().of("logits processor"):
        cls = entry.load()
        for number, (args, fields) in enumerate(VALUES.get(entry.name, [((), filled(cls))])):
            yield pytest.param(cls(*args, **fields), id=f"{entry.name}-{number}")


def filled(cls: Any) -> dict[str, Any]:
    """Values for the required fields of a stage we know nothing of: the middle of their range, or 1."""
    values: dict[str, Any] = {}
    for name, info in cls.model_fields.items():
        if info.is_required() and name in cls.scalars:
            scalar = cls.scalars[name]
            low = 0.0 if scalar.low is None else scalar.low
            values[name] = scalar.number((low + (low + 2 if scalar.high is None else scalar.high)) / 2)
    return values


STAGES = list(made())
every = pytest.mark.parametrize("stage", STAGES)


def rows(n: int = ROWS, seed: int = 0, vocab: int = VOCAB) -> Tensor:
    """Logits on a grid of 1/64 with ties, and with removed tokens in every other row."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randint(-256, 256, (n, vocab), generator=random) / 64.0
    gone = torch.rand(n, vocab, generator=random) < 0.2
    gone[::2] = False
    gone[torch.arange(n), logits.argmax(-1)] = False
    return logits.masked_fill(gone, -INF)


def histories(n: int = ROWS, seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and outputs of different lengths, none among them, from few tokens so that they repeat."""
    random = torch.Generator().manual_seed(seed)
    sizes = [(i * 3 % 7, i * 5 % 6) for i in range(n)]
    draw = lambda size: torch.randint(0, 9, (size,), generator=random).tolist()  # noqa: E731  # a row's tokens
    return [draw(a) for a, _ in sizes], [draw(b) for _, b in sizes]


def context(bench: Any, dist: Dist, only: int | None = None) -> Context:
    prompts, outputs = histories()
    pick = slice(None) if only is None else slice(only, only + 1)
    seeds = list(range(ROWS))[pick]
    made: Context = bench.context(
        dist, prompts[pick], outputs[pick], seeds=seeds, eos=(2, 5), tokenizer=bench.tokenizer()
    )
    return made


def after(bench: Any, stage: Any, dist: Dist, only: int | None = None) -> Dist:
    result: Dist = bench.run(stage, dist, context(bench, dist, only))
    return result


def same(a: Dist, b: Dist) -> bool:
    """The same tokens left, and logits equal to 4 ulp: reductions over columns may round by the number of rows."""
    x, y = a.dense().logits, b.dense().logits
    return torch.equal(x > -INF, y > -INF) and torch.allclose(x, y, rtol=4 * 2**-23, atol=0.0)


@every
def test_a_row_alone_gets_what_it_gets_in_company(bench: Any, stage: LogitsProcessor) -> None:
    together = after(bench, stage, Dist(rows()))
    for i in range(ROWS):
        alone = after(bench, stage, Dist(rows()[i : i + 1]), i)
        assert same(alone, together.select([i])), i


@every
def test_what_is_removed_stays_removed_and_something_is_left(bench: Any, stage: LogitsProcessor) -> None:
    before = Dist(rows())
    dist = after(bench, stage, before)
    assert not (dist.dense().alive & ~before.alive).any()
    assert (dist.kept >= 1).all()
    assert torch.isfinite(dist.max_logit).all()
    assert not dist.logits.isnan().any()


@every
def test_apply_changes_none_of_its_inputs_and_may_run_again(bench: Any, stage: LogitsProcessor) -> None:
    logits = rows()
    dist, ctx = Dist(logits.clone()), None
    ctx = context(bench, dist)
    tokens, counts, prompt_counts = ctx.tokens.clone(), ctx.counts.clone(), ctx.prompt_counts.clone()
    first, second = bench.run(stage, dist, ctx), bench.run(stage, dist, ctx)
    assert torch.equal(first.dense().logits, second.dense().logits)
    assert torch.equal(dist.logits, logits)
    assert torch.equal(ctx.tokens, tokens)
    assert torch.equal(ctx.counts, counts)
    assert torch.equal(ctx.prompt_counts, prompt_counts)


@every
def test_identity_values_change_nothing(bench: Any, stage: LogitsProcessor) -> None:
    before = Dist(rows())
    if stage.is_identity():
        assert torch.equal(after(bench, stage, before).dense().logits, before.logits)
    for field, value in stage.identity_when.items():
        if not callable(value):
            try:
                twin = type(stage)(**{**{f: getattr(stage, f) for f in type(stage).model_fields}, field: value})
            except StrategyError:
                continue  # a dialect that refuses it
            assert twin.is_identity()
            assert torch.equal(after(bench, twin, before).dense().logits, before.logits), field


@every
def test_a_narrowed_distribution_gives_the_same(bench: Any, stage: LogitsProcessor) -> None:
    """A stage cannot tell columns that were cut off from columns that are removed."""
    narrowed = Dist(rows()).narrow(9)
    assert same(after(bench, stage, narrowed), after(bench, stage, narrowed.dense()))


@every
def test_traits_are_true(bench: Any, stage: LogitsProcessor) -> None:
    before = Dist(rows())
    dist = after(bench, stage, before).dense()
    if stage.masks_only:
        assert torch.equal(torch.where(dist.alive, dist.logits, -INF), torch.where(dist.alive, before.logits, -INF))
    if stage.monotone:
        in_order = dist.logits.gather(-1, before.order)
        assert (in_order[:, 1:] <= in_order[:, :-1]).all()
    if stage.pointwise and (dist.kept > 1).all():
        candidates = Dist(rows()).narrow(30)
        there = torch.zeros_like(before.alive).scatter(-1, candidates.token_ids(), True)
        assert same(after(bench, stage, candidates), Dist(dist.logits.masked_fill(~there, -INF)))
    if stage.ranks_only:
        squeezed = after(bench, stage, Dist(before.logits / 4 + 3)).dense()
        assert torch.equal(squeezed.alive, dist.alive)


@every
def test_only_a_stochastic_stage_reads_noise(
    bench: Any, stage: LogitsProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    noise = Context.noise
    monkeypatch.setattr(Context, "noise", lambda self, *args, **more: asked.append(1) or noise(self, *args, **more))
    after(bench, stage, Dist(rows()))
    assert bool(asked) == stage.stochastic


@every
def test_apply_never_waits_for_the_device(bench: Any, stage: LogitsProcessor) -> None:
    """On the meta device a tensor has no value: whatever reads one on the host raises."""
    prompts, outputs = histories()
    dist = Dist(torch.empty(ROWS, VOCAB, device="meta"))
    ctx = bench.context(dist, prompts, outputs, eos=(2, 5), tokenizer=bench.tokenizer())
    for given in (stage, [stage] * ROWS):
        result = bench.run(given, dist, ctx)
        assert result.logits.device.type == "meta"
        assert result.rows == ROWS


EXTREME = [
    [3.4e38, 3.4e38, -3.4e38, 0.0],
    [-3.4e38, -3.3e38, -3.4e38, -INF],
    [1e-45, -1e-45, 0.0, -0.0],
    [65504.0, -65504.0, 3.4e38, -INF],
    [-INF, -INF, -INF, 12.0],
    [0.0, 0.0, 0.0, 0.0],
]


@every
def test_extreme_logits_never_become_nan(bench: Any, stage: LogitsProcessor) -> None:
    logits = torch.full((len(EXTREME), VOCAB), -INF)
    logits[:, :4] = torch.tensor(EXTREME)
    dist = Dist(logits)
    result = bench.run(stage, dist, bench.context(dist, [0, 1, 2], [3, 0, 1, 2], eos=(2,)))
    assert torch.isfinite(result.max_logit).all()
    assert not result.logits.isnan().any()
    assert not result.probs.isnan().any()


@every
def test_a_vocabulary_of_one(bench: Any, stage: LogitsProcessor) -> None:
    if any(token > 0 for token in named_tokens(stage)):
        return  # it names tokens that are not there
    dist = Dist(torch.tensor([[4.0], [-3.0]]))
    result = bench.run(stage, dist, bench.context(dist, [[0], []], [[0, 0], []], eos=(0,)))
    assert result.dense().alive.all()


def named_tokens(stage: Any) -> list[int]:
    found: list[int] = []
    for field in ("amounts", "tokens", "ids", "protect"):
        for item in getattr(stage, field, ()):
            key = item[0] if field == "amounts" else item
            found.extend(key if isinstance(key, tuple) else [key])
    return found


@every
def test_half_precision_logits_come_in(bench: Any, stage: LogitsProcessor) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        logits = rows().to(dtype)
        assert same(after(bench, stage, Dist(logits)), after(bench, stage, Dist(logits.float())))


def variants(stage: LogitsProcessor, field: str) -> list[Any]:
    """Ways to say one value of a Scalar field: the number, a flat schedule, an expression."""
    value = getattr(stage, field)
    ramp = Ramp(value, value, 4, registry().schedule("linear").load()())  # type: ignore[union-attr, arg-type]
    entropy = Read(registry().stage("entropy"))  # type: ignore[arg-type]
    constant = Function("clamp", (entropy, Constant(float(value)), Constant(float(value))))
    return [value, ramp, constant]


@every
def test_a_value_may_be_a_schedule_or_an_expression(bench: Any, stage: LogitsProcessor) -> None:
    """The same result from a number and from a [rows, 1] tensor of it, up to float32's own rounding of the value."""
    before = Dist(rows(seed=3))
    plain = after(bench, stage, before)
    for field in type(stage).scalars:
        if getattr(stage, field) is None or (
            isinstance(stage.__dict__[field], float) and 0 < abs(stage.__dict__[field]) < 1e-20
        ):
            continue
        for value in variants(stage, field):
            twin = type(stage)(**{**{f: getattr(stage, f) for f in type(stage).model_fields}, field: value})
            assert same(after(bench, twin, before), plain), (field, value)


@every
def test_rows_with_values_of_their_own_stack(bench: Any, stage: LogitsProcessor) -> None:
    """Every stage of the same kind that differs from this one in its Scalars alone, a row for each."""
    fixed = [f for f in type(stage).model_fields if f not in stage.scalars]
    family = [
        p.values[0]
        for p in STAGES
        if type(p.values[0]) is type(stage)
        and all(getattr(p.values[0], f) == getattr(stage, f) for f in fixed)
        and all((getattr(p.values[0], f) is None) == (getattr(stage, f) is None) for f in stage.scalars)
    ]
    stages = (family * ROWS)[:ROWS]
    together = after(bench, stages, Dist(rows(seed=5)))
    for i, mine in enumerate(stages):
        assert same(after(bench, mine, Dist(rows(seed=5)[i : i + 1]), i), together.select([i])), (i, mine)
