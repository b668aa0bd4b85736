"""A completion in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.completion import Completion


def stats(completion: Completion) -> str:
    """Tokens, speed, what ended it, and what is needed to have it again."""
    usage, timings = completion.usage, completion.timings
    speed = f", {timings.tokens_per_second:.1f} tokens/s" if timings.tokens_per_second else ""
    reused = f" ({usage.reused_tokens} from the cache)" if usage.reused_tokens else ""
    score = "" if completion.score is None else f"; score {completion.score:.4f}"
    return (
        f"stats: {usage.completion_tokens} tokens in {timings.decode_s:.2f} s{speed}; "
        f"prompt {usage.prompt_tokens} tokens{reused} in {timings.prefill_s:.2f} s; "
        f"ended by {completion.criterion or completion.finish_reason}{score}; "
        f"seed {completion.seed}; strategy {completion.strategy_hash[:12]}"
    )
