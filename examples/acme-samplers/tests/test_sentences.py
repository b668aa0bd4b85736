from __future__ import annotations

import pytest
from acme_samplers.sentences import Sentences

import logitmill as lm


@pytest.mark.parametrize(
    ("text", "n", "kept"),
    [
        ("One. Two.", 1, "One."),
        ("One. Two.", 2, None),  # white space has yet to follow
        ("One. Two. ", 2, "One. Two."),
        ("Pi is 3.14 or so", 1, None),
        ('"Stop!" he said', 1, '"Stop!"'),
        ("What?! No", 1, "What?!"),
        ("", 1, None),
    ],
)
def test_where_the_text_ends(text: str, n: int, kept: str | None):
    end = Sentences(n).check_text(text, None)
    assert (None if end is None else text[:end]) == kept


def test_a_text_that_stopped_once_stops_at_the_same_place_however_it_goes_on():
    text = "A first one. A second one! A third"
    first = next(end for i in range(len(text)) if (end := Sentences(1).check_text(text[:i], None)))
    assert Sentences(1).check_text(text, None) == first


def test_stands_in_a_stop_test():
    strategy = lm.Strategy.parse("greedy until acme.sentences(2) or max_tokens(64)")
    assert lm.Strategy.parse(strategy.to_text()) == strategy
