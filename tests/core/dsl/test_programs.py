"""Every program of the language's description parses; what this build lacks is an unknown stage, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from logitmill import LogitsProcessor, Scalar
from logitmill.core.dsl.layout import format_program
from logitmill.core.dsl.parse import parse_program
from logitmill.core.dsl.read import from_file, from_text
from logitmill.core.errors import StrategyError
from logitmill.core.loader import registry
from logitmill.core.registry import Registry
from logitmill.core.strategy import Strategy

NAMES = "classic greedy schedule entropy within rules mix speculative phases beam file".split()
#: what each of them names first, in the order of the text, that a build may lack
LATER = {
    "speculative": ["speculative"],
    "phases": ["text", "contrast"],
    "beam": ["beam", "json_schema"],
}


@pytest.mark.parametrize("name", NAMES)
def test_it_parses_and_its_tree_survives_printing(documented: dict[str, str], name: str) -> None:
    tree = parse_program(documented[name])
    assert parse_program(format_program(tree)) == tree


@pytest.mark.parametrize("name", [name for name in NAMES if name != "file"])
def test_it_resolves_or_its_first_unknown_stage_is_named(documented: dict[str, str], name: str) -> None:
    text = documented[name]
    lacking = [stage for stage in LATER.get(name, []) if registry().find(stage) is None]
    if not lacking:
        assert Strategy.parse(text).complete
        return
    with pytest.raises(StrategyError) as caught:
        Strategy.parse(text)
    assert caught.value.message == f"unknown stage '{lacking[0]}'"
    at = text.index(lacking[0] + "(")
    assert (caught.value.line, caught.value.column) == (text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def test_the_documented_file_runs_where_its_pack_and_file_are(documented: dict[str, str], tmp_path: Path) -> None:
    class Quadratic(LogitsProcessor, name="acme.quadratic"):
        factor: Scalar = 0.2

    names = Registry({**registry().entries}, {**registry().schedules})
    names.entries.pop("acme.quadratic", None)
    names.add("logits processor", "acme_samplers", Quadratic, None)
    (tmp_path / "house.decode").write_text("dsl 1\nlet calm = temperature(0.3)\n")
    (tmp_path / "main.decode").write_text(documented["file"])
    strategy = from_file(tmp_path / "main.decode", registry=names)
    assert strategy.to_text() == (
        "acme.quadratic | temperature(1.1) | top_p(0.95) | sample until eos or max_tokens(512) with sample.seed=3"
    )


def test_every_construct_has_one_canonical_text_and_document(documented: dict[str, str]) -> None:
    for name in NAMES:
        if name in LATER or name == "file":
            continue
        strategy = from_text(documented[name])
        assert Strategy.parse(strategy.to_text()) == strategy
        assert Strategy.from_dict(strategy.to_dict()) == strategy


def test_the_canonical_document_is_as_described() -> None:
    text = "temperature(1.2 -> 0.6 over 64 by cosine) | min_p(0.05) | sample until eos or max_tokens(256)"
    assert Strategy.parse(text).to_dict() == {
        "dsl": 1,
        "main": {
            "pipeline": [
                {"stage": "temperature@1", "args": {"value": {"ramp": [1.2, 0.6], "over": 64, "by": "cosine"}}},
                {"stage": "min_p@1", "args": {"p": 0.05}},
                {"stage": "sample@1"},
            ],
            "until": {"any": [{"stop": "eos@1"}, {"stop": "max_tokens@1", "args": {"n": 256}}]},
        },
    }
