"""mirostat and adaptive_p against llama.cpp's definitions, over trajectories of 200 steps with the tokens given.

What follows restates, one candidate at a time in plain Python, what llama.cpp's samplers with a state do
(src/llama-sampler.cpp); nothing of a stage's own code is used. What llama.cpp itself answered is in the vectors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.dist import Dist
from logitmill.core.planner import plan
from logitmill.core.session import Session
from logitmill.core.strategy import Strategy, as_strategy

STEPS = 200
Candidates = list[tuple[int, float]]  # (token id, logit)


def in_order(candidates: Candidates) -> Candidates:
    return sorted(candidates, key=lambda c: (-c[1], c[0]))


def softmax(candidates: Candidates) -> list[float]:
    best = max(logit for _, logit in candidates)
    weights = [math.exp(logit - best) for _, logit in candidates]
    return [w / sum(weights) for w in weights]


class MirostatTwo:
    """mirostat_v2: ``law`` gives the candidates it draws from and their probabilities, ``moved`` takes the choice."""

    def __init__(self, tau: float, eta: float, vocabulary: int) -> None:
        self.tau, self.eta, self.mu, self.vocabulary = tau, eta, 2 * tau, vocabulary

    def left(self, ordered: Candidates) -> int:
        shares = softmax(ordered)
        return next((i for i, p in enumerate(shares) if -math.log2(p) > self.mu), len(shares)) or 1

    def law(self, candidates: Candidates) -> dict[int, float]:
        ordered = in_order(candidates)
        ordered = ordered[: self.left(ordered)]
        self.drawn_from = dict(zip((i for i, _ in ordered), softmax(ordered), strict=True))
        return self.drawn_from

    def moved(self, token: int) -> None:
        self.mu -= self.eta * (-math.log2(self.drawn_from[token]) - self.tau)

    def state(self) -> float:
        return self.mu


class MirostatOne(MirostatTwo):
    """mirostat, its k from the 100 best. ``int32``: a k that an int cannot hold becomes a negative one, as on x86."""

    int32 = False

    def left(self, ordered: Candidates) -> int:
        shares = softmax(ordered)
        above = below = 0.0
        for i in range(min(100 - 1, len(ordered) - 1)):
            t, b = math.log((i + 2) / (i + 1)), math.log(shares[i] / shares[i + 1])
            above, below = above + t * b, below + t * t
        s = above / below
        e = s - 1
        k = ((e * 2**self.mu) / (1 - self.vocabulary**-e)) ** (1 / s)
        return 1 if self.int32 and k >= 2**31 else max(1, min(int(k), len(ordered)))


class MirostatOneInt(MirostatOne):
    int32 = True


class AdaptiveP:
    """adaptive_p."""

    def __init__(self, target: float, decay: float, vocabulary: int) -> None:
        self.target, self.decay = target, min(max(decay, 0.0), 0.99)
        self.total = 1 / (1 - self.decay)
        self.weighted = target * self.total

    def law(self, candidates: Candidates) -> dict[int, float]:
        ids = [i for i, _ in candidates]
        shares = softmax(candidates)
        self.originals = dict(zip(ids, shares, strict=True))
        if self.target < 0:
            return self.originals
        aim = min(max(2 * min(max(self.target, 0.0), 1.0) - self.weighted / self.total, 0.0), 1.0)
        bent = []
        for i, p in zip(ids, shares, strict=True):
            distance = abs((p - aim) / 0.3)
            bent.append((i, 5 - 10 * distance * distance / (1 + distance)))
        return dict(zip(ids, softmax(bent), strict=True))

    def moved(self, token: int) -> None:
        if self.target >= 0:
            self.weighted = self.originals[token] + self.decay * self.weighted
            self.total = 1 + self.decay * self.total

    def state(self) -> float:
        return self.weighted / self.total


def replay(
    bench: Any, strategy: Any, logits: Tensor, choose: Callable[[int, Tensor], int]
) -> list[tuple[Tensor, float]]:
    """(law float32 [V], the state afterwards) of each step over logits [T, V]; ``choose`` gives the step's token."""
    ctx = bench.context(Dist(logits[:1]))
    session = Session.opened(plan(as_strategy(strategy)), ctx)
    found = []
    for step in range(len(logits)):
        dist = Dist(logits[step : step + 1])
        proposal = session.propose(dist, ctx)
        law = proposal.law().dense().probs[0]
        token = torch.tensor([[choose(step, law)]])
        ctx.history.append(token, token[0].tolist())
        session.commit(proposal, token, ctx)
        state = session.states[max(session.states)]
        found.append((law, float(state[0] if len(state) == 1 else state[0] / state[1])))
    return found


