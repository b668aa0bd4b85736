"""What documents made by chance have found, each in its smallest form (tests/fuzz/report.md lists them)."""

from __future__ import annotations

import json

import pytest
import torch

from logitmill.core.dsl.files import read_yaml
from logitmill.core.dsl.layout import format_program
from logitmill.core.dsl.parse import parse_program
from logitmill.core.dsl.write import format_text, to_lines, to_yaml
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Pattern
from logitmill.core.strategy import Strategy

P = Strategy.parse


def round_trip(strategy: Strategy) -> None:
    document = json.loads(json.dumps(strategy.to_dict()))
    assert Strategy.from_dict(document) == strategy
    assert P(strategy.to_text()) == strategy
    assert P(to_lines(strategy)) == strategy


def read(text: str) -> Strategy | None:
    """What a text says; None where it is nested too deep to be one."""
    try:
        return P(text)
    except StrategyError as error:
        if error.code != "too-deep":
            raise
        return None


@pytest.mark.parametrize("text", ["a\x85b", "\x85", "\u2028", "\u2029 ", "a\u2028é", "\x85\u2028"])
def test_a_line_break_of_unicode_survives_yaml(text: str) -> None:
    strategy = Strategy.from_dict({"pipeline": ["sample"], "until": {"stop": "stop@1", "args": {"strings": [text]}}})
    assert read_yaml(to_yaml(strategy)) == strategy.to_dict()


def test_blanks_in_a_long_expression_survive_yaml() -> None:
    words = "  ".join(["word"] * 60)
    strategy = P(f'when tail == "{words}" {{ top_k(3) }} | sample until stop("{words}") or "{words}" in tail')
    assert read_yaml(to_yaml(strategy)) == strategy.to_dict()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("dsl 1\nlet main # c\n= greedy", "dsl 1\n# c\nlet main = greedy\n"),
        ("dsl 1\nlet main =\n# c\ngreedy", "dsl 1\n# c\nlet main = greedy\n"),
        ("dsl 1\nlet main = top_k(4) as # c\nx | greedy", "dsl 1\n# c\nlet main = top_k(4) as x | greedy\n"),
        ("top_k(4) as # c\nx | greedy", "# c\ntop_k(4) as x | greedy\n"),
        ("greedy | top_k(4) as # c\nx", "greedy\n# c\n| top_k(4) as x\n"),
        ("top_k(4) # c\nas x | greedy", "# c\ntop_k(4) as x | greedy\n"),
        ('e { t | when l ~ "" { p } else # c\na }', 'e {\n    t\n    # c\n    | when l ~ "" { p } else a\n}\n'),
        ("when step < 2 { top_k(4) as # c\nx }", "when step < 2 {\n    # c\n    top_k(4) as x\n}\n"),
    ],
)
def test_a_comment_that_no_line_can_take_stands_above_at_once(text: str, printed: str) -> None:
    assert format_text(text) == printed
    assert format_text(printed) == printed


def test_a_comment_in_a_long_list_stands_above_it_and_the_list_is_filled_at_once() -> None:
    text = f"ban([{', '.join(map(str, range(1000, 1060)))} # c\n]) | sample"
    printed = format_text(text)
    assert printed.splitlines()[:3] == ["ban(", "    # c", "    ["]
    assert format_text(printed) == printed
    assert max(map(len, printed.splitlines())) <= 100


def test_the_last_patch_of_a_path_is_the_only_one() -> None:
    """A document's patches are a mapping: an earlier one of the same path was lost there, and there alone."""
    twice = P("temperature(1) as x | sample with x.value=2, temperature.value=5, x.value=3")
    assert twice.to_text() == "temperature(1.0) as x | sample with temperature.value=5.0, x.value=3.0"
    round_trip(twice)
    later = P("temperature(1) | sample").with_({"temperature.value": 2.0}).with_({"temperature.value": 3.0})
    assert later == P("temperature(1) | sample with temperature.value=3.0")
    round_trip(later)


@pytest.mark.parametrize("levels", [62, 66, 400])
@pytest.mark.parametrize("inner", ["greedy", "ban(1)", "bias([[1, 2]: 3])"])
def test_definitions_that_stand_inside_one_another_are_refused_where_a_text_could_not_hold_them(
    levels: int, inner: str
) -> None:
    lets = [
        f"let a0 = {inner}",
        *(f"let a{n} = when step < 9 {{ a{n - 1} }} else {{ {inner} }}" for n in range(1, levels)),
    ]
    strategy = read("\n".join(["dsl 1", *lets, f"let main = a{levels - 1}"]))
    assert strategy is None or levels < 66
    assert strategy is not None or levels > 60
    if strategy is not None:
        round_trip(strategy)


