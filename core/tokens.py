"""Token ids to text: the text of each id, and text that grows token by token and never ends in half a character.

Three kinds of tokenizer are told apart by the decoder that the ``tokenizers`` library runs for them:

- byte-level (GPT-2, SmolLM2, Llama 3, Qwen): a token is bytes, a text is their concatenation read as UTF-8;
- byte fallback (Llama 2, Mistral, Gemma): a token is text, but for <0x00>..<0xFF>. A run of those is read as UTF-8 as a
  whole or, where that fails, as one U+FFFD for each byte, so that only the end of a run settles its text;
- any other: text by what ``decode`` says about a window of tokens, held back while it ends in U+FFFD.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Protocol
from weakref import WeakKeyDictionary

REPLACEMENT = "�"
PATIENCE = 64
"""Tokens of an unknown kind of tokenizer whose text may be held back, before it is let go as it is."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText:
    """The text of a growing list of token ids.

    ``push`` takes one id and returns what can be said now; ``finish`` returns the rest. Joined, the pieces equal
    ``tokenizer.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)``, and no piece ends
    inside a character. Time per token does not grow with the number of tokens.
    """

    def __init__(self, tokenizer: Any, skip_special: bool = True) -> None:
        facts = _facts(tokenizer)
        self._skip = facts.special if skip_special else frozenset()
        self._piece: _Piece = (
            _Bytes(facts.bytes) if facts.bytes is not None else _Window(tokenizer, facts.fallback, facts.has_fallback)
        )

    def push(self, token: int) -> str:
        """Text that ``token`` completes, possibly none."""
        return "" if token in self._skip else self._piece.push(token)

    def finish(self) -> str:
        """What was held back, incomplete bytes as U+FFFD. Call once, last."""
        return self._piece.finish()


def token_texts(tokenizer: Any) -> list[str]:
    """The text of each id inside a text (not at its start, where some tokenizers drop a space), by id.

    Bytes that are no whole character read as U+FFFD; ``token_bytes`` has them exactly. Special tokens read as written.
    Ids the tokenizer lacks are "".
    """
    return [data.decode("utf-8", "replace") for data in token_bytes(tokenizer)]


def token_bytes(tokenizer: Any) -> list[bytes]:
    """The UTF-8 bytes of each id inside a text, by id; tokens may hold parts of characters."""
    facts = _facts(tokenizer)
    if facts.bytes is not None:
        return list(facts.bytes)
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    anchor, before = _anchor(tokenizer, size, facts)
    pairs = [[*anchor, token] for token in range(size)]
    texts = tokenizer.batch_decode(pairs, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    inside = [text.removeprefix(before).encode("utf-8") for text in texts]
    for token, byte in facts.fallback.items():
        inside[token] = bytes([byte])
    return inside


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that ``decode(skip_special_tokens=True)`` leaves out."""
    return _facts(tokenizer).special


class _Piece(Protocol):
    def push(self, token: int) -> str: ...

    def finish(self) -> str: ...


class _Bytes:
    """Byte-level tokens through an incremental UTF-8 decoder, which replaces what the tokenizers library replaces."""

    def __init__(self, table: tuple[bytes, ...]) -> None:
        self.table = table
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self.decoder.decode(self.table[token]) if 0 <= token < len(self.table) else ""

    def finish(self) -> str:
        return self.decoder.decode(b"", final=True)


class _Window:
    """What ``decode`` says of the tokens since the last cut, less what it said of those already told.

    The window keeps the tokens of one earlier piece before the new ones: some decoders treat the first token apart.
    """

    def __init__(self, tokenizer: Any, fallback: dict[int, int], has_fallback: bool) -> None:
        self.tokenizer, self.fallback, self.has_fallback = tokenizer, fallback, has_fallback
        self.ids: list[int] = []
        self.told = 0  # of ids, those whose text has been returned
        self.text = ""  # the text of ids[:told]

    def push(self, token: int) -> str:
        self.ids.append(token)
        if token in self.fallback:  # the run of bytes is not over
            return ""
        text = self._decode(self.ids)
        unsure = text.endswith(REPLACEMENT) and not self.has_fallback
        if not text.startswith(self.text) or (unsure and len(self.ids) - self.told < PATIENCE):
            return ""
        piece = text[len(self.text) :]
        if piece:  # a token without text may still change the next one's: it stays in the window
            self.ids = self.ids[self.told :]
            self.told = len(self.ids)
            self.text = self._decode(self.ids)
        return piece

    def finish(self) -> str:
        return self._decode(self.ids)[len(self.text) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class _Facts:
    """What the tokenizer's decoder tells: ``bytes`` by id where it is byte-level; ``fallback`` ids and their bytes."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            self.special = frozenset(int(i) for i in tokenizer.all_special_ids)
            self.bytes: tuple[bytes, ...] | None = None
            self.has_fallback, self.fallback = False, {}
            return
        self.special = frozenset(index for index, token in backend.get_added_tokens_decoder().items() if token.special)
        kinds = _decoders(json.loads(backend.decoder.__getstate__()) if backend.decoder is not None else None)
        vocab: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self.bytes = _byte_level(vocab) if kinds == ["ByteLevel"] else None
        self.has_fallback = "ByteFallback" in kinds
        self.fallback = (
            {index: int(match[1], 16) for token, index in vocab.items() if (match := _BYTE.fullmatch(token))}
            if self.has_fallback
            else {}
        )


_cache: WeakKeyDictionary[Any, tuple[tuple[int, int], _Facts]] = WeakKeyDictionary()


def _facts(tokenizer: Any) -> _Facts:
    """The facts of a tokenizer, once for as long as its vocabulary keeps its size."""
    version = (len(tokenizer), len(tokenizer.all_special_ids))
    kept = _cache.get(tokenizer)
    if kept is None or kept[0] != version:
        kept = version, _Facts(tokenizer)
        _cache[tokenizer] = kept
    return kept[1]


def _decoders(decoder: dict[str, Any] | None) -> list[str]:
    """The kinds of decoder that run, in order."""
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [kind for inner in decoder["decoders"] for kind in _decoders(inner)]
    return [str(decoder["type"])]


def _byte_level(vocab: dict[str, int]) -> tuple[bytes, ...]:
    """Bytes by id: each character of a token stands for a byte, unless one stands for none; then it is plain text."""
    to_byte = _alphabet()
    table = [b""] * (max(vocab.values(), default=-1) + 1)
    for token, index in vocab.items():
        try:
            table[index] = bytes(to_byte[character] for character in token)
        except KeyError:
            table[index] = token.encode("utf-8")
    return tuple(table)


def _alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: those that print stand for themselves, others follow U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def _anchor(tokenizer: Any, size: int, facts: _Facts) -> tuple[list[int], str]:
    """Tokens to put before another so that it is read as inside a text, and their text."""
    for token in range(size):
        if token in facts.special or token in facts.fallback:
            continue
        text = str(tokenizer.decode([token, token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if text.strip() and REPLACEMENT not in text:
            return [token, token], text
    return [], ""
