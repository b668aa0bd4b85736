"""Laws of every registered signal, sampler and stopping criterion, and of what every stage says of itself."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.dist import Dist
from logitmill.core.loader import plugins, registry
from logitmill.core.stage import snake_case
from logitmill.core.strategy import Strategy

VOCAB, ROWS = 40, 5
PROMPTS, OUTPUTS = [[1, 2, 3], [], [4], [0, 0], [5] * 7], [[2], [3, 3], [], [1, 6, 1, 6], [0]]

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("examples.py")))
SIGNALS: dict[str, tuple[Any, ...]] = EXAMPLES["SIGNALS"]
CRITERIA: dict[str, tuple[Any, ...]] = EXAMPLES["CRITERIA"]


def rows(vocab: int = VOCAB, device: str = "cpu") -> Tensor:
    grid = torch.randint(-256, 256, (ROWS, vocab), generator=torch.Generator().manual_seed(2)) / 64.0
    return grid.to(device)


def context(bench: Any, dist: Dist, only: int | None = None) -> Any:
    pick = slice(None) if only is None else slice(only, only + 1)
    numbers = torch.arange(ROWS, dtype=torch.float64)[pick, None].to(dist.device)
    return bench.context(
        dist, PROMPTS[pick], OUTPUTS[pick], seeds=list(range(1, ROWS + 1))[pick], eos=(2,), tokenizer=bench.tokenizer(),
        scores=-numbers, elapsed=[0.0, 1.0, 2.0, 3.0, 4.0][pick],
    )  # fmt: skip


def made(kind: str, values: dict[str, tuple[Any, ...]]) -> Iterator[Any]:
    for entry in registry().of(kind):
        yield pytest.param(entry.load()(*values.get(entry.name, ())), id=entry.name)


signals = pytest.mark.parametrize("signal", list(made("signal", SIGNALS)))
criteria = pytest.mark.parametrize("criterion", list(made("stopping criterion", CRITERIA)))
samplers = pytest.mark.parametrize("sampler", list(made("sampler", {})))


@signals
def test_a_signal_is_a_value_a_row_and_reads_its_row_alone(bench: Any, signal: Any) -> None:
    value = bench.run(signal, Dist(rows()), context(bench, Dist(rows())))
    for i in range(ROWS):
        dist = Dist(rows()[i : i + 1])
        alone = bench.run(signal, dist, context(bench, dist, i))
        if signal.value_kind == "text":
            assert alone == value[i : i + 1]
        else:
            assert value.shape == (ROWS, 1)
            assert (value.dtype == torch.bool) == (signal.value_kind == "truth")
            torch.testing.assert_close(alone, value[i : i + 1], rtol=1e-5, atol=1e-6)


@signals
def test_a_signal_waits_for_the_device_only_where_it_says_so(bench: Any, signal: Any) -> None:
    if signal.value_kind == "text":
        assert "text" in signal.needs
        return
    dist = Dist(rows(device="meta"))
    assert bench.run(signal, dist, context(bench, dist)).device.type == "meta"


@signals
def test_a_signal_is_finite_on_extreme_logits(bench: Any, signal: Any) -> None:
    if signal.value_kind != "number":
        return
    dist = Dist(torch.tensor([[3.4e38, -3.4e38, 0.0], [0.0, 0.0, 0.0], [float("-inf"), 1.0, float("-inf")]]))
    value = bench.run(signal, dist, bench.context(dist, scores=torch.zeros(3, 1)))
    assert torch.isfinite(value).all()


@criteria
def test_a_criterion_is_a_truth_a_row_and_reads_its_row_alone(bench: Any, criterion: Any) -> None:
    dist = Dist(rows())
    value = bench.run(criterion, dist, context(bench, dist))
    assert value.shape == (ROWS, 1)
    assert value.dtype == torch.bool
    for i in range(ROWS):
        alone = Dist(rows()[i : i + 1])
        assert bench.run(criterion, alone, context(bench, alone, i)).item() == value[i].item()
    assert criterion.reads_text() or criterion.reads_tokens()
    assert criterion.finish_reason in ("eos", "stop", "length")


@criteria
def test_a_criterion_never_waits_for_the_device(bench: Any, criterion: Any) -> None:
    dist = Dist(rows(device="meta"))
    assert bench.run(criterion, dist, context(bench, dist)).device.type == "meta"


@samplers
def test_a_law_is_pure_and_each_row_has_its_own(bench: Any, sampler: Any) -> None:
    dist = Dist(rows())
    ctx = context(bench, dist)
    law = bench.run(sampler, dist, ctx)
    assert torch.equal(law.dense().logits, bench.run(sampler, dist, ctx).dense().logits)
    assert torch.equal(dist.logits, rows())
    assert not (law.dense().alive & ~dist.alive).any()
    for i in range(ROWS):
        alone = Dist(rows()[i : i + 1])
        assert torch.equal(
            bench.run(sampler, alone, context(bench, alone, i)).dense().logits, law.dense().logits[i : i + 1]
        )


@samplers
def test_a_draw_lies_in_the_law_and_does_not_depend_on_company_or_columns(bench: Any, sampler: Any) -> None:
    logits = rows()
    strategy = Strategy.of(sampler)
    seeds = list(range(1, ROWS + 1))
    drawn = strategy.draw(logits, seed=seeds)
    assert (strategy.distribution(logits, seed=seeds).gather(-1, drawn[:, None]) > 0).all()
    for i in range(ROWS):
        assert strategy.draw(logits[i : i + 1], seed=[seeds[i]]).item() == drawn[i]
    cut = Dist(logits).narrow(6).dense().logits
    before = registry().stage("top_k", 6) | sampler
    assert before.draw(logits, seed=seeds).equal(strategy.draw(cut, seed=seeds))


@samplers
def test_a_draw_never_waits_for_the_device(bench: Any, sampler: Any) -> None:
    dist = Dist(rows(device="meta"))
    view = context(bench, dist)
    law = bench.run(sampler, dist, view)
    assert sampler.pick(law, view).shape == (ROWS, 1)


def every_class() -> Iterator[Any]:
    for book in (registry().entries, registry().schedules):
        for entry in book.values():
            yield pytest.param(entry, id=f"{entry.kind}-{entry.name}")


@pytest.mark.parametrize("entry", list(every_class()))
def test_a_stage_says_what_it_is(entry: Any) -> None:
    """A docstring, described fields, and for the built-in ones a name that is the class's and the module's own."""
    cls = entry.load()
    assert cls.__doc__
    assert cls.__doc__.splitlines()[0].strip().endswith((".", ":")), cls.__doc__.splitlines()[0]
    for name, field in cls.model_fields.items():
        assert field.description, f"{entry.name}.{name}"
    if entry.builtin:
        assert snake_case(cls.__name__) == entry.name == cls.stage_name
        if entry.kind == "logits processor" and "Source:" not in cls.__doc__:
            pytest.fail(f"{entry.name} names no source")


@pytest.mark.parametrize("entry", list(every_class()))
def test_traits_are_declared_with_known_words(entry: Any) -> None:
    cls = entry.load()
    assert cls.needs <= {"history", "text", "scores", "entropies", "hidden", "companions", "tokenizer"}
    assert set(cls.identity_when) <= set(cls.model_fields)
    assert cls.variadic is None or cls.variadic in cls.model_fields
    if cls.ranks_only:
        assert cls.masks_only


def test_the_built_in_stages_come_by_entry_points_alone() -> None:
    found = {plugin.name: plugin.origin for plugin in plugins().met.values() if plugin.builtin}
    assert {"samplers", "stopping"} <= set(found)
    for entry in registry().entries.values():
        if entry.builtin:
            assert re.fullmatch(r"logitmill\.(samplers|stopping)\.\w+", entry.load().__module__)
