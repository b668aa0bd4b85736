"""What a stage does to one peaked and one flat distribution, drawn from what it really does to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from building.svg import Panel, chart

from logitmill.core.errors import StrategyError
from logitmill.core.registry import Entry
from logitmill.core.stage import Stage
from logitmill.core.strategy import Strategy

TOKENS = 24
PROMPT, OUTPUT, SEED = (1, 3, 9, 4), (5, 3, 9, 4, 3, 9, 4), 1
PICTURED = ("logits processor", "sampler", "combinator")

#: what shows more of a stage on a few tokens than the first of its own examples that does something
SHOWN = {
    "top_k": "top_k(8)",
    "min_tokens": "min_tokens(64, ids=[2, 5])",
    "force": "force(5, at=7)",
    "xtc": "xtc(1, 0.05)",
    "epsilon": "epsilon(0.02)",
    "eta": "eta(0.02)",
    "mirostat": "mirostat(1.5, 0.1)",
}


@dataclass(frozen=True)
class Picture:
    """A picture, and what a caption has to say of it."""

    example: str
    svg: str
    reads_history: bool
    draws: bool
    changes: bool


def peaked() -> list[float]:
    """Logits of 24 tokens, the likeliest first: a few that matter and a long tail."""
    return [round(3.0 - 1.3 * number**0.5, 3) for number in range(TOKENS)]


def flat() -> list[float]:
    """Logits of 24 tokens that are all about as likely."""
    return [round(0.6 - 0.05 * number, 3) for number in range(TOKENS)]


def picture(entry: Entry) -> Picture | None:
    """The picture of a stage, None where there is nothing to draw."""
    return _picture(entry.load())


@cache
def _picture(stage: type[Stage]) -> Picture | None:
    name = stage.stage_name
    if stage.kind not in PICTURED or getattr(stage, "sequential", False) or name == "when":
        return None
    candidates = (SHOWN[name],) if name in SHOWN else stage.examples
    drawn = [made for made in map(_panels, candidates) if made is not None]
    if not drawn:
        return None
    example, panels = next((made for made in drawn if _changes(made[1])), drawn[0])
    label = f"{example} on a peaked and on a flat distribution"
    return Picture(example, chart(label, panels), "history" in stage.needs, stage.stochastic, _changes(panels))


def _panels(example: str) -> tuple[str, tuple[Panel, ...]] | None:
    """Before and after on both distributions; None for an example that needs a tokenizer."""
    strategy = Strategy.parse(example)
    made = []
    for name, logits in (("peaked", peaked()), ("flat", flat())):
        table = torch.tensor([logits], dtype=torch.float32)
        before = table.double().softmax(-1)[0].tolist()
        try:
            after = strategy.distribution(table, prompt=list(PROMPT), output=list(OUTPUT), seed=SEED)
        except StrategyError as error:
            if error.code in ("tokenizer", "token"):
                return None
            raise
        kept = int((after[0] > 0).sum())
        title = f"{name}: all {TOKENS} tokens stay" if kept == TOKENS else f"{name}: {kept} of {TOKENS} tokens stay"
        made.append(Panel(title, before, after[0].double().tolist()))
    return example, tuple(made)


def _changes(panels: tuple[Panel, ...]) -> bool:
    return any(abs(a - b) > 1e-3 for panel in panels for a, b in zip(panel.before, panel.after, strict=True))
