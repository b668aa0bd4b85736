"""text: where a phase ends, and what the text keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError


def test_the_text_is_kept(bench: Any) -> None:
    text, ctx = bench.stage("text", "</think>", "END"), bench.context(Dist(torch.zeros(1, 9)))
    assert text.check_text("so </think> the", ctx) is True
    assert text.check_text("so END", ctx) is True
    assert text.check_text("so </thin", ctx) is False
    assert text.check_text("", ctx) is False
    assert text.held("so </thin") == 0
    assert text.finish_reason == "stop"


@pytest.mark.parametrize("bad", [[], [""], ["a", ""], [3]])
def test_wants_texts(bench: Any, bad: list[Any]) -> None:
    with pytest.raises(StrategyError):
        bench.stage("text", bad)


@pytest.mark.parametrize("name", ["text", "stop"])
def test_a_special_token_that_is_no_named_one(bench: Any, name: str) -> None:
    """Decoding skips every token that was added as special, whether or not it has a role such as eos."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    backend = type(bench.tokenizer().backend_tokenizer).from_str(bench.tokenizer().backend_tokenizer.to_str())
    backend.add_special_tokens([AddedToken("<|turn|>", special=True, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    (turn,) = tokenizer("<|turn|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode([turn], skip_special_tokens=True) == ""
    dist = Dist(torch.zeros(3, len(tokenizer)))
    ctx = bench.context(dist, [[5], [turn], [5]], [[turn], [], [7]], tokenizer=tokenizer)
    assert bench.run(bench.stage(name, "<|turn|>", "x"), dist, ctx)[:, 0].tolist() == [True, False, False]


@pytest.mark.parametrize("lookahead", [False, True])
def test_while_a_model_runs(make_engine: Any, lookahead: bool) -> None:
    engine = make_engine(lookahead=lookahead)
    ids = engine.vocab.encode("a<b>c<b>d")
    pipe = " | ".join(f"when step == {i} {{ allow({t}) }}" for i, t in enumerate(ids)) + " | greedy"
    z = engine.vocab.encode("z")[0]
    ended = engine.generate("say: ", f'{pipe} until text("<b>") or max_tokens(20)')
    assert (ended.text, ended.finish_reason, ended.criterion) == ("a<b>", "stop", "text")
    phase = f'{{ {pipe} until text("<b>") }}'
    phases = f"phases({phase}, {phase}, {{ allow({z}) | greedy until max_tokens(2) }})"
    assert engine.generate("say: ", phases).text == "a<b>c<b>zz"
    events = list(engine.stream("say: ", f'{pipe} until text("<b>") or max_tokens(20)'))
    assert "".join(event.text for event in events) == "a<b>"
    assert [event.text for event in events[:2]] == ["a", "<"]  # nothing is held back: nothing will be cut
    special = engine.generate(
        "say: ", f'when step == 2 {{ allow({engine.vocab.eos_ids[0]}) }} | greedy until text("<eos>")'
    )
    assert (len(special.tokens), special.criterion) == (3, "text")
