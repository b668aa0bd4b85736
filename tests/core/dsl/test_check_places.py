"""Where a warning points: the stage or the argument, in text, in documents, through definitions, files and patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import logitmill as lm
from logitmill.core.errors import Span
from logitmill.core.strategy import Strategy

BOUND = " until max_tokens(9)"


def underlined(text: str, **more: Any) -> list[tuple[str, str]]:
    """(code, what is underlined) of each warning."""
    found = []
    for warning in Strategy.parse(text, **more).check():
        assert isinstance(warning.where, Span)
        found.append((warning.code, warning.where.source[warning.where.start : warning.where.end]))
    return found


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("min_p(0.1) | repetition(penalty = 0.9, window=64) | sample" + BOUND, "wrong-sign", "0.9"),
        ("repetition(1.1 -> 0.9 over 8) | sample" + BOUND, "wrong-sign", "1.1 -> 0.9 over 8"),
        ("top_p(min_keep=2, p=0.5 + max_p) | sample" + BOUND, "clamped", "0.5 + max_p"),
        ("when step > 3 and entropy < 0 { top_k(5) } | sample" + BOUND, "constant-test", "step > 3 and entropy < 0"),
        ("when step > 3 or entropy < 0 { top_k(5) } | sample" + BOUND, "constant-test", "entropy < 0"),
        (
            "when step > 3 or not (max_p > 1) { top_k(5) } | sample" + BOUND,
            "constant-test",
            "step > 3 or not (max_p > 1)",
        ),
        ("sample until max_tokens(9) or eos or (step >= 0)", "constant-test", "(step >= 0)"),
        ("sample until max_tokens(9) or (eos and entropy < 0)", "constant-test", "entropy < 0"),
        ('sample until max_tokens(9) or stop("a", "b</s>c", "d")', "unreachable-stop", '"b</s>c"'),
        ('sample until max_tokens(9) or stop(strings=["a", "b</s>c"])', "unreachable-stop", '"b</s>c"'),
        ('sample until max_tokens(9) or stop("a") or eos or stop("</s>")', "stop-is-eos", '"</s>"'),
        ("ban(7) | sample until max_tokens(9) or stop_ids(7)", "unreachable-stop", "stop_ids(7)"),
        ('ban("<a>") | when within("<a>", "b") { top_k(5) } | sample' + BOUND, "region-never-opens", '"<a>"'),
        ("gumbel(seed=1)" + BOUND + " with gumbel.seed=2", None, ""),
        ("repetition(1.1) as heavy | sample" + BOUND + " with heavy.penalty=0.5", "wrong-sign", "heavy.penalty=0.5"),
        ("repetition(0.5, window=9) | sample" + BOUND + " with repetition.window=3", "wrong-sign", "0.5"),
        ("min_tokens(64) | sample until eos or max_tokens(9)", "min-above-max", "64"),
        ("sample(seed=1) until eos", "no-bound", "sample(seed=1)"),
        ("phases({ sample until max_tokens(3) }, { greedy until eos })", "no-bound", "greedy"),
        ("phases({ sample until eos }, { greedy until max_tokens(3) })", "no-bound", "sample"),
        ("top_p(p=0.9, dialect=hf) | sample" + BOUND, "hidden-top-k", "hf"),
        ("min_p(0.1) | top_k(1) | top_p(0.9) as last | sample" + BOUND, "one-token-left", "top_p(0.9) as last"),
    ],
)
def test_in_text(text: str, code: str | None, part: str) -> None:
    assert underlined(text) == ([] if code is None else [(code, part)])


def test_through_definitions() -> None:
    text = """dsl 1
let calm(p, t=0.7) = repetition(p) | temperature(t) | sample
let cold = calm(p=0.9, t=2.0 - entropy) until max_tokens(9)
let main = cold
"""
    assert underlined(text) == [("wrong-sign", "p"), ("clamped", "2.0 - entropy")]


def test_in_a_file_that_is_used(tmp_path: Path) -> None:
    (tmp_path / "house.decode").write_text("dsl 1\nlet mine = presence(-1) | sample\n")
    file = tmp_path / "main.decode"
    file.write_text('dsl 1\nuse "./house.decode"\nlet main = mine until max_tokens(9)\n')
    (warning,) = Strategy.load(file).check()
    assert isinstance(warning.where, Span)
    assert (warning.code, warning.where.file, warning.where.line) == ("wrong-sign", "./house.decode", 2)


def test_in_documents() -> None:
    """The path to the argument, whichever of the forms it is written in."""
    document = {
        "dsl": 1,
        "main": {
            "pipeline": [
                {"repetition": 0.9},
                {"stage": "presence@1", "args": {"value": -1}},
                {"frequency": {"value": -1}},
                {"top_p": {"expr": "0.5 + max_p"}},
                {"when": "entropy < 0", "then": [{"top_k": 5}]},
                "repetition(0.8)",
                "sample",
            ],
            "until": {"any": [{"max_tokens": 9}, {"stop": ["a", "b</s>c"]}, {"expr": "step >= 0"}]},
        },
    }
    found = {getattr(w.where, "text", None): w.code for w in Strategy.from_dict(document).check()}
    assert found == {
        "main.pipeline[0].repetition": "wrong-sign",
        "main.pipeline[1].args.value": "wrong-sign",
        "main.pipeline[2].frequency.value": "wrong-sign",
        "main.pipeline[3].top_p": "clamped",
        "main.pipeline[4].test": "constant-test",
        "main.pipeline[5]": "wrong-sign",
        "main.until.any[1].stop[1]": "unreachable-stop",
        "main.until.any[2]": "constant-test",
    }


def test_built_in_python() -> None:
    """No place, and the same warnings."""
    strategy = (lm.repetition(0.9) | lm.min_tokens(64) | lm.sample()).until(lm.max_tokens(9).or_(lm.eos()))
    assert [(w.code, w.where) for w in strategy.check()] == [("wrong-sign", None), ("min-above-max", None)]
    grown = Strategy.parse("repetition(0.9) | sample").until(lm.max_tokens(9))
    assert [(w.code, w.where is not None) for w in grown.check()] == [("wrong-sign", True)]


def test_a_copy_keeps_no_wrong_place() -> None:
    import copy

    strategy = copy.deepcopy(Strategy.parse("repetition(0.9) | sample" + BOUND))
    assert [w.code for w in strategy.check()] == ["wrong-sign"]
