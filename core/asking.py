"""What a caller may pass to an engine, in the loop's terms: prompts, seeds, one value for all or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import RequestError
from .planner import Plan
from .request import Ask
from .rng import check_seed, folded, fresh_seed
from .strategy import Strategy


def is_one(prompt: Any) -> bool:
    """Whether it is one prompt: text, or token ids."""
    if isinstance(prompt, str) or hasattr(prompt, "tolist"):
        return isinstance(prompt, str) or prompt.ndim == 1
    if not isinstance(prompt, list | tuple):
        raise RequestError(f"a prompt is text or token ids, or a list of those; got {type(prompt).__name__}")
    return bool(prompt) and all(isinstance(item, int) and not isinstance(item, bool) for item in prompt)


def is_chat(prompt: Any) -> bool:
    """Whether it is a conversation: messages with roles."""
    return (
        isinstance(prompt, list | tuple)
        and bool(prompt)
        and all(isinstance(m, Mapping) and "role" in m for m in prompt)
    )


def each(value: Any, count: int, what: str, many: Any) -> list[Any]:
    """One value for each prompt."""
    if not isinstance(value, many):
        return [value] * count
    if len(value) != count:
        raise RequestError(f"{len(value)} {what} for {count} prompts: give one for all, or a list of one for each")
    return list(value)


def ask_of(logprobs: Any) -> Ask:
    """What ``logprobs=`` asks for: a number of raw alternatives, or {"raw": k, "final": k}."""
    if logprobs is None:
        return Ask()
    wanted = logprobs if isinstance(logprobs, Mapping) else {"raw": logprobs}
    for kind, count in wanted.items():  # more alternatives than the vocabulary has cost nothing: see core.step
        if kind not in ("raw", "final") or isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise RequestError(f'logprobs is a number of alternatives, or {{"raw": k, "final": k}}, got {logprobs!r}')
    return Ask(**wanted)


def token_ids(tokens: Any, vocab_size: int) -> list[int]:
    """Token ids given as a list, a tuple or a tensor, possibly none. Raises RequestError for anything else."""
    held = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    if not isinstance(held, list | tuple):
        raise RequestError(f"a prompt is text or token ids, got {type(tokens).__name__}")
    ids = list(held[0]) if len(held) == 1 and isinstance(held[0], list | tuple) else list(held)
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            raise RequestError(f"a prompt holds {token!r}, which is no token id of a vocabulary of {vocab_size}")
    return ids


def encode(prompt: Any, tokenizer: Any, vocab_size: int) -> tuple[int, ...]:
    """Token ids of a prompt given as text or as ids. An empty prompt begins with the model's own first token."""
    if isinstance(prompt, str):
        half = next((i for i, char in enumerate(prompt) if "\ud800" <= char <= "\udfff"), None)
        if half is not None:
            raise RequestError(f"the prompt holds half a character at place {half}: a surrogate that stands alone")
        prompt = tokenizer(prompt)["input_ids"]
    ids = token_ids(prompt, vocab_size)
    if not ids:
        start = tokenizer.bos_token_id
        if start is None:
            raise RequestError(
                "the prompt is empty, and this model has no token to begin with: give it at least one token"
            )
        ids = [int(start)]
    return tuple(ids)


def seeds_of(seed: Any, plans: Sequence[tuple[Strategy, Plan]], count: int, n: int) -> list[int]:
    """A seed for each of ``count * n`` requests: given, folded from one, the strategy's default, or fresh."""
    if isinstance(seed, list | tuple):
        if len(seed) != count:
            raise RequestError(f"{len(seed)} seeds for {count} prompts: give one seed, or a list of one for each")
        return [folded_seed for own in seed for folded_seed in folded(check_seed(own), range(n))]
    if seed is not None:
        return folded(check_seed(seed), range(count * n))
    common = fresh_seed()
    seeds = []
    for i, (_, ready) in enumerate(plans):
        base = common if ready.seed is None else ready.seed
        seeds += folded(base, range(i * n, (i + 1) * n))
    return seeds
