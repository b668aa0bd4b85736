from __future__ import annotations

import pytest
import torch
from tides import Height, Slack, Turn

import logitmill as lm
from logitmill.testing import assert_laws


@pytest.mark.parametrize("what", [Height, Slack, Turn])
def test_laws(what: type[lm.Stage]):
    assert_laws(what)


def test_height_by_hand():
    # a period of 4 tokens: 0, 1, 0, -1 and so on
    strategy = lm.Strategy.parse(
        "when tides.height(4) > 0.5 { top_k(1) } else { when tides.height(4) < -0.5 { top_k(2) } }"
    )
    kept = [int((strategy.distribution([3.0, 2.0, 1.0], output=[0] * n) > 0).sum()) for n in range(6)]
    assert kept == [3, 1, 3, 2, 3, 1]


def test_slack_by_hand():
    # at a quarter of the way f^2 (3 - 2f) is 0.15625
    found = Slack().value(2.0, 1.0, torch.tensor([[0.0], [0.25], [0.5], [1.0]], dtype=torch.float64))
    assert found[:, 0].tolist() == [2.0, 1.84375, 1.5, 1.0]


def test_turn_by_hand():
    strategy = lm.Strategy.parse("tides.turn(4, flood={ top_k(1) }, ebb={ top_k(2) })")
    kept = [int((strategy.distribution([3.0, 2.0, 1.0], output=[0] * n) > 0).sum()) for n in range(6)]
    assert kept == [1, 1, 2, 2, 1, 1]


def test_the_preset_brings_both(engine: lm.Engine):
    text = 'dsl 1 use "tides" as tide let main = tide.restless(period=4) until max_tokens(6)'
    out = engine.generate(["The sea", "The shore"], text, seed=2)
    assert [len(row.raise_for_error().tokens) for row in out] == [6, 6]
    calm = lm.Strategy.parse('dsl 1 use "tides" let main = calm')
    assert "tides.slack" in calm.to_text()
