"""What choosing costs: measured on what the planner made, at each size that was asked for."""

from __future__ import annotations

import pytest

from logitmill.core.errors import StrategyError
from logitmill.plugins.bench import choosing, table
from logitmill.plugins.bench.choosing import STAGES, Cost, costs
from logitmill.plugins.bench.pictures import by_vocabulary
from logitmill.plugins.bench.turns import Spread


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choosing, "SECONDS", 0.0)


def test_one_cost_for_each_strategy_batch_and_vocabulary():
    found = list(costs(("greedy", "sampled"), (1, 3), (64, 320)))
    assert [(c.strategy, c.batch, c.vocabulary) for c in found] == [
        (strategy, batch, size) for strategy in ("greedy", "sampled") for batch in (1, 3) for size in (64, 320)
    ]
    for cost in found:
        assert 0 < cost.milliseconds.lowest <= cost.milliseconds.median <= cost.milliseconds.highest


def test_the_usual_stages_run_and_their_logits_look_like_a_models():
    assert [cost.strategy for cost in costs(STAGES, (2,), (512,))] == list(STAGES)
    probs = choosing._logits(4, 50_000).softmax(-1)
    top = probs.sort(-1, descending=True).values.cumsum(-1)
    kept = (top < 0.95).sum(-1) + 1
    assert (kept > 100).all()
    assert (kept < 30_000).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top_k(5)", "sampler"),
        ("topp(0.9) | sample", "did you mean 'top_p'"),
        ('bad_words(["a"]) | sample', "needs a tokenizer"),
    ],
)
def test_what_cannot_be_measured_without_a_model(text: str, said: str):
    with pytest.raises(StrategyError, match=said):
        list(costs((text,), (1,), (64,)))


def test_a_table_and_a_panel_of_costs():
    made = [
        Cost("sample", 8, size, Spread(ms, ms / 2, ms * 2)) for size, ms in ((1000, 0.12345), (2000, 2.0))
    ]  # fmt: skip
    assert table.cost_columns(made) == ("strategy", "batch", "1,000 tokens, ms", "2,000 tokens, ms")
    assert table.cost_rows(made) == [("sample", "8", "0.123 (0.0617 to 0.247)", "2 (1 to 4)")]
    [panel] = by_vocabulary(made)
    assert [(s.name, list(s.points)) for s in panel.series] == [("sample", [(1000, 0.12345), (2000, 2.0)])]
    assert by_vocabulary(made[:1]) == []
