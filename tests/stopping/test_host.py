"""Criteria that the host can tell by itself: they say there what they say on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import logitmill as lm
from logitmill import StoppingCriterion
from logitmill.core.dist import Dist
from logitmill.core.vocab import Vocab

VOCAB = 6
ids = st.lists(st.integers(0, VOCAB - 1), max_size=5)


@pytest.mark.parametrize(
    "text", ["eos", "eos(1, 4)", "stop_ids(0, 3)", "max_tokens(1)", "max_tokens(3)", "max_length(2)", "max_length(6)"]
)
@given(prompt=ids, output=ids, phase=st.integers(0, 5))
def test_the_same_on_both_sides(bench: Any, text: str, prompt: list[int], output: list[int], phase: int) -> None:
    name, _, rest = text.partition("(")
    criterion = bench.stage(name, *map(int, filter(None, rest.rstrip(")").split(","))))
    assert criterion.host_knows()
    dist = Dist(torch.zeros(1, VOCAB))
    ctx = bench.context(dist, [prompt], [output], eos=(2, 5))
    start = len(prompt) + min(phase, len(output))
    view = ctx.starting(torch.tensor([[start]])).at(None, [criterion])
    told = criterion.check_host([*prompt, *output], len(prompt), start, ctx.vocab)
    assert told == bool(criterion.check(view))


class Thrice(lm.eos):  # type: ignore[misc, valid-type]  # a class of the registry
    """A stranger's, on the device alone: what its base tells the host does not hold for it."""

    def check(self, ctx: Any) -> Tensor:
        return ctx.step >= 3


class Both(Thrice):
    """And one that tells the host again."""

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        return len(tokens) - start >= 3


class Text(StoppingCriterion):
    """On text alone."""

    def check_text(self, text: str, ctx: Any) -> bool:
        return "x" in text


def test_whose_word_counts() -> None:
    assert [cls.host_knows() for cls in (lm.eos, Thrice, Both, Text)] == [True, False, True, False]
    assert not StoppingCriterion.host_knows()


def test_a_check_of_its_own_is_asked(make_engine: Any) -> None:
    engine = make_engine()
    for criterion in (Thrice(), Both()):
        result = engine.generate("abc", lm.greedy().until(criterion))
        assert (len(result.tokens), result.finish_reason) == (3, "eos")


def test_special_strings_are_told_as_tokens(make_engine: Any) -> None:
    """`stop` matches a special token by its id, which the text does not show."""
    engine = make_engine()
    special = engine.tokenizer.convert_ids_to_tokens(engine.vocab.eos_ids[0])
    stop, vocab = lm.stop(special), engine.vocab
    assert stop.host_knows()
    assert stop.check_host([1, vocab.eos_ids[0]], 1, 1, vocab)
    assert not stop.check_host([1, vocab.eos_ids[0]], 2, 2, vocab)
    assert not stop.check_host([vocab.eos_ids[0], 1], 1, 1, vocab)
