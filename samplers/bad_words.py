"""Words that never come, in each form in which a word can begin."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .token_keys import TokenKey, endings, inside, resolve
from .token_rules import Rules, banned


class BadWords(LogitsProcessor):
    """Remove the token that would complete one of these words.

    A text stands for the word with a leading space and without one (``spaces=false``: for the text as written). Of
    each form these go: every single token that has exactly this text; and of the tokens that the tokenizer makes of
    it, at the start of a text and after a line break, the last one where the others are there already, prompt
    included. Ids, sequences of ids and patterns mean what they mean to ``ban``. A word that is just an end-of-sequence
    token is passed over. If nothing else were left, the best token stays.

    Not covered: other cases (Cat, CAT); the word split in another way ("c", "at"); a token that holds it and more
    ("cats"). Covered though maybe not meant: the word as the end of a longer one, where its tokens are the same.

    Source: transformers' bad_words_ids (NoBadWordsLogitsProcessor), which it equals on ids and sequences of ids.
    """

    masks_only: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    variadic: ClassVar[str | None] = "words"
    identity_when: ClassVar[dict[str, Any]] = {"words": ()}
    examples: ClassVar[tuple[str, ...]] = (
        'bad_words("however", "User:")',
        'bad_words("\\n\\n", spaces=false)',
        "bad_words(5, [6, 7])",
    )

    words: tuple[TokenKey, ...] = Field(description='what never comes, as in bad_words("however", "once again")')
    spaces: bool = Field(True, description="whether a text stands for itself with and without a leading space")

    def prepare(self, vocab: Vocab) -> Rules:
        keys = [key for word in self.words for key in self._forms(word, vocab)]
        found = resolve(keys, vocab, "bad_words")
        singles = [i for i in found.singles if i not in vocab.eos_ids]
        sequences = dict.fromkeys(found.sequences)
        return Rules(vocab.mask(singles), endings([(sequence, 1.0) for sequence in sequences], vocab))

    def _forms(self, word: Any, vocab: Vocab) -> list[Any]:
        """The keys that a word stands for."""
        if not isinstance(word, str):
            return [word]
        bare = word.removeprefix(" ")
        forms = [bare, f" {bare}"] if self.spaces and bare else [word]
        keys: list[Any] = []
        for form in forms:
            splits = [tuple(vocab.encode(form)), inside(form, vocab)] if form else []
            keys += [form, *(ids for ids in splits if ids)]
        return keys

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return dist.keep(~banned(dist, ctx, ctx.prepared(self)))


__all__ = ["BadWords"]
