from __future__ import annotations

import torch
from acme_samplers.steady import Steady, SteadyState

import logitmill as lm


def test_starts_at_temperature_1():
    logits = [1.0, 0.0, -1.0]
    found = lm.Strategy.parse("acme.steady(2)").distribution(logits)
    torch.testing.assert_close(found, torch.tensor([logits]).softmax(-1))


def test_accept_by_hand():
    law = lm.Dist(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))  # either token has a surprise of ln 2
    state = SteadyState(torch.tensor([[0.0], [0.5]]))
    moved = Steady(target=2.0, rate=0.1).accept(state, torch.tensor([[0], [1]]), law, None)
    step = 0.1 * (2.0 - torch.tensor(2.0).log())
    torch.testing.assert_close(moved.log_temperature, torch.tensor([[0.0], [0.5]]) + step)


def test_follows_its_target():
    """On one distribution drawn from again and again, the mean surprise comes to the target."""
    logits = torch.linspace(20, -20, 200).unsqueeze(0)
    for target in (1.0, 3.0):
        stage, state = Steady(target=target, rate=0.1), SteadyState(torch.zeros(1, 1))
        generator, surprises = torch.Generator().manual_seed(7), []
        for _ in range(600):
            law = stage.law(lm.Dist(logits), state, None)
            token = torch.multinomial(law.probs, 1, generator=generator)
            surprises.append(float(-law.logprob_of(token)))
            state = stage.accept(state, token, law, None)
        assert abs(sum(surprises[100:]) / 500 - target) < 0.2


def test_the_temperature_stays_in_bounds():
    law = lm.Dist(torch.zeros(1, 2))
    state = SteadyState(torch.zeros(1, 1))
    for _ in range(100):
        state = Steady(target=100.0, rate=1.0).accept(state, torch.tensor([[0]]), law, None)
    torch.testing.assert_close(state.log_temperature.exp(), torch.tensor([[10.0]]))
