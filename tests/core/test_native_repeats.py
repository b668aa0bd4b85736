"""What the kernels tell of a history is what torch's operators tell."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from logitmill import Strategy
from logitmill.core.kernels import native
from logitmill.core.kernels.repeats import Repeats, repeats
from logitmill.samplers import dry

pytestmark = pytest.mark.skipif(repeats() is None, reason="there is no compiler for the kernels")

LARGEST = torch.finfo(torch.float32).max


def kernels() -> Repeats:
    found = repeats()
    assert found is not None
    return found


def history(rows: int, longest: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens, prompt lengths, lengths), in a table with more room than it takes."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (rows, 1), generator=random)
    prompts = (lengths * torch.rand(rows, 1, generator=random)).long()
    tokens = torch.randint(0, size, (rows, longest + 7), generator=random)[:, :longest]
    tokens[torch.arange(longest) >= lengths] = -1
    return tokens, prompts, lengths


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(1, 90), st.sampled_from([1, 3, 50]), st.integers(0, 2**31))
def test_counts(rows: int, longest: int, size: int, seed: int) -> None:
    tokens, prompts, lengths = history(rows, longest, size, seed)
    given_counts, made = kernels().count(tokens, prompts, lengths, size)
    places, columns = torch.arange(longest), tokens.clamp(min=0)
    for counts, counted in ((given_counts, places < prompts), (made, (places >= prompts) & (places < lengths))):
        table = torch.zeros(rows, size, dtype=torch.int32).scatter_add_(1, columns, counted.int())
        assert torch.equal(counts, table.gather(1, columns))


def test_a_token_of_no_vocabulary_is_told() -> None:
    tokens, lengths = torch.tensor([[3, 9, 3, -1]]), torch.tensor([[3]])
    with pytest.raises(IndexError, match="1 tokens are none of a vocabulary of 5"):
        kernels().count(tokens, torch.tensor([[1]]), lengths, 5)
    assert kernels().count(tokens, torch.tensor([[1]]), lengths, 10)[:, 0, 0].tolist() == [1, 1]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-30, 1e30), st.floats(-1e30, 1e30), st.booleans(), st.booleans())
def test_what_occurrences_cost(seed: int, penalty: float, value: float, once: bool, both: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 41, generator=random) * 5
    logits[0, :4] = torch.tensor([float("-inf"), float("inf"), float("nan"), LARGEST])
    tables = [torch.randint(0, 4, (3, 41), generator=random, dtype=torch.int32) for _ in range(1 + both)]
    counts = tables[0] + tables[1] if both else tables[0]
    for number in (penalty, 1.1, 0.3):
        new = torch.where(logits < 0, logits * number, (logits / number).clamp(max=LARGEST))
        expected = torch.where(counts > 0, new, logits)
        assert torch.allclose(kernels().repetition(logits, tables, number), expected, rtol=0, atol=0, equal_nan=True)
    for number in (value, 0.2, -0.7):
        expected = (logits - number * (counts > 0 if once else counts)).clamp(max=LARGEST)
        assert torch.allclose(kernels().less(logits, tables, number, once), expected, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.integers(1, 150), st.sampled_from([1, 2, 9]), st.integers(0, 2**31), st.integers(1, 99))
def test_runs(rows: int, longest: int, size: int, seed: int, farthest: int) -> None:
    tokens, prompts, lengths = history(rows, longest, size, seed)
    found = kernels().runs(tokens, lengths, prompts, farthest)  # any place may be the first that counts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        expected = dry._runs(tokens, lengths, prompts, farthest)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.5, 2.0, float("inf")])), max_size=40))
def test_the_dearest(pairs: list[tuple[int, float]]) -> None:
    spots, costs = torch.tensor([p[0] for p in pairs], dtype=torch.int64), torch.tensor([p[1] for p in pairs])
    highest = [max(cost for spot, cost in pairs if spot == own) for own, _ in pairs]
    assert kernels().dearest(spots, costs).tolist() == highest


STRATEGIES = (
    "repetition(1.1) | presence(0.3) | frequency(0.2) | dry(0.8) | sample",
    'repetition(0.7, over="prompt") | presence(-0.3, over="all") | sample',
    'repetition(1.3, window=30) | frequency(0.5, dialect="textgen") | dry(0.8, base=1.0) | sample',
    "dry(2, window=50, allowed_length=1) | repetition(1.1) | top_k(40) | sample",
    "repetition(1.1 -> 1.5 over 50) | presence(0.4*entropy) | dry(0.5 -> 1 over 9) | sample",
)


@pytest.mark.parametrize("text", STRATEGIES)
def test_strategies_have_the_same_law(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(7)
    logits = torch.randn(4, 9001, generator=random) * 3
    tokens = torch.randint(0, 12, (4, 400), generator=random)
    prompt, output = tokens[:, :150], [row[: 250 - 60 * i].tolist() for i, row in enumerate(tokens[:, 150:])]
    strategy = Strategy.parse(text)
    law, drawn = (ask(logits, prompt, output, 3) for ask in (strategy.distribution, strategy.draw))
    monkeypatch.setattr(native, "library", lambda: None)
    assert torch.allclose(law, strategy.distribution(logits, prompt, output, 3), rtol=0, atol=0)
    assert torch.equal(drawn, strategy.draw(logits, prompt, output, 3))
