"""Odd texts: line ends, byte order marks, tabs, emoji, limits; and the spelling of names, numbers and strings."""

from __future__ import annotations

import pytest

from logitmill.core.dsl import syntax
from logitmill.core.dsl.parse import parse_expression, parse_program
from logitmill.core.dsl.write import format_text
from logitmill.core.errors import Span, StrategyError
from logitmill.core.strategy import Strategy

PLAIN = Strategy.parse("temperature(0.8) | sample")


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftemperature(0.8) | sample",
        "temperature(0.8)\r\n| sample\r\n",
        "temperature(0.8)\r| sample",
        "\ttemperature(\t0.8\t)\t|\tsample\t",
        "temperature(0.8)|sample",
        "temperature ( 0.8 ) | sample # with | a comment) until",
        "# first\ntemperature(0.8,) # second\n| sample\n# third",
        "temperature(value=8e-1) | sample()",
    ],
)
def test_the_same_strategy(text: str) -> None:
    assert Strategy.parse(text) == PLAIN


@pytest.mark.parametrize("text", ["", " \n\t", "# only\n# comments", "\ufeff"])
def test_nothing_is_an_error(text: str) -> None:
    with pytest.raises(StrategyError, match="empty"):
        Strategy.parse(text)


def test_an_empty_pipeline_is_written_as_braces() -> None:
    assert Strategy.parse("{}") == Strategy()
    assert Strategy().to_text() == "{}"
    assert Strategy.from_dict(Strategy().to_dict()) == Strategy()


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\u00a0", "\u2028", "…", "😀"])
def test_a_stray_character_is_named_at_its_place(char: str) -> None:
    with pytest.raises(StrategyError, match="stray character") as caught:
        Strategy.parse(f"temperature(0.8) {char}| sample")
    assert caught.value.column == len("temperature(0.8) ") + 1


def test_columns_count_characters() -> None:
    with pytest.raises(StrategyError) as caught:
        Strategy.parse('sample until\nstop("😀é") or topp')
    assert (caught.value.line, caught.value.column) == (2, 15)


@pytest.mark.parametrize("keyword", "until with as use let when else over by and or not in true false dsl".split())
def test_names_may_contain_keywords(keyword: str) -> None:
    for name in (f"{keyword}_", f"_{keyword}", f"{keyword}x", f"x{keyword}", f"{keyword}1"):
        tree = parse_program(f"{name}({name}=1) | a.{name} as {name} until {name} or {name} and not {name} in {name}")
        first = tree.items[0]
        assert isinstance(first, syntax.Let)
        assert isinstance(first.body.stages[0], syntax.Stage)
        assert first.body.stages[0].call.name.text == name


def test_fields_may_be_named_as_some_words_of_the_language() -> None:
    tree = parse_expression('f(by=a, over="output", when=1, use=2)')
    assert isinstance(tree, syntax.Call)
    assert [arg.key.text for arg in tree.args if arg.key] == ["by", "over", "when", "use"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"a\\n\\t\\"\\\\\\/\\u00e9"', 'a\n\t"\\/é'),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\ud83d\\ude00\\ud83d\\ude01x"', "😀😁x"),
        ('"😀"', "😀"),
        ('r"\\d\\u0041"', "\\d\\u0041"),
        ('"\\u0000"', "\0"),
    ],
)
def test_strings(text: str, value: str) -> None:
    tree = parse_expression(text)
    assert isinstance(tree, syntax.Text)
    assert tree.value == value


@pytest.mark.parametrize(
    "text", [r'"\ud83d"', r'"\ude00"', r'"\ud83dx\ude00"', r'"\ud83d\ud83d"', r'"\x"', r'"\u12"', '"\ud800"']
)
def test_strings_that_are_none(text: str) -> None:
    with pytest.raises(StrategyError) as caught:
        parse_expression(text)
    assert isinstance(caught.value.where, Span)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("(a + b) + c - (d + e)", "a + b + c - (d + e)"),
        ("a*(b + c)/(d*e)", "a*(b + c)/(d*e)"),
        ("(a or b) or (c and d)", "a or b or c and d"),
        ("(a or b) and not (c or d)", "(a or b) and not (c or d)"),
        ("not not a", "not not a"),
        ("-(a + b)*-2", "-(a + b)*-2"),
        ("- 3 - -3", "-3 - -3"),
        ("(a < b) == (c in [1, 2])", "(a < b) == (c in [1, 2])"),
        ("1.50e+3", "1500.0"),
        ("0.00001", "1e-5"),
    ],
)
def test_parentheses_are_the_least_that_keep_the_meaning(text: str, printed: str) -> None:
    assert format_text(f"f({text})").strip() == f"f({printed})"
    assert parse_program(f"f({printed})") == parse_program(f"f({text})")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2000,
        "(" * 2000 + ")" * 2000,
        "f(" * 2000 + ")" * 2000,
        "x | f(" + "[" * 2000 + "]" * 2000 + ")",
        "{" * 65 + "}" * 65,
        "when a { " * 100 + "b" + " }" * 100,
        "f(" + "not " * 2000 + "a)",
        "f(" + "- " * 2000 + "a)",
        "when a {b} " + "else when a {b} " * 2000,
    ],
)
def test_deep_nesting_is_refused_in_words(text: str) -> None:
    with pytest.raises(StrategyError, match="nested deeper than 64"):
        Strategy.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "|".join(["top_k(3)"] * 900) + "|sample",
        "temperature(" + "+".join(["1"] * 20_000) + ")",
        "sample until " + " or ".join(["max_tokens(3)"] * 2000),
        "ban(" + ",".join(["1"] * 12_000) + ")",
    ],
)
def test_long_chains_are_no_nesting(text: str) -> None:
    strategy = Strategy.parse(text)
    assert Strategy.parse(strategy.to_text()) == strategy


def test_sixty_levels_are_allowed() -> None:
    text = "when entropy < 1 { " * 60 + "greedy" + " } else { greedy }" * 60
    strategy = Strategy.parse(text)
    assert Strategy.from_dict(strategy.to_dict()) == strategy


def test_size_is_counted_in_bytes() -> None:
    fits = 'ban("' + "x" * (64 * 1024 - 7) + '")'
    assert len(fits) == 64 * 1024
    assert Strategy.parse(fits)
    for text in (fits + " ", 'ban("' + "é" * 33_000 + '")'):
        with pytest.raises(StrategyError, match="bytes") as caught:
            Strategy.parse(text)
        assert caught.value.code == "too-long"


def test_fmt_breaks_what_is_long_and_keeps_comments(golden: object) -> None:
    text = """# a house's strategies

# shared
dsl 1 # the version
use "house" as house # theirs

let creative(t=0.9, p=0.95) = temperature(t) | top_p(p) | sample # short
let   careful = when within("<think>", "</think>") { temperature(1.0) | top_p(0.98) } else { temperature(0.4)
| min_p(0.1) } | sample
let rules = ban( # never
  "a", # this
  # nor
  "b") | bias([1: 2, 3: 4]) # at last
let main = creative(t=1.1) # hot
  until eos # natural
     or max_tokens(512) # bound
  with sample.seed=3
# end
"""
    printed = format_text(text)
    assert format_text(printed) == printed
    assert parse_program(printed) == parse_program(text)
    golden(printed, "fmt/house.txt")  # type: ignore[operator]  # a fixture
