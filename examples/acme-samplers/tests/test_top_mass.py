from __future__ import annotations

import pytest
import torch
from acme_samplers.top_mass import TopMass

import logitmill as lm


def test_by_hand():
    dist = lm.Dist(torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25]]).log())
    torch.testing.assert_close(TopMass(2).read(dist, None), torch.tensor([[0.8], [0.5]]))


@pytest.mark.parametrize("k", [4, 400])
def test_all_tokens_have_all_of_it(k: int):
    dist = lm.Dist(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(TopMass(k).read(dist, None), torch.ones(3, 1))


def test_decides_row_by_row():
    sure, unsure = [9.0, 0.0, 0.0, 0.0], [0.2, 0.1, 0.0, 0.0]
    strategy = lm.Strategy.parse("when acme.top_mass(1) > 0.9 { top_k(1) }")
    found = strategy.distribution([sure, unsure])
    assert (found > 0).sum(-1).tolist() == [1, 4]
