from __future__ import annotations

import pytest
import torch

import logitmill as lm


def test_four_tokens_by_hand():
    # logits 2, 1, 0, -1 and factor 0.5: distances 0, 1, 2, 3 from the top, so 2, 1.5, 0, -2.5
    strategy = lm.Strategy.parse("acme.quadratic(0.5)")
    found = strategy.distribution([2.0, 1.0, 0.0, -1.0])
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.5, 0.0, -2.5]]).softmax(-1))


def test_keeps_the_order_and_the_best_token():
    logits = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    found = lm.Strategy.parse("acme.quadratic(0.05)").distribution(logits)
    assert torch.equal(found.argmax(-1), logits.argmax(-1))
    assert (found.gather(-1, logits.argsort(-1, descending=True)).diff(dim=-1) <= 0).all()


def test_what_was_removed_stays_removed():
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    found = lm.Strategy.parse("top_k(7) | acme.quadratic").distribution(logits)
    assert ((found > 0).sum(-1) <= 7).all()


def test_a_schedule_is_a_factor_too():
    logits = [3.0, 1.0, 0.0]
    ramp = lm.Strategy.parse("acme.quadratic(0.1 -> 0.5 over 10)")
    start = ramp.distribution(logits)
    end = ramp.distribution(logits, output=[0] * 10)
    torch.testing.assert_close(start, lm.Strategy.parse("acme.quadratic(0.1)").distribution(logits))
    torch.testing.assert_close(end, lm.Strategy.parse("acme.quadratic(0.5)").distribution(logits))


def test_a_factor_of_0_is_refused():
    with pytest.raises(lm.StrategyError, match="above 0"):
        lm.Strategy.parse("acme.quadratic(0)")
