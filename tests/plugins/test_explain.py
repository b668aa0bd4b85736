"""``logitmill explain``: the tables of one or more steps."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from logitmill.core.strategy import Strategy
from logitmill.plugins.cli.explain import planned, quoted

Run = Callable[..., Result]


@pytest.fixture
def explain(logitmill: Run, alphabet: str) -> Run:
    def call(*args: str, **extra: object) -> Result:
        return logitmill("explain", *args, "-m", alphabet, "-q", "none", **extra)

    return call


def test_a_table(explain: Run, golden: Callable[[str, str], None]):
    result = explain("temperature(4.0) | top_k(20) | top_p(0.5) | greedy", "a")
    assert (result.exit_code, result.stderr) == (0, "")
    golden("\n".join(line.rstrip() for line in result.stdout.splitlines()), "explain.txt")


def test_each_step_has_its_table(explain: Run):
    result = explain("top_k(3) | greedy", "a", "--steps", "3", "--top", "1")
    for step, letter in enumerate("bcd"):
        assert f'step {step}: "{letter}", the model\'s number 1,' in result.stdout
    assert result.stdout.count("│ top_k") == 3


def test_the_chosen_tokens_raw_rank(explain: Run):
    """Banning the favourite makes the second the choice."""
    result = explain('ban("b") | greedy', "a", "--json")
    [step] = map(json.loads, result.stdout.splitlines())
    assert step["raw_rank"] == 2
    assert step["stages"][0]["removed_mass"] == pytest.approx(step["stages"][0]["top_before"][0]["p"], rel=1e-4)


def test_it_ends_where_the_strategy_does(explain: Run):
    result = explain("greedy until max_tokens(2)", "a", "--steps", "9")
    assert result.stdout.count("step ") == 2


def test_settings(explain: Run):
    result = explain("top_k(3) | greedy", "a", "--set", "top_k.k=7", "--json")
    assert json.loads(result.stdout)["stages"][0]["kept"] == 7


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("top_k(4) | sample", ["as written: top_k | sample"]),
        (
            "temperature(0.5) | top_k(4) | sample",
            [
                "as written: temperature | top_k | sample",
                "as planned: top_k | temperature | sample  "
                "(the same law in fewer operations; the tables follow what is written)",
            ],
        ),
        (
            'when within("<", ">") { greedy } else { top_p(0.5) | sample }',
            [
                "as written: when { greedy } { top_p | sample }",
                "host-coupled: it reads text or tokens on the host, so each step waits for the one before",
            ],
        ),
    ],
)
def test_the_plan(text: str, lines: list[str]):
    assert planned(Strategy.parse(text)) == lines


def test_wrong_strategies_need_no_model(logitmill: Run):
    result = logitmill("explain", "temperature(1)", "a", "-m", "./nowhere")
    assert result.exit_code == 2
    assert "no sampler after 'temperature'" in result.stderr


def test_tokens_can_be_seen():
    assert [quoted(text) for text in (" a", "\n", '"', "é")] == ['" a"', '"\\n"', '"\\""', '"é"']
