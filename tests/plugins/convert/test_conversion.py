"""What holds for every peer: from one to the other, errors, and that no field of a stage is lost without a word."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest

import logitmill as lm
from logitmill.core.loader import registry
from logitmill.plugins.convert.conversion import ConversionError, Imported, LeftOut
from logitmill.plugins.convert.peers import PEERS

OTHERS = [name for name in PEERS if name != "logitmill"]


@pytest.mark.parametrize("peer", PEERS)
def test_the_usual_goes_to_each_peer_and_back(peer: str) -> None:
    text = "temperature(0.7) | top_p(0.9) | sample until eos" + (" or max_tokens(64)" if peer == "hf" else "")
    made = lm.convert_to(peer, text)
    assert made.left_out == ()
    read = lm.convert_from(peer, made.document, lossy=peer == "vllm")
    back = [(step.stage.stage_name, next(iter(step.stage))) for step in read.strategy.pipeline]
    assert back == [("temperature", ("value", 0.7)), ("top_p", ("p", 0.9)), ("sample", ("seed", None))]
    assert read.strategy.stop is not None or peer == "textgen"


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(OTHERS, 2)))
def test_from_each_to_each(one: str, other: str) -> None:
    """The usual settings of one peer, as far as the other knows them: nothing is lost but bounds and dialects."""
    document = lm.convert_to(
        one, "temperature(0.7) | min_p(0.1) | sample until eos or max_tokens(9)", lossy=True
    ).document
    read = lm.convert_from(one, document)
    made = lm.convert_to(other, read.strategy, lossy=True)
    gone = {item.field for item in made.left_out}
    assert gone <= {"until", "min_p"}
    assert "min_p" not in gone or other == "openai"


def test_logitmills_own_form() -> None:
    text = "temperature(0.7) | sample until eos"
    read = lm.convert_from("logitmill", text)
    assert read == Imported(lm.Strategy.parse(text))
    assert lm.convert_from("logitmill", read.strategy.to_dict()) == read
    assert lm.convert_from("logitmill", '{"dsl": 1, "main": {"pipeline": ["greedy"]}}').strategy.to_text() == "greedy"
    assert lm.convert_to("logitmill", " temperature(0.70)|sample").document == "temperature(0.7) | sample"
    assert lm.convert_to("logitmill", "temperature(0.7)").document == "temperature(0.7)"  # a fragment is one here


@pytest.mark.parametrize(
    ("name", "hint"), [("vlm", "did you mean 'vllm'"), ("ollama", "there are hf, llamacpp"), (3, "there are")]
)
def test_a_peer_that_is_none(name: Any, hint: str) -> None:
    for call in (lm.convert_from, lm.convert_to):
        with pytest.raises(lm.StrategyError, match=hint):
            call(name, "greedy")


@pytest.mark.parametrize("peer", ["hf", "llamacpp", "vllm", "openai"])
@pytest.mark.parametrize(
    ("text", "says"), [("[" * 60000, "nested too deep"), ("1" * 5000, "a number with too many digits")]
)
def test_json_that_python_cannot_read(peer: str, text: str, says: str) -> None:
    with pytest.raises(lm.StrategyError, match=f"{peer}: not readable: {says}"):
        lm.convert_from(peer, f'{{"top_k": {text}}}')


def test_a_text_that_is_no_strategy() -> None:
    with pytest.raises(lm.StrategyError, match="unknown stage 'topp'"):
        lm.convert_to("hf", "topp(0.9) | sample")


def test_patches_are_applied_before_anything_is_written() -> None:
    made = lm.convert_to("openai", "temperature(0.7) as heat | sample with heat.value=0.3")
    assert made.document == {"temperature": 0.3}


@pytest.mark.parametrize("peer", OTHERS)
def test_the_error_lists_all_that_would_be_lost(peer: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_to(
            peer, "p_less | temperature(1.2 -> 0.6 over 64) | gumbel until eos or max_tokens(9) or confidence(0.9)"
        )
    error = caught.value
    assert error.code == "convert"
    lost = [item.field for item in error.left_out]
    assert lost[:3] == ["gumbel", "p_less", "temperature"] or set(lost) >= {"gumbel", "p_less", "temperature", "until"}
    assert all(str(item) in str(error) for item in error.left_out)
    assert "--lossy" in str(error)


def test_what_is_left_out_reads_as_a_line() -> None:
    assert str(LeftOut("top_k", "top_k=5", "unknown")) == "top_k=5: unknown"
    read = lm.convert_from(
        "openai", {"response_format": {"type": "json_schema", "json_schema": {"schema": "x" * 999}}}, lossy=True
    )
    assert len(read.left_out[0].what) < 120


# -- no field of a stage is lost without a word ------------------------------------------------------------------------

#: a stage as some peer writes it, and for each of its fields another value
STAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temperature": ({"value": 0.7}, {"value": 0.5}),
    "dynamic_temperature": ({"low": 0.5, "high": 1.5}, {"low": 0.75, "high": 1.25, "exponent": 2.0}),
    "top_k": ({"k": 40}, {"k": 7}),
    "top_p": ({"p": 0.9}, {"p": 0.5, "min_keep": 3}),
    "min_p": ({"p": 0.1}, {"p": 0.2, "min_keep": 3}),
    "typical": ({"mass": 0.9}, {"mass": 0.5, "min_keep": 3}),
    "top_n_sigma": ({"n": 1.0}, {"n": 2.0}),
    "epsilon": ({"e": 0.001}, {"e": 0.002}),
    "eta": ({"e": 0.001}, {"e": 0.002}),
    "top_a": ({"a": 0.2}, {"a": 0.5}),
    "tail_free": ({"z": 0.9}, {"z": 0.5}),
    "top_h": ({"alpha": 0.4}, {"alpha": 0.5}),
    "quadratic": ({"factor": 0.2}, {"factor": 0.5, "curve": 2.0}),
    "xtc": ({"probability": 0.5}, {"probability": 0.25, "threshold": 0.2, "protect": (3,), "min_keep": 3}),
    "repetition": ({"penalty": 1.25}, {"penalty": 2.0, "over": "output", "window": 9}),
    "presence": ({"value": 0.5, "over": "all", "window": 64}, {"value": 0.25, "over": "prompt", "window": 9}),
    "frequency": ({"value": 0.5, "over": "all", "window": 64}, {"value": 0.25, "over": "prompt", "window": 9}),
    "dry": (
        {"multiplier": 0.5, "window": 64},
        {"multiplier": 1.5, "base": 1.5, "allowed_length": 3, "window": 9, "breakers": ("x",)},
    ),
    "no_repeat_ngram": ({"n": 3}, {"n": 2, "over": "prompt"}),
    "bias": ({"amounts": ((5, 1.0),)}, {"amounts": ((6, 2.0),)}),
    "ban": ({"tokens": (5,)}, {"tokens": (6, 7)}),
    "allow": ({"tokens": (5,)}, {"tokens": (6, 7)}),
    "bad_words": ({"words": ("foo",)}, {"words": ("bar",), "spaces": False}),
    "min_tokens": ({"n": 4}, {"n": 2, "ids": (5,), "over": "all"}),
    "force": ({"tokens": (5,), "at": 8}, {"tokens": (6,), "at": 1, "over": "all"}),
    "length_decay": ({"start": 3, "factor": 1.5}, {"start": 4, "factor": 2.0, "ids": (5,)}),
    "watermark": (
        {"dialect": "hf"},
        {"ratio": 0.5, "bias": 1.0, "key": 7, "context": 2, "scheme": "selfhash"},
    ),
    "synthid": (
        {"keys": (3, 5)},
        {"keys": (7,), "ngram": 4, "history": 9, "table_seed": 1, "table_size": 99, "skip_first": True},
    ),
    "mirostat": ({"variant": 1}, {"tau": 3.0, "eta": 0.25, "variant": 2, "m": 50, "seed": 3}),
    "adaptive_p": ({"target": 0.5}, {"target": 0.25, "decay": 0.5, "seed": 3}),
    "sample": ({}, {"seed": 3}),
}  # fmt: skip
UNTIL = " until eos or max_tokens(9)"


def strategy_of(stage: Any) -> lm.Strategy:
    whole = stage if stage.kind == "sampler" else stage | registry().stage("sample")
    return whole.until(lm.eos().or_(lm.max_tokens(9)))


def cases() -> list[Any]:
    return [
        pytest.param(peer, name, field, id=f"{peer}-{name}-{field}")
        for peer in OTHERS
        for name, (_, others) in STAGES.items()
        for field in others
    ]


def test_every_field_of_these_stages_is_tried() -> None:
    for name, (_, others) in STAGES.items():
        fields = set(type(registry().stage(name, **STAGES[name][0])).model_fields)
        llamacpps = {"value", "range"} if name == "dynamic_temperature" else set()
        assert fields - {"dialect"} - llamacpps == set(others), name


def told(peer: str, strategy: lm.Strategy) -> tuple[Any, list[str]]:
    made = lm.convert_to(peer, strategy, lossy=True)
    return made.document, [item.field for item in made.left_out]


@pytest.mark.parametrize(("peer", "name", "field"), cases())
def test_another_value_is_another_document_or_is_said(peer: str, name: str, field: str) -> None:
    """Wherever a peer has the stage: a value that it is not told is in the list."""
    base, others = STAGES[name]
    one = strategy_of(registry().stage(name, **base))
    other = strategy_of(registry().stage(name, **base | {field: others[field]}))
    (document, lost), (its_document, its_lost) = told(peer, one), told(peer, other)
    assert document != its_document or its_lost.count(name) > lost.count(name) or name in lost


@pytest.mark.parametrize("peer", OTHERS)
def test_stages_that_no_peer_has_are_said(peer: str) -> None:
    for text in ("p_less", "thinking_budget(9)", "when entropy < 1 { top_k(2) }", "mix(1: { top_k(2) })", "top_h(0.5)"):
        lost = told(peer, lm.Strategy.parse(f"{text} | sample{UNTIL}"))[1]
        assert text.partition("(")[0].split()[0] in lost or (peer, text) == ("hf", "top_h(0.5)")


# -- what an import costs ----------------------------------------------------------------------------------------------


def test_the_names_are_lazy() -> None:
    code = (
        "import sys, logitmill, logitmill.plugins.cli.convert; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert {"convert_from", "convert_to"} <= set(lm.__all__)