def drawn(law: dict[int, float], number: float) -> int:
    ids = sorted(law)
    sums = itertools.accumulate(law[i] for i in ids)
    return next((i for i, total in zip(ids, sums, strict=True) if number < total), ids[-1])


def held_against(bench: Any, strategy: Any, peer: Any, logits: Tensor, before: Any = lambda c: c) -> float:
    """The largest difference of a probability or a state, over the steps. The peer's law and a fixed number choose."""
    numbers = torch.rand(len(logits), generator=torch.Generator().manual_seed(9)).tolist()
    laws, states = [], []

    def choose(step: int, ours: Tensor) -> int:
        theirs = peer.law(before(list(enumerate(logits[step].tolist()))))
        laws.append([theirs.get(i, 0.0) for i in range(logits.shape[1])])
        chosen = drawn(theirs, numbers[step])
        peer.moved(chosen)
        states.append(peer.state())
        return chosen

    found = replay(bench, strategy, logits, choose)
    ours = torch.stack([law for law, _ in found]).double()
    assert torch.equal(ours > 0, torch.tensor(laws) > 0)
    of_laws = (ours - torch.tensor(laws, dtype=torch.float64)).abs().max()
    of_states = max(abs(state - theirs) for (_, state), theirs in zip(found, states, strict=True))
    return max(float(of_laws), of_states)


def table(seed: int, vocabulary: int, scale: float) -> Tensor:
    return torch.randn(STEPS, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize(("variant", "dialect"), [(1, "logitmill"), (1, "llamacpp"), (2, "llamacpp")])
@pytest.mark.parametrize(("tau", "eta"), [(1.0, 0.1), (3.0, 0.3), (5.0, 0.05)])
def test_mirostat(bench: Any, parity: Any, variant: int, tau: float, eta: float, dialect: str) -> None:
    ones = {"logitmill": MirostatOne, "llamacpp": MirostatOneInt}
    peer: Any = ones[dialect] if variant == 1 else MirostatTwo
    for seed, (vocabulary, scale) in enumerate(((24, 2.0), (120, 1.0))):
        stage = bench.stage("mirostat", tau, eta, variant, dialect=dialect)
        difference = held_against(bench, stage, peer(tau, eta, vocabulary), table(seed, vocabulary, scale))
        assert difference < 2e-6
        parity.note("mirostat", "llama.cpp (definition)", difference, STEPS)


@pytest.mark.parametrize(
    ("target", "decay"), [(0.3, 0.9), (0.05, 0.99), (1.0, 0.5), (0.0, 0.9), (-1.0, 0.9), (1.3, 0.7)]
)
def test_adaptive_p(bench: Any, parity: Any, target: float, decay: float) -> None:
    for seed, (vocabulary, scale) in enumerate(((24, 2.0), (100, 3.0))):
        stage = bench.stage("adaptive_p", target, decay)
        difference = held_against(bench, stage, AdaptiveP(target, decay, vocabulary), table(seed, vocabulary, scale))
        assert difference < 2e-6
        parity.note("adaptive_p", "llama.cpp (definition)", difference, STEPS)


def min_p(candidates: Candidates) -> Candidates:
    least = max(logit for _, logit in candidates) + math.log(0.05)
    return [c for c in candidates if c[1] >= least]


def warm(candidates: Candidates) -> Candidates:
    return [(i, logit / 1.5) for i, logit in candidates]


@pytest.mark.parametrize(
    ("text", "peer", "before"),
    [
        ("min_p(0.05) | adaptive_p(0.4)", lambda v: AdaptiveP(0.4, 0.9, v), min_p),
        ("temperature(1.5) | mirostat(2, 0.2)", lambda v: MirostatTwo(2.0, 0.2, v), warm),
        ("temperature(1.5) | mirostat(2, 0.2, variant=1)", lambda v: MirostatOne(2.0, 0.2, v), warm),
    ],
)
def test_behind_another_stage(bench: Any, text: str, peer: Any, before: Any) -> None:
    assert held_against(bench, Strategy.parse(text), peer(60), table(4, 60, 2.0), before) < 2e-6


def test_a_difference_is_seen(bench: Any) -> None:
    """The comparison is no tautology: another eta, a decay or a count of candidates fails it."""
    logits = table(1, 24, 2.0)
    for stage, peer in (
        (bench.stage("mirostat", 3.0, 0.3), MirostatTwo(3.0, 0.31, 24)),
        (bench.stage("mirostat", 3.0, 0.3, 1), MirostatOne(3.0, 0.3, 30)),
        (bench.stage("adaptive_p", 0.3, 0.9), AdaptiveP(0.3, 0.89, 24)),
    ):
        with pytest.raises(AssertionError):
            assert held_against(bench, stage, peer, logits) < 2e-6
