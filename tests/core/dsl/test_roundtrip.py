"""Laws over documents made by chance: text -> object -> JSON -> object -> text is a fixed point; nothing crashes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitmill.core.dsl import read
from logitmill.core.dsl.files import read_json, read_yaml
from logitmill.core.dsl.layout import format_program
from logitmill.core.dsl.parse import parse_program
from logitmill.core.dsl.write import to_lines, to_yaml
from logitmill.core.errors import StrategyError
from logitmill.core.patch import patched
from logitmill.core.strategy import Strategy

Make = Callable[[Random], str]
chances = st.randoms(use_true_random=False)


def refused_in_words(reading: Callable[[], Any]) -> None:
    """It is read, or refused by a StrategyError that says something; any other error is a fault."""
    said = "error: "
    try:
        reading()
    except StrategyError as error:
        said = str(error)
    assert said.startswith("error: ")


slow = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
data = st.data()


@slow
@given(data)
def test_text_object_json_object_text(make_program: Make, data: st.DataObject) -> None:
    strategy = Strategy.parse(make_program(data.draw(chances)))
    text = strategy.to_text()
    document = json.loads(json.dumps(strategy.to_dict()))
    again = Strategy.from_dict(document)
    assert again == strategy
    assert again.to_text() == text
    assert again.to_dict() == document
    assert Strategy.parse(text) == strategy
    assert Strategy.parse(to_lines(strategy)) == strategy
    assert again.hash == strategy.hash


@slow
@given(data)
def test_files_say_the_same(make_program: Make, data: st.DataObject) -> None:
    strategy = Strategy.parse(make_program(data.draw(chances)))
    assert read_yaml(to_yaml(strategy)) == strategy.to_dict()
    assert read_json(json.dumps(strategy.to_dict())) == strategy.to_dict()


@slow
@given(data)
def test_the_hash_is_of_what_runs(make_program: Make, data: st.DataObject) -> None:
    strategy = Strategy.parse(make_program(data.draw(chances)))
    assert patched(strategy).hash == strategy.hash
    assert Strategy.parse(strategy.to_text() + "\n# a comment").hash == strategy.hash


@slow
@given(data)
def test_fmt_is_a_fixed_point_and_keeps_every_comment(make_program: Make, data: st.DataObject) -> None:
    chance, text = data.draw(chances), ""
    for number, piece in enumerate(re.findall(r'"(?:\\.|[^"\\])*"|[^"\s]+', make_program(chance))):
        text += piece
        if not re.search(r"\br$", piece):  # nothing may come between r and its quote
            text += chance.choice([" ", "\n", f" # c{number}\n", f"\n# own {number}\n", "\n\n"])
    tree = parse_program(text)
    printed = format_program(tree)
    again = parse_program(printed)
    assert again == tree
    assert format_program(again) == printed
    assert sorted(c.text for c in again.comments) == sorted(c.text for c in tree.comments)


@slow
@given(data)
def test_a_damaged_text_is_refused_or_read_and_never_crashes(make_program: Make, data: st.DataObject) -> None:
    text = make_program(data.draw(chances))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text = (
            text[:at]
            + data.draw(st.text(max_size=3) | st.sampled_from([*'|(){}[]=,:"#~<-', " let ", " until "]))
            + text[at + cut :]
        )
    refused_in_words(lambda: Strategy.parse(text).to_dict())


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["eos", "top_k@2", "when"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from("pipeline stage args until when then as expr ramp over any not stop x".split()),
            inner,
            max_size=2,
        )
    ),
    max_leaves=4,
)


@slow
@given(data)
def test_a_damaged_document_is_refused_or_read_and_never_crashes(make_program: Make, data: st.DataObject) -> None:
    document: Any = Strategy.parse(make_program(data.draw(chances))).to_dict()
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(junk)
            break
        place = place[key]
    refused_in_words(lambda: read.from_dict(document).to_text())


@given(st.text() | st.text('|(){}[]=,:"#~<>-.0123456789abct \n', max_size=40))
def test_any_text_at_all(text: str) -> None:
    refused_in_words(lambda: Strategy.parse(text))


@given(st.text(max_size=60) | st.text("{}[]:,-&*!|>#'\"%@ \n?ab01", max_size=40))
def test_any_yaml_at_all(text: str) -> None:
    refused_in_words(lambda: read_yaml(text))
    refused_in_words(lambda: read_json(text))
