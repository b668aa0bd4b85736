"""The JSON Schema of what is registered: canonical and short forms are valid by it, mistakes are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitmill.core.dsl.schema import schema
from logitmill.core.loader import registry
from logitmill.core.strategy import Strategy


@pytest.fixture(scope="session")
def validator() -> Any:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    json.dumps(made, allow_nan=False)
    return jsonschema.Draft202012Validator(made)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(chance=st.randoms(use_true_random=False))
def test_canonical_forms_are_valid(validator: Any, make_program: Callable[[Random], str], chance: Random) -> None:
    validator.validate(Strategy.parse(make_program(chance)).to_dict())


@pytest.mark.parametrize(
    "document",
    [
        {"pipeline": ["greedy"]},
        {"pipeline": [{"temperature": 0.8}, {"top_p": {"p": 0.9, "min_keep": 2}}, {"ban": ["a", 3]}, "sample"]},
        {"pipeline": ["top_p(0.9)"], "until": "eos or max_tokens(3)"},
        {"pipeline": ["sample"], "until": {"max_tokens": 3}, "with": {"sample.seed": 3}},
        {
            "dsl": 1,
            "use": ["house", {"pack": "x", "as": "y"}],
            "let": {"a": {"params": {"t": 1}, "pipeline": []}},
            "main": [],
        },
        {"dsl": 1, "main": [{"when": "entropy < 1", "then": ["greedy"], "else": ["sample"]}]},
    ],
)
def test_short_forms_are_valid(validator: Any, document: dict[str, Any]) -> None:
    validator.validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"dsl": 2, "main": []},
        {"pipeline": [{"topp": 0.9}]},
        {"pipeline": [{"top_p": 1.5}]},
        {"pipeline": [{"stage": "top_p@1", "args": {"q": 1}}]},
        {"pipeline": [{"stage": "top_p@7", "args": {"p": 1}}]},
        {"pipeline": [{"repetition": {"penalty": 1.1, "dialect": "nonsense"}}]},
        {"pipeline": [], "until": {"max_tokens": 0}},
        {"pipeline": [], "untill": "eos"},
        [],
    ],
)
def test_mistakes_are_not(validator: Any, document: Any) -> None:
    assert not validator.is_valid(document)


def test_every_stage_and_argument_is_described_for_completion() -> None:
    text = json.dumps(schema())
    for entry in registry().entries.values():
        if entry.kind == "signal":
            continue
        stage = entry.load()
        assert stage.reference() in text
        for info in stage.model_fields.values():
            if info.description:
                assert (
                    json.dumps(info.description) in text or stage.stage_name == "when" or "block" in stage.model_fields
                )
