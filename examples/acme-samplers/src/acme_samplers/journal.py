"""What the observer does: one line of JSON for each completion, in the file that ACME_JOURNAL names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def record(result: Any) -> None:
    """Append a completion's account: how it ended, tokens, speed, and what it takes to have it again."""
    path = os.environ.get("ACME_JOURNAL")
    if not path:
        return
    entry = {
        "finish_reason": result.finish_reason,
        "criterion": result.criterion,
        "tokens": len(result.tokens),
        "tokens_per_second": round(result.timings.tokens_per_second, 1),
        "seed": result.seed,
        "strategy_hash": result.strategy_hash,
    }
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
