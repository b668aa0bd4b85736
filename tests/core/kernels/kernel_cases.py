"""The kernel gives the token and the law of the stages as written: on a GPU, or in Triton's interpreter on a CPU.

``test_choice.py`` runs this in a process of its own: Triton interprets what is imported under TRITON_INTERPRET=1, its
own library included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import logitmill as lm
from logitmill.core.dist import Dist
from logitmill.core.kernels import choice, cuts
from logitmill.core.kernels.cuts import Cuts
from logitmill.core.planner import plan
from logitmill.core.session import Session

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEG_INF = float("-inf")
pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a kernel that does not run is a warning


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "BLOCK", 256)  # several of them in few columns


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sessions use the kernel for any Dist; holds how many steps it did each time."""
    done: list[int] = []
    drawn = Cuts.drawn

    def counted(self: Cuts, uniform: Tensor) -> Any:
        done.append(len(self._steps))
        return drawn(self, uniform)

    monkeypatch.setattr("logitmill.core.tail.serves", lambda dist: dist.ids is None)
    monkeypatch.setattr(Cuts, "drawn", counted)
    return done


def ties(rows: int, columns: int, seed: int) -> Tensor:
    """On a grid of 64ths, where nothing rounds and much ties."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-640, 640, (rows, columns), generator=generator) / 64


def spread(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 4


def removed(rows: int, columns: int, seed: int) -> Tensor:
    logits = ties(rows, columns, seed)
    gone = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed + 1)) < 0.7
    return logits.masked_fill(gone, NEG_INF)


def one_left(rows: int, columns: int, seed: int) -> Tensor:
    logits = torch.full((rows, columns), NEG_INF)
    return logits.scatter(1, torch.arange(seed, seed + rows)[:, None] % columns, -3.5)


def equal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.full((rows, columns), float(seed))


def zeros_of_both_signs(rows: int, columns: int, seed: int) -> Tensor:
    return torch.tensor([0.0, -0.0, -1.0]).repeat(rows, columns // 3 + 1)[:, :columns]


def huge(rows: int, columns: int, seed: int) -> Tensor:
    return ties(rows, columns, seed) * 1e37


def peaked(rows: int, columns: int, seed: int) -> Tensor:
    logits = ties(rows, columns, seed)
    logits[:, columns // 2] = 400.0
    return logits


SHAPES: list[Callable[[int, int, int], Tensor]] = [
    ties, spread, removed, one_left, equal, zeros_of_both_signs, huge, peaked,
]  # fmt: skip
TAILS = [
    "sample",
    "temperature(0.5) | sample",
    "top_k(50) | sample",
    "top_k(1) | sample",
    "top_p(0.9) | sample",
    "top_p(0) | sample",
    "min_p(0.125) | sample",
    "temperature(0.5) | top_k(40) | top_p(0.95) | sample",
    "temperature(2) | top_p(0.5) | min_p(0.25) | sample",
    "top_p(0.8) | temperature(2) | top_k(5) | sample",
    "min_p(0.0625) | temperature(0.25) | sample",
    "top_k(200) | temperature(0.5) | top_k(150) | min_p(0.125) | sample",
    "top_k(30) | top_k(9) | top_p(0.7) | top_p(0.7) | sample",
]


def proposed(text: str, logits: Tensor, seeds: list[int], *, as_written: bool) -> tuple[Tensor, Tensor]:
    """(tokens, the law's dense logits) of one step."""
    from logitmill.core.context import Context
    from logitmill.core.history import History
    from logitmill.core.rng import Noise, RowNoise
    from logitmill.core.vocab import Vocab

    built = plan(lm.Strategy.parse(f"{text} until max_tokens(5)"), as_written=as_written)
    history = History(logits.shape[1], logits.device)
    history.extend([[0]] * len(logits), [[]] * len(logits))
    raw, noise = Dist(logits), Noise([RowNoise(seed) for seed in seeds], [1] * len(logits), logits.device)
    if not as_written:
        raw = raw.unlooked()
    ctx = Context(history, Vocab(logits.shape[1], None), raw, noise)
    proposal = Session.opened(built, ctx).propose(raw, ctx)
    return proposal.tokens, proposal.law().dense().logits


def same(text: str, logits: Tensor, seed: int = 0) -> None:
    seeds = [seed + i for i in range(len(logits))]
    wanted, law = proposed(text, logits, seeds, as_written=True)
    tokens, found = proposed(text, logits.to(DEVICE), seeds, as_written=False)
    assert torch.equal(found.cpu() > NEG_INF, law > NEG_INF)
    torch.testing.assert_close(found.cpu(), law, rtol=1e-6, atol=0.0)
    assert tokens.tolist() == wanted.tolist()
    assert not cuts._trouble


def test_a_first_of_many_is_cut_where_they_lie(kernel: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where k is too large for its tokens to be moved together."""
    monkeypatch.setattr(cuts, "MOST_FEW", 0)
    for seed, shape in enumerate(SHAPES):
        same("temperature(0.5) | top_k(100) | top_p(0.9) | sample", shape(2, 400, seed), seed)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@pytest.mark.parametrize("text", TAILS)
def test_the_token_and_the_law_are_those_of_the_stages_as_written(
    kernel: list[int], text: str, shape: Callable[[int, int, int], Tensor]
) -> None:
    for seed, columns in enumerate((300, 512, 1)):
        same(text, shape(2, columns, seed), seed)
    assert kernel, "the kernel did none of it"


def test_a_wide_vocabulary_in_blocks_of_the_usual_size(kernel: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "BLOCK", 1024)
    logits = torch.cat([spread(2, 5003, 1), ties(2, 5003, 2)])
    for text in ("temperature(0.8) | top_k(50) | top_p(0.95) | sample", "temperature(1.3) | top_p(0.98) | sample"):
        same(text, logits, 7)


def test_many_draws_of_one_row_fall_where_the_reference_draws_them(kernel: list[int]) -> None:
    logits = spread(1, 700, 9).repeat(64, 1)
    same("temperature(0.9) | top_p(0.9) | sample", logits, 100)


def test_rows_with_numbers_of_their_own(kernel: list[int]) -> None:
    logits = ties(3, 500, 3)
    p = torch.tensor([[0.5], [1.0], [0.0]])
    uniform = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    made = Cuts(Dist(logits.to(DEVICE)))
    made.share(p.to(DEVICE), 1)
    drawn = made.drawn(uniform.to(DEVICE))
    assert drawn is not None
    law, tokens = drawn
    for row in range(3):
        alone = Cuts(Dist(logits[row : row + 1].to(DEVICE)))
        alone.share(float(p[row]), 1)
        single = alone.drawn(uniform[row : row + 1].to(DEVICE))
        assert single is not None
        assert torch.equal(law.logits[row : row + 1], single[0].logits)
        assert tokens[row].tolist() == single[1][0].tolist()
    assert (law.logits > NEG_INF).sum(-1).tolist()[1:] == [500, 1]


@pytest.mark.parametrize("at", [0.0, 0.25, 0.5, 0.75, 1 - 2**-53])
def test_the_draw_by_hand(at: float) -> None:
    """Four tokens of a quarter each, in a vocabulary where nothing else is left: u = 1/4 is the second one."""
    logits = torch.full((1, 600), NEG_INF)
    logits[0, [3, 255, 256, 599]] = 2.0
    drawn = Cuts(Dist(logits.to(DEVICE))).drawn(torch.tensor([[at]], dtype=torch.float64, device=DEVICE))
    assert drawn is not None
    assert drawn[1].item() == [3, 255, 256, 599][min(int(at * 4), 3)]


def test_a_tie_at_the_cut_keeps_the_lower_ids() -> None:
    logits = torch.zeros(1, 600)
    logits[0, 400] = 1.0
    made = Cuts(Dist(logits.to(DEVICE)))
    made.first(3)
    drawn = made.drawn(torch.zeros(1, 1, dtype=torch.float64, device=DEVICE))
    assert drawn is not None
    assert (drawn[0].logits > NEG_INF).nonzero()[:, 1].tolist() == [0, 1, 400]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_row_at_fault_shows_it_and_the_others_do_not(bad: float | None) -> None:
    logits = ties(3, 600, 0)
    if bad is None:
        logits[1] = NEG_INF
    else:
        logits[1, 77] = bad
    made = Cuts(Dist(logits.to(DEVICE)))
    made.divide(0.8)
    made.first(20)
    made.share(0.9, 1)
    drawn = made.drawn(torch.full((3, 1), 0.5, dtype=torch.float64, device=DEVICE))
    assert drawn is not None
    law, tokens = drawn
    assert torch.isfinite(law.max_logit)[:, 0].tolist() == [True, False, True]
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 600
