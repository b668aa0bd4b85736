"""Detokenization: streamed pieces join to exactly what decode says, and never hold part of a character."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from logitmill.core.tokens import REPLACEMENT, TokenText, special_ids, token_bytes, token_texts

CORPUS = ["the cat sat on the mat, naïve café!", "数学 и música 😀👍🏽 fin", "a  b   c\n\td 1234"] * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    return wrapped(tokenizer)


def llama() -> PreTrainedTokenizerFast:
    """Byte fallback and a stripped first space, as Llama 2 and Mistral have them."""
    pieces = [
        "<unk>",
        *BYTES,
        "▁",
        "t",
        "h",
        "e",
        "▁the",
        "▁c",
        "at",
        "▁▁",
        "é",
        "<0x4>",
        REPLACEMENT,
        "▁" + REPLACEMENT,
    ]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return wrapped(tokenizer)


def gemma() -> PreTrainedTokenizerFast:
    """Byte fallback and no stripped space."""
    pieces = ["<unk>", *BYTES, "▁", "a", "▁a", "▁▁▁", "é"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return wrapped(tokenizer)


def metaspace() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>"], unk_token="<unk>")
    )
    return wrapped(tokenizer)


def word_pieces() -> PreTrainedTokenizerFast:
    pieces = ["[UNK]", "the", "cat", "##s", "##ing", ".", ",", "n", "'", "t", "do"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return wrapped(tokenizer)


def plain() -> PreTrainedTokenizerFast:
    """No decoder at all: tokens are joined by spaces."""
    return wrapped(Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]")))


BUILDERS = [byte_level, llama, gemma, metaspace, word_pieces, plain]
build = functools.cache(lambda builder: builder())


def pieces_of(tokenizer: Any, ids: list[int], skip: bool) -> list[str]:
    text = TokenText(tokenizer, skip)
    return [*(text.push(token) for token in ids), text.finish()]


@pytest.mark.parametrize("builder", BUILDERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_pieces_join_to_what_decode_says(builder: Any, data: st.DataObject) -> None:
    tokenizer = build(builder)
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=40))
    for skip in (True, False):
        want = tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        assert "".join(pieces_of(tokenizer, ids, skip)) == want


@pytest.mark.parametrize("builder", [byte_level, llama, gemma])
@given(text=st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_no_piece_of_a_proper_text_holds_part_of_a_character(builder: Any, text: str) -> None:
    tokenizer = build(builder)
    ids = tokenizer(text.replace(REPLACEMENT, ""), add_special_tokens=False)["input_ids"]
    if builder is not byte_level:  # what the toy vocabulary lacks goes through its bytes
        ids = [1 + byte for byte in text.replace(REPLACEMENT, "").encode("utf-8", "ignore")]
    assert REPLACEMENT not in "".join(pieces_of(tokenizer, ids, True))


def test_a_character_comes_out_with_its_last_byte() -> None:
    tokenizer = build(byte_level)
    vocab = tokenizer.get_vocab()
    stands_for = {data: token for token, data in enumerate(token_bytes(tokenizer)) if len(data) == 1}
    text = TokenText(tokenizer)
    assert [text.push(stands_for[bytes([byte])]) for byte in "é😀".encode()] == ["", "é", "", "", "", "😀"]
    assert text.push(vocab["</s>"]) == ""
    assert text.finish() == ""


def test_bytes_that_never_become_a_character_are_flushed() -> None:
    tokenizer = build(byte_level)
    stands_for = {data: token for token, data in enumerate(token_bytes(tokenizer)) if len(data) == 1}
    text = TokenText(tokenizer)
    assert text.push(stands_for[b"\xf0"]) == ""
    assert text.push(stands_for[b"a"]) == REPLACEMENT + "a"
    assert text.push(stands_for[b"\xf0"]) == ""
    assert text.finish() == REPLACEMENT


def test_an_invalid_byte_spoils_its_whole_run_as_byte_fallback_has_it() -> None:
    tokenizer = build(llama)
    run = [1 + byte for byte in "é".encode()]
    assert pieces_of(tokenizer, [*run, 258, 258], True)[:3] == ["", "", "ét"]
    assert pieces_of(tokenizer, [*run, 1 + 0xFF, 258], True)[-2:] == [REPLACEMENT * 3 + "t", ""]


def test_long_texts_do_not_slow_down() -> None:
    """Counted in tokens decoded, not in seconds: at most a few for each token pushed, however long the text."""

    class Counting:
        def __init__(self, inner: Any) -> None:
            self.inner, self.decoded = inner, 0
            self.backend_tokenizer, self.all_special_ids = inner.backend_tokenizer, inner.all_special_ids

        def __len__(self) -> int:
            return len(self.inner)

        def decode(self, ids: list[int], **options: Any) -> str:
            self.decoded += len(ids)
            return str(self.inner.decode(ids, **options))

    for builder in BUILDERS:
        counting = Counting(build(builder))
        for ids in ([3, 260, 7] * 400, [7] * 1200, [20] * 1200):
            known = [token % len(counting) for token in ids]
            counting.decoded = 0
            pieces_of(counting, known, True)
            assert counting.decoded <= 8 * len(ids)


@pytest.mark.parametrize("builder", BUILDERS)
def test_texts_of_tokens_are_what_they_add_inside_a_text(builder: Any) -> None:
    tokenizer = build(builder)
    texts = token_texts(tokenizer)
    assert len(texts) == len(tokenizer)
    anchor = tokenizer.get_vocab()[
        {byte_level: "a", llama: "t", gemma: "a", metaspace: "e", word_pieces: "n", plain: "a"}[builder]
    ]
    start = tokenizer.decode([anchor], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for token, text in enumerate(texts):
        if REPLACEMENT not in text and token not in range(1, 257):
            both = tokenizer.decode([anchor, token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            assert both == start + text


def test_bytes_of_tokens_hold_parts_of_characters() -> None:
    for builder in (byte_level, llama, gemma):
        assert {bytes([byte]) for byte in range(256)} <= set(token_bytes(build(builder)))
    assert token_bytes(build(llama))[1 + 0xE2] == b"\xe2"
    assert token_texts(build(llama))[1 + 0xE2] == REPLACEMENT


def test_special_ids_are_those_that_decode_skips() -> None:
    tokenizer = build(byte_level)
    vocab = tokenizer.get_vocab()
    assert special_ids(tokenizer) == {vocab["<s>"], vocab["</s>"]}
    assert token_texts(tokenizer)[vocab["<think>"]] == "<think>"


def test_a_token_added_later_is_known() -> None:
    tokenizer = byte_level()
    assert len(token_texts(tokenizer)) == len(tokenizer)
    tokenizer.add_tokens(["<tool>"])
    assert token_texts(tokenizer)[-1] == "<tool>"