@pytest.mark.parametrize("inner", ["ban(1)", "bias([[1, 2]: 3])", "allow([1, 2], 3)"])
def test_what_a_text_can_hold_a_document_can(inner: str) -> None:
    """A list or map that text writes without one is a level more in a document."""
    held = []
    for levels in range(60, 66):
        strategy = read("when step < 9 { " * levels + inner + " }" * levels)
        if strategy is not None:
            round_trip(strategy)
            held.append(levels)
    assert held == list(range(60, held[-1] + 1))
    assert held[-1] > 60


def test_a_document_deeper_than_a_text_is_refused_in_words() -> None:
    inner: object = [{"top_k": 3}]
    for _ in range(64):
        inner = [{"when": "step < 9", "then": inner}]
    with pytest.raises(StrategyError) as caught:
        Strategy.from_dict({"pipeline": inner})
    assert caught.value.code == "too-deep"


def test_tests_nested_by_and_and_or_count_as_levels() -> None:
    text = "sample until " + "(" * 40 + "eos" + " or eos) and max_tokens(3)" * 40
    with pytest.raises(StrategyError) as caught:
        P(text)
    assert caught.value.code == "too-deep"
    round_trip(P("sample until " + "(" * 30 + "eos" + " or eos) and max_tokens(3)" * 30))


@pytest.mark.parametrize(
    ("source", "written"),
    [('a"b', r"a\x22b"), (r"\"", r"\x22"), ("a\nb", r"a\x0ab"), ("\x7f", r"\x7f"), (r"\d", r"\d"), ("é", "é"),
     ("\u2028", r"\u2028"), ("\U000e0001", r"\U000e0001"), ("\\\n", r"\x0a"), (r'\\"', r"\\\x22")],
)  # fmt: skip
def test_a_pattern_is_kept_as_a_raw_string_can_write_it(source: str, written: str) -> None:
    pattern = Pattern(source)
    assert pattern.source == written
    assert Pattern(written) == pattern
    strategy = Strategy.from_dict({"pipeline": [{"ban": {"tokens": [{"regex": source}]}}]})
    assert strategy.to_text() == f'ban(r"{written}")'
    round_trip(strategy)


@pytest.mark.parametrize(
    ("source", "found"), [('a"b', 'xa"b'), ("[\n\x7f]", "\x7f"), (r"\"$", '"'), ('(?x) a "', 'a"')]
)
def test_a_pattern_so_written_finds_the_same(source: str, found: str) -> None:
    assert Pattern(source).search(found)
    assert not Pattern(source).search("y")


def test_a_pattern_under_x_stands_on_one_line() -> None:
    with pytest.raises(StrategyError, match=r"\(\?x\) stands on one line"):
        Pattern("(?x) a # the first\n b")
    assert Pattern("(?x) a\x0b b").search("ab")


def test_fmt_keeps_a_raw_string_raw() -> None:
    text = 'ban(r"\x7f") | sample\n'
    assert format_text(text) == text
    assert parse_program(format_program(parse_program(text))) == parse_program(text)


def test_half_a_surrogate_pair_in_a_pattern_of_a_document_is_refused() -> None:
    with pytest.raises(StrategyError, match="half of a surrogate pair"):
        Strategy.from_dict({"pipeline": [{"ban": {"tokens": [{"regex": "\ud800"}]}}]})


def test_an_error_in_the_until_of_a_phase_is_told_as_it_is() -> None:
    strategy = P("phases({ greedy until stop_ids(198) }, { sample })")
    with pytest.raises(StrategyError, match=r"^error: stop_ids: token id 198 is outside the vocabulary") as caught:
        strategy.distribution(torch.zeros(1, 3), output=[1])
    assert caught.value.column == len("phases({ greedy until ") + 1


@pytest.mark.parametrize("number", ["6.2e27", "9223372036854775808", "1e19 - 1"])
def test_a_whole_number_that_no_device_holds_is_refused(number: str) -> None:
    """It was written with all its digits, which no document may hold, and compared as if it had run over."""
    with pytest.raises(StrategyError, match="'min_keep' of 'top_p' is out of range") as caught:
        P(f"top_p(0.5, min_keep={number})")
    assert caught.value.code == "range"
    most = P("top_p(0.1, min_keep=9223372036854775807)")
    round_trip(most)
    assert (most.distribution(torch.randn(2, 5)) > 0).all()
