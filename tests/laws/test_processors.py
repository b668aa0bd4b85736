"""Every registered logits processor, whoever registered it, keeps the laws, at its examples and at values to try."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logitmill.core.loader import registry
from logitmill.core.stage import LogitsProcessor, Stage
from logitmill.plugins.testing.cases import ordinary, repetitive
from logitmill.plugins.testing.laws.values import together
from logitmill.plugins.testing.subjects import stages_of, vocabulary_for
from logitmill.testing import check_laws

Values = list[tuple[tuple[Any, ...], dict[str, Any]]]
VALUES: dict[str, Values] = runpy.run_path(str(Path(__file__).with_name("examples.py")))["PROCESSORS"]


def made() -> Iterator[Any]:
    """Each processor at the values of examples.py and at its class's examples."""
    for entry in registry().of("logits processor"):
        cls = entry.load()
        stages: list[Stage] = [cls(*args, **fields) for args, fields in VALUES.get(entry.name, [])]
        for number, stage in enumerate(dict.fromkeys([*stages, *stages_of(cls, {})])):
            yield pytest.param(stage, id=f"{entry.name}-{number}")


STAGES = list(made())
every = pytest.mark.parametrize("stage", STAGES)


@every
def test_it_keeps_every_law(stage: LogitsProcessor) -> None:
    broken = check_laws(stage)
    assert not broken, "\n".join(map(str, broken))


def family(stage: LogitsProcessor) -> list[Stage]:
    """Every stage tried that differs from this one in its Scalars alone: those that the core may stack."""
    fixed = [field for field in type(stage).model_fields if field not in stage.scalars]
    return [
        other
        for other in (parameter.values[0] for parameter in STAGES)
        if type(other) is type(stage)
        and all(getattr(other, field) == getattr(stage, field) for field in fixed)
        and all((getattr(other, field) is None) == (getattr(stage, field) is None) for field in stage.scalars)
        and all(isinstance(getattr(other, field), float | int | None) for field in stage.scalars)
    ]


@every
def test_the_values_tried_run_in_one_call(stage: LogitsProcessor) -> None:
    stages = family(stage)
    if stage != stages[0] or len(stages) == 1:
        return  # the first of them tries them all
    vocab = max(map(vocabulary_for, stages))
    for case in (ordinary(vocab, 5), repetitive(vocab)):
        for first in range(0, len(stages), case.rows):
            breach = together(stages[first : first + case.rows], case)
            assert breach is None, breach
