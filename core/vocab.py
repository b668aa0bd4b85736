"""Vocab: what a stage may know of the tokenizer, once for a stage and a tokenizer."""

from __future__ import annotations

import reprlib
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .errors import RequestError, StrategyError


def checked_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer itself, or None. Raises RequestError for anything else, a model's name for instance."""
    if tokenizer is None or (hasattr(tokenizer, "eos_token_id") and callable(tokenizer)):
        return tokenizer
    shown = reprlib.repr(tokenizer) if isinstance(tokenizer, str) else type(tokenizer).__name__
    raise RequestError(f"tokenizer= takes the object itself, such as engine.tokenizer, got {shown}")


class Vocab:
    """The vocabulary behind the logits.

    ``size`` is the number of columns, which may exceed the tokenizer's own count.
    """

    def __init__(
        self, size: int, tokenizer: Any = None, eos_ids: tuple[int, ...] = (), device: torch.device | str = "cpu"
    ) -> None:
        self.size, self.tokenizer, self.device = size, checked_tokenizer(tokenizer), torch.device(device)
        if not eos_ids and tokenizer is not None and tokenizer.eos_token_id is not None:
            eos_ids = (int(tokenizer.eos_token_id),)
        self.eos_ids = eos_ids

    def require_tokenizer(self, who: str) -> Any:
        """The tokenizer, or a StrategyError that says who needs it."""
        if self.tokenizer is None:
            raise StrategyError(f"{who} needs a tokenizer", hint="pass tokenizer=, or use token ids", code="tokenizer")
        return self.tokenizer

    @cached_property
    def texts(self) -> list[str]:
        """The text of each id, "" beyond the tokenizer's own ids. Needs a tokenizer."""
        from .tokens import token_texts

        texts = token_texts(self.require_tokenizer("the text of tokens"))
        return texts[: self.size] + [""] * (self.size - len(texts))

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for token, text in enumerate(self.texts):
            found.setdefault(text, []).append(token)
        return found

    def written(self, text: str) -> list[int]:
        """The ids whose text is exactly this, ascending. Needs a tokenizer."""
        return list(self._by_text.get(text, ())) if text else []

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that decoding skips. Empty without a tokenizer."""
        from .tokens import special_ids

        return frozenset() if self.tokenizer is None else special_ids(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        ids: list[int] = self.require_tokenizer("a text")(text, add_special_tokens=False)["input_ids"]
        return ids

    def single(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else None."""
        if self.tokenizer is None:
            return None
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 else None

    def mask(self, ids: Any) -> Tensor:
        """bool [V], True at ``ids``. Raises StrategyError for an id outside the vocabulary."""
        wanted = sorted(set(ids))
        outside = [i for i in wanted if not 0 <= i < self.size]
        if outside:
            raise StrategyError(f"token id {outside[0]} is outside the vocabulary of {self.size}", code="token")
        mask = torch.zeros(self.size, dtype=torch.bool)
        if wanted:
            mask[torch.tensor(wanted)] = True
        return mask.to(self.device)
