"""Entropy, mixtures and schedules against torch's own: torch.distributions and torch.optim.lr_scheduler."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, lr_scheduler

from logitmill import Strategy
from logitmill.core.dist import Dist

PEER = "torch"
ROWS, VOCAB, STEPS = 16, 50, 24


def tables() -> list[Tensor]:
    """Logits [R, V]: smooth, sharp, flat, tied."""
    source = torch.Generator().manual_seed(11)
    normal = torch.randn(ROWS, VOCAB, generator=source)
    return [normal, normal * 12, torch.zeros(ROWS, VOCAB), (normal * 2).round()]


@pytest.mark.parametrize("logits", tables(), ids=["smooth", "sharp", "flat", "ties"])
def test_entropy(bench: Any, parity: Any, logits: Tensor) -> None:
    theirs = torch.distributions.Categorical(logits=logits.double()).entropy()[:, None]
    dist = Dist(logits)
    ours = bench.run(bench.stage("entropy"), dist, bench.context(dist))
    difference = (ours.double() - theirs).abs().max().item()
    assert difference < 1e-5
    parity.note("entropy", PEER, difference, cases=ROWS)


@pytest.mark.parametrize("logits", tables(), ids=["smooth", "sharp", "flat", "ties"])
def test_mix(parity: Any, logits: Tensor) -> None:
    """The mixture of the logits at two temperatures: probabilities from torch's own mixture of categoricals."""
    ours = Strategy.parse("mix(3: { temperature(0.5) }, 1: { temperature(2) })").distribution(logits)
    weights = torch.distributions.Categorical(torch.tensor([0.75, 0.25], dtype=torch.float64).expand(ROWS, 2))
    parts = torch.distributions.Categorical(logits=torch.stack([logits.double() / 0.5, logits.double() / 2], 1))
    mixture = torch.distributions.MixtureSameFamily(weights, parts)
    theirs = mixture.log_prob(torch.arange(VOCAB)[:, None].expand(VOCAB, ROWS)).exp().t()
    difference = (ours.double() - theirs).abs().max().item()
    assert difference < 1e-6
    parity.note("mix", PEER, difference, cases=ROWS)


def learning_rates(scheduler: Any, start: float) -> list[float]:
    """What a torch scheduler makes of a learning rate of ``start``, at steps 0 to STEPS."""
    rate = SGD([torch.zeros(1, requires_grad=True)], lr=start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is optimised here, so step() comes before the optimizer's own
        made = scheduler(rate)
        found = [rate.param_groups[0]["lr"]]
        for _ in range(STEPS):
            made.step()
            found.append(rate.param_groups[0]["lr"])
    return found


SCHEDULERS: dict[str, Any] = {
    "linear": lambda rate, ratio: lr_scheduler.LinearLR(rate, 1.0, ratio, total_iters=STEPS),
    "cosine": lambda rate, ratio: lr_scheduler.CosineAnnealingLR(rate, STEPS, rate.param_groups[0]["lr"] * ratio),
    "exp": lambda rate, ratio: lr_scheduler.ExponentialLR(rate, ratio ** (1 / STEPS)),
}


@pytest.mark.parametrize(("start", "end"), [(1.2, 0.6), (5.0, 0.1), (0.25, 2.0)])
@pytest.mark.parametrize("name", ["linear", "cosine", "exp"])
def test_schedules(bench: Any, parity: Any, name: str, start: float, end: float) -> None:
    if name == "linear" and end > start:
        start, end = end, start  # torch's only goes down
    theirs = torch.tensor(learning_rates(lambda rate: SCHEDULERS[name](rate, end / start), start), dtype=torch.float64)
    fraction = torch.arange(STEPS + 1, dtype=torch.float64)[:, None] / STEPS
    ours = bench.stage_of_schedule(name).value(start, end, fraction)[:, 0]
    difference = (ours - theirs).abs().max().item()
    assert difference < 1e-9
    parity.note(f"{name} (schedule)", PEER, difference, cases=STEPS + 1)
