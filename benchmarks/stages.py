"""What choosing a token costs under each strategy, by vocabulary: eight rows, no model."""

from __future__ import annotations

from section import Asked, Section

from logitmill.plugins.bench import table
from logitmill.plugins.bench.choosing import HISTORY, STAGES, costs
from logitmill.plugins.bench.pictures import by_vocabulary

ROWS = 8
VOCABULARIES = (32_000, 49_152, 128_256, 262_144)


def stages(asked: Asked) -> Section:
    """The section: no peer, so no ratios."""
    asked.say(f"the cost of choosing, {len(STAGES)} strategies at {len(VOCABULARIES)} vocabularies ...")
    found = list(costs(STAGES, (ROWS,), VOCABULARIES))
    notes = [
        f"One step's choice of a token for each of {ROWS} rows, {HISTORY} tokens of history: the median of many steps, "
        "and in brackets where the middle half of them lay.",
    ]
    head, rows = table.cost_columns(found), table.cost_rows(found)
    return Section("Choosing a token, by vocabulary", head, rows, notes, {}, panels=by_vocabulary(found))
