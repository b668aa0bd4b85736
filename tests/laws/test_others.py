"""Every registered signal, sampler, criterion, combinator, search and schedule keeps the laws, whoever made it."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.loader import plugins, registry
from logitmill.core.stage import Stage, snake_case
from logitmill.plugins.testing.cases import ordinary
from logitmill.plugins.testing.outcome import outcome
from logitmill.plugins.testing.subjects import stages_of
from logitmill.testing import check_laws

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("examples.py")))


def values(kind: str, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """(positional arguments, named ones) of examples.py."""
    if kind == "sampler":
        found: list[tuple[tuple[Any, ...], dict[str, Any]]] = EXAMPLES["SAMPLERS"].get(name, [((), {})])
        return found
    book: dict[str, tuple[Any, ...]] = {"signal": EXAMPLES["SIGNALS"], "stopping criterion": EXAMPLES["CRITERIA"]}.get(
        kind, {}
    )
    return [(book[name], {})] if name in book else []


def made(*kinds: str) -> Iterator[Any]:
    """Each stage of these kinds at the values of examples.py and at its class's examples."""
    for kind in kinds:
        for entry in registry().of(kind):
            cls = entry.load()
            stages: list[Stage] = [cls(*args, **fields) for args, fields in values(kind, entry.name)]
            for number, stage in enumerate(dict.fromkeys([*stages, *stages_of(cls, {})])):
                yield pytest.param(stage, id=f"{kind.replace(' ', '_')}-{entry.name}-{number}")


@pytest.mark.parametrize(
    "stage", list(made("signal", "sampler", "stopping criterion", "combinator", "search", "schedule"))
)
def test_it_keeps_every_law(stage: Stage) -> None:
    broken = check_laws(stage)
    assert not broken, "\n".join(map(str, broken))


@pytest.mark.parametrize("signal", [p for p in made("signal") if p.values[0].value_kind != "text"])
def test_a_signal_of_tokens_never_waits_for_the_device(signal: Any) -> None:
    """Not even one that could read text: at these values it need not."""
    if signal.stage_name == "within" and isinstance(signal.open, str):
        return  # a marker of several tokens is looked for in the text
    case = ordinary()
    assert outcome(signal, case, case.dist("meta")).device.type == "meta"


@pytest.mark.parametrize("sampler", list(made("sampler")))
def test_a_samplers_law_is_the_same_bits_alone_and_in_a_batch(sampler: Any) -> None:
    case = ordinary()
    law = outcome(sampler, case).dense().logits
    for row in range(case.rows):
        assert torch.equal(outcome(sampler, case.select([row])).dense().logits, law[row : row + 1])


@pytest.mark.parametrize("signal", list(made("signal")))
def test_a_signal_is_finite_where_a_row_is_sure_or_flat(bench: Any, signal: Any) -> None:
    if signal.value_kind != "number":
        return
    dist = Dist(torch.tensor([[3.4e38, -3.4e38, 0.0], [0.0, 0.0, 0.0], [float("-inf"), 1.0, float("-inf")]]))
    value = bench.run(signal, dist, bench.context(dist, scores=torch.zeros(3, 1)))
    assert torch.isfinite(value).all()


def every_class() -> Iterator[Any]:
    for book in (registry().entries, registry().schedules):
        for entry in book.values():
            yield pytest.param(entry, id=f"{entry.kind}-{entry.name}")


@pytest.mark.parametrize("entry", list(every_class()))
def test_a_built_in_stage_says_what_it_is(entry: Any) -> None:
    """A docstring, described fields, examples, a source; the name of its class."""
    if not entry.builtin:
        return
    cls = entry.load()
    assert (cls.__doc__ or "").splitlines()[0].strip().endswith((".", ":")), cls.__doc__
    assert [name for name, field in cls.model_fields.items() if not field.description] == []
    assert cls.examples
    assert snake_case(cls.__name__) == entry.name == cls.stage_name
    if entry.kind == "logits processor" and "Source:" not in cls.__doc__:
        pytest.fail(f"{entry.name} names no source")


def test_the_built_in_stages_come_by_entry_points_alone() -> None:
    found = {plugin.name: plugin.origin for plugin in plugins().met.values() if plugin.builtin}
    assert {"samplers", "stopping"} <= set(found)
    for entry in registry().entries.values():
        if entry.builtin:
            assert re.fullmatch(r"logitmill\.(samplers|stopping)\.\w+", entry.load().__module__)
