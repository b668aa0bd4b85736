"""bad_words: the forms a word can begin in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from logitmill.core.dist import Dist
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Pattern


def gone(bench: Any, text: str, *words: Any, **fields: Any) -> set[str]:
    """The texts of the tokens that go after ``text``."""
    tokenizer = bench.tokenizer()
    dist = Dist(torch.zeros(1, len(tokenizer)))
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    ctx = bench.context(dist, tokens[:1], tokens[1:], tokenizer=tokenizer)
    after = bench.run(bench.stage("bad_words", *words, **fields), dist, ctx)
    return {ctx.vocab.texts[i] for i in (~after.alive[0]).nonzero()[:, 0].tolist()}


def test_a_word_with_and_without_its_space(bench: Any) -> None:
    for word in ("cat", " cat"):
        assert gone(bench, "yes", word) == {"cat", " cat"}
    assert gone(bench, "yes", "cat", spaces=False) == {"cat"}
    assert gone(bench, "yes", " cat", spaces=False) == {" cat"}


def test_a_word_of_several_tokens_loses_its_last(bench: Any) -> None:
    """These are "the" and " cat", and with a space " the" and " cat"."""
    assert gone(bench, "yes", "the cat") == set()
    assert gone(bench, "yes the", "the cat") == {" cat"}
    assert gone(bench, "the", "the cat") == {" cat"}
    assert gone(bench, "the", " the cat", spaces=False) == set()
    assert gone(bench, "yes the", "the cat", "cat") == {" cat", "cat"}


def test_a_word_without_a_token_of_its_own(bench: Any) -> None:
    """The word dog is letters in this vocabulary, with a space too: the last goes in either form."""
    tokenizer = bench.tokenizer()
    for form in ("dog", " dog"):
        *before, last = (tokenizer.decode([i]) for i in tokenizer.encode(form, add_special_tokens=False))
        assert gone(bench, "yes\n" + "".join(before), "dog") == {last}
    assert gone(bench, "yes", "dog") == set()


def test_ids_sequences_and_patterns_are_as_in_ban(bench: Any) -> None:
    logits = [[0.0] * 6] * 3
    tokens = [[1], [2], []]
    for words in ([4, [1, 3]], [[1, 3], [4]]):
        assert bench.kept(bench.stage("bad_words", words), logits, tokens) == bench.kept(
            bench.stage("ban", 4, [1, 3]), logits, tokens
        )
    assert gone(bench, "yes", Pattern(r"^ ?yes$")) == {"yes", " yes"}


def test_the_end_alone_is_passed_over(bench: Any) -> None:
    assert gone(bench, "yes", "<|end|>", "cat") == {"cat", " cat"}
    assert bench.kept(bench.stage("bad_words", 2, 3, [1, 2]), [[0.0] * 4] * 2, [[0], [1]], eos=(2,)) == [
        [0, 1, 2],
        [0, 1],
    ]


def test_rows_are_told_apart_and_one_token_stays(bench: Any) -> None:
    stage = bench.stage("bad_words", [1, 2], [3, 3, 2], 0)
    assert bench.kept(stage, [[0.0] * 4] * 4, [[1], [3, 3], [3], []]) == [[1, 3], [1, 3], [1, 2, 3], [1, 2, 3]]
    assert bench.kept(bench.stage("bad_words", 0, 1), [1.0, 2.0]) == [[1]]
    assert bench.stage("bad_words", []).is_identity()


def test_errors(bench: Any) -> None:
    with pytest.raises(StrategyError, match="no tokens"):
        gone(bench, "yes", "")
    with pytest.raises(StrategyError, match="needs a tokenizer"):
        bench.apply(bench.stage("bad_words", "cat"), [0.0, 0.0])
    with pytest.raises(StrategyError, match="outside the vocabulary"):
        bench.apply(bench.stage("bad_words", 9), [0.0, 0.0])


def test_a_tokenizer_that_puts_a_space_before_a_text(bench: Any) -> None:
    """As Llama 2's does: inside a line the word has the token without the space, which its text alone never shows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {
        piece: i for i, piece in enumerate(["<unk>", "▁", "▁cat", "cat", "c", "a", "t", "d", "o", "do", "▁d", "\n"])
    }
    merges = [("c", "a"), ("ca", "t")]
    vocab["ca"] = len(vocab)
    made = Tokenizer(models.BPE(vocab=vocab, merges=[*merges, ("▁", "cat"), ("d", "o"), ("▁", "d")], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    assert tokenizer.encode("cat") == [vocab["▁cat"]]
    dist = Dist(torch.zeros(1, len(vocab)))
    ctx = bench.context(dist, [vocab["a"]], tokenizer=tokenizer)
    after = bench.run(bench.stage("bad_words", "cat"), dist, ctx)
    assert (~after.alive[0]).nonzero()[:, 0].tolist() == [vocab["▁cat"], vocab["cat"]]
    assert tokenizer.encode("dot") == [vocab["▁"], vocab["do"], vocab["t"]]
    for before, left in [(["▁", "do"], ["t"]), (["\n", "do"], ["t"]), (["c", "do"], ["t"]), (["o"], [])]:
        ctx = bench.context(dist, [vocab[piece] for piece in before], tokenizer=tokenizer)
        after = bench.run(bench.stage("bad_words", "dot"), dist, ctx)
        assert (~after.alive[0]).nonzero()[:, 0].tolist() == [vocab[piece] for piece in left], before
