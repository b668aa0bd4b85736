"""A name that is not there is an error that names it, wherever it stands, and suggests what is near."""

from __future__ import annotations

from typing import Any

import pytest

from logitmill.core.errors import Path, Span, StrategyError
from logitmill.core.strategy import Strategy

DOCUMENTS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"pipeline": [{"tempreature": 0.8}, "sample"]}, "pipeline[0]", "tempreature", "temperature"),
    ({"pipeline": ["tempreature(0.8)", "sample"]}, "pipeline[0]", "tempreature", "temperature"),
    ({"pipeline": [{"stage": "tempreature@1"}, "sample"]}, "pipeline[0]", "tempreature", "temperature"),
    ({"pipeline": [{"top_p": {"pp": 0.8}}, "sample"]}, "pipeline[0].top_p.pp", "pp", "p"),
    ({"pipeline": [{"stage": "top_p", "args": {"pp": 1}}, "sample"]}, "pipeline[0].args.pp", "pp", "p"),
    ({"pipeline": [{"top_p": 0.8, "ass": "cut"}, "sample"]}, "pipeline[0].ass", "ass", "as"),
    ({"pipeline": ["sample"], "until": "eso"}, "until", "eso", "eos"),
    ({"pipeline": ["sample"], "until": {"stop": "eso@1"}}, "until", "eso", "eos"),
    ({"pipeline": ["sample"], "until": {"any": [{"max_token": 9}]}}, "until.any[0]", "max_token", "max_tokens"),
    ({"pipeline": ["sample"], "untill": "eos"}, "untill", "untill", "until"),
    ({"pipeline": [{"when": "entrpy < 1", "then": ["greedy"]}]}, "pipeline[0].test", "entrpy", "entropy"),
    ({"pipeline": ["sample"], "with": {"sampel.seed": 1}}, "with.sampel.seed", "sampel", "sample"),
    ({"pipeline": ["sample"], "with": {"sample.sed": 1}}, "with.sample.sed", "sed", "seed"),
    (
        {"pipeline": [{"temperature": 0.5, "as": "heat"}, "sample"], "with": {"heet.value": 1}},
        "with.heet.value",
        "heet",
        "heat",
    ),
    (
        {"pipeline": [{"temperature": {"ramp": [1, 2], "over": 3, "by": "cosin"}}, "sample"]},
        "pipeline[0].temperature.by",
        "cosin",
        "cosine",
    ),
    (
        {"pipeline": [{"best_of": {"n": 3, "by": {"expr": "mean_logprop"}}, "block": ["sample"]}]},
        "pipeline[0].best_of.by",
        "mean_logprop",
        "mean_logprob",
    ),
    ({"pipeline": [{"top_k": {"k": 5, "dialect": "hff"}}, "sample"]}, "pipeline[0].top_k.dialect", "dialect", "hf"),
    ({"dsl": 1, "let": {"calm": ["sample"]}, "main": ["clam"]}, "main.pipeline[0]", "clam", "calm"),
]

TEXTS = [
    ("tempreature(0.8) | sample", "tempreature", "temperature"),
    ("best_of(3, by=mean_logprop) { sample }", "mean_logprop", "mean_logprob"),
    ("sample until max_token(9)", "max_token", "max_tokens"),
    ("sample with sampel.seed=1", "sampel.seed", "sample"),
    ("sample with sample.sed=1", "sample.sed", "seed"),
    ("temperature(0.5) as heat | sample with heet.value=1", "heet.value", "heat"),
    ("temperature(raw.entrpy) | sample", "raw.entrpy", "entropy"),
    ("temperature(clmp(entropy, 1, 2)) | sample", "clmp", "clamp"),
    ("temperature(1 -> 2 over 3 by cosin) | sample", "cosin", "cosine"),
    ("top_k(5, dialekt=hf) | sample", "dialekt", "dialect"),
    ("top_k(5, dialect=hff) | sample", "hff", "hf"),
    ('sample until tial ~ "x"', "tial", "tail"),
    ("dsl 1\nlet calm(t=1) = temperature(t) | sample\nlet main = calm(tt=2)", "tt=2", "t"),
    ("dsl 1\nlet calm = sample\nlet main = clam", "clam", "calm"),
]


@pytest.mark.parametrize(("document", "path", "name", "near"), DOCUMENTS)
def test_in_a_document(document: dict[str, Any], path: str, name: str, near: str) -> None:
    with pytest.raises(StrategyError) as raised:
        Strategy.from_dict(document)
    error = raised.value
    assert isinstance(error.where, Path)
    assert (error.where.text, error.hint) in {(path, f"did you mean {quote}{near}{quote}?") for quote in "'\""}
    assert name in error.message


@pytest.mark.parametrize(("text", "part", "near"), TEXTS)
def test_in_text(text: str, part: str, near: str) -> None:
    with pytest.raises(StrategyError) as raised:
        Strategy.parse(text)
    error = raised.value
    assert isinstance(error.where, Span)
    assert error.where.source[error.where.start : error.where.end] == part
    assert error.hint == f"did you mean '{near}'?"


def test_under_an_alias(tmp_path: Any) -> None:
    """A pack's names, written with the alias that it was given."""
    (tmp_path / "house.decode").write_text("dsl 1\nlet calm = sample\n")
    for name, near in (("h.clam", "h.calm"), ("g.calm", "h.calm")):
        (tmp_path / "main.decode").write_text(f'dsl 1\nuse "./house.decode" as h\nlet main = {name}\n')
        with pytest.raises(StrategyError, match=f"unknown stage '{name}'") as raised:
            Strategy.load(tmp_path / "main.decode")
        assert raised.value.hint == f"did you mean '{near}'?"
