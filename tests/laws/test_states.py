"""Laws of states: whatever the core does with a stage's state between tokens, its laws are those of a fresh run.

Run over every registered processor and sampler with an ``accept`` of its own, through a session as the loop drives
it: proposed (any number of times), committed, its rows selected, copied, joined and taken back. Wrong stages show that
each of these laws can fail.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import logitmill as lm
from logitmill import LogitsProcessor, Sampler, Strategy
from logitmill.core.context import Context
from logitmill.core.dist import Dist
from logitmill.core.loader import registry
from logitmill.core.planner import plan
from logitmill.core.session import Session

VOCAB, ROWS, STEPS = 40, 5, 12
PROMPTS = [[1, 2, 3], [], [4], [0, 0], [5] * 7]
TABLE = torch.randint(-192, 192, (STEPS, ROWS, VOCAB), generator=torch.Generator().manual_seed(6)) / 64.0

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("examples.py")))
STAGES = runpy.run_path(str(Path(__file__).with_name("stages_with_state.py")))


class Play:
    """Some of the ROWS sequences (``who``: which) under one strategy, their tokens drawn with seeds of their own."""

    def __init__(self, bench: Any, strategy: Strategy, who: Sequence[int] = tuple(range(ROWS))) -> None:
        self.bench, self.who = bench, list(who)
        self.outputs: list[list[int]] = [[] for _ in self.who]
        self.session = Session.opened(plan(strategy), self.context(0))

    def context(self, step: int) -> Context:
        prompts, seeds = [PROMPTS[i] for i in self.who], [50 + i for i in self.who]
        made: Context = self.bench.context(self.dist(step), prompts, self.outputs, seeds=seeds, eos=(2,))
        return made

    def dist(self, step: int) -> Dist:
        return Dist(TABLE[step, self.who])

    def step(self, step: int, *, proposals: int = 1, other: bool = False) -> Tensor:
        """float32 [R, V]: the law of a step, whose tokens (or the least likely ones instead) are then committed."""
        ctx, dist = self.context(step), self.dist(step)
        for _ in range(proposals - 1):
            self.session.propose(Dist(dist.logits.flip(-1)), ctx)
            self.session.propose(dist, ctx)
        proposal = self.session.propose(dist, ctx)
        law = proposal.law().dense()
        tokens = law.logits.masked_fill(~law.alive, torch.inf).argmin(-1, keepdim=True) if other else proposal.tokens
        self.outputs = [[*row, token] for row, token in zip(self.outputs, tokens[:, 0].tolist(), strict=True)]
        self.session.commit(proposal, tokens, self.context(step))
        return law.probs

    def run(self, first: int = 0, last: int = STEPS, **more: Any) -> list[Tensor]:
        return [self.step(step, **more) for step in range(first, last)]

    def select(self, rows: Sequence[int]) -> Play:
        """A play of some rows; a row named twice is a copy."""
        twin: Play = object.__new__(Play)
        twin.bench, twin.who = self.bench, [self.who[i] for i in rows]
        twin.outputs = [list(self.outputs[i]) for i in rows]
        twin.session = self.session.select(rows)
        twin.session.index = list(range(len(rows)))
        return twin

    def fork(self) -> tuple[Play, Play]:
        """The play, and a copy of it that shares nothing with it."""
        both = self.select([*range(len(self.who))] * 2)
        return both.select(range(len(self.who))), both.select(range(len(self.who), 2 * len(self.who)))

    @staticmethod
    def joined(plays: Sequence[Play]) -> Play:
        twin = plays[0].select([])
        twin.who = [i for play in plays for i in play.who]
        twin.outputs = [row for play in plays for row in play.outputs]
        twin.session = Session.joined([play.session for play in plays])
        twin.session.index = list(range(len(twin.who)))
        return twin


def agree(got: Sequence[Tensor], fresh: Sequence[Tensor], who: Sequence[int], first: int = 0) -> None:
    """``got``: laws of the rows ``who`` at each step from ``first`` on; ``fresh``: of all rows at all steps."""
    for step, law in enumerate(got, first):
        expected = fresh[step][list(who)]
        assert torch.allclose(law, expected, rtol=1e-5, atol=1e-7), (
            f"step {step}: {(law - expected).abs().max():.2g} off"
        )


# -- the laws ----------------------------------------------------------------------------------------------------------


def proposing_changes_nothing(bench: Any, strategy: Strategy) -> None:
    fresh = Play(bench, strategy).run()
    agree(Play(bench, strategy).run(proposals=3), fresh, range(ROWS))


def what_was_kept_can_be_returned_to(bench: Any, strategy: Strategy) -> None:
    """Kept at a step, gone on with other tokens, come back and replayed, twice."""
    fresh = Play(bench, strategy).run()
    play = Play(bench, strategy)
    play.run(0, 5)
    for _ in range(2):
        play, kept = play.fork()
        play.run(5, 9, other=True)
        play = kept
    agree(play.run(5), fresh, range(ROWS), 5)


def rows_may_be_moved_about(bench: Any, strategy: Strategy) -> None:
    """Selected, permuted, doubled and put together again in the middle, with rows that come later."""
    fresh = Play(bench, strategy).run()
    play = Play(bench, strategy, [0, 1, 2, 3])
    play.run(0, 4)
    play = play.select([3, 1, 1, 0])
    agree(play.run(4, 7), fresh, [3, 1, 1, 0], 4)
    late = Play(bench, strategy, [4, 2])
    late.run(0, 7)
    play = Play.joined([late.select([1]), play.select([2, 0]), late.select([0])])
    agree(play.run(7), fresh, [2, 1, 3, 4], 7)


def a_row_alone_goes_as_in_company(bench: Any, strategy: Strategy) -> None:
    fresh = Play(bench, strategy).run()
    for row in range(ROWS):
        agree(Play(bench, strategy, [row]).run(), fresh, [row])


LAWS = [
    proposing_changes_nothing,
    what_was_kept_can_be_returned_to,
    rows_may_be_moved_about,
    a_row_alone_goes_as_in_company,
]


# -- right stages keep them --------------------------------------------------------------------------------------------


def own_accept(cls: Any) -> bool:
    return cls.accept is not (Sampler if issubclass(cls, Sampler) else LogitsProcessor).accept


def families() -> Iterator[tuple[str, list[Any]]]:
    """Whoever registered it, at the laws' values, else as its examples write it; and this folder's own."""
    for kind, values in (("logits processor", EXAMPLES["PROCESSORS"]), ("sampler", EXAMPLES["SAMPLERS"])):
        for entry in registry().of(kind):
            cls = entry.load()
            if own_accept(cls):
                made = [cls(*args, **fields) for args, fields in values.get(entry.name, ())]
                made = made or [Strategy.parse(text).pipeline[0].stage for text in cls.examples]
                assert made, f"{entry.name} has a state, and no examples to try it at"
                yield entry.name, made
    yield from ((name, [STAGES[name]()]) for name in ("Warming", "Matching", "Drifting"))


def ended(stage: Any) -> Strategy:
    return Strategy.of(stage) if isinstance(stage, Sampler) else Strategy.of(stage) | lm.sample()


def strategies() -> Iterator[Any]:
    """Each stage by itself, and one of a kind in a branch that some rows take at some steps."""
    odd = lm.signals.last.in_(list(range(1, VOCAB, 2)))
    for name, family in families():
        yield from (pytest.param(ended(stage), id=f"{name}-{n}") for n, stage in enumerate(family))
        stage = family[-1]
        branch = lm.when(odd, stage, lm.sample()) if isinstance(stage, Sampler) else lm.when(odd, stage) | lm.sample()
        yield pytest.param(Strategy.of(branch), id=f"{name}-in-a-branch")


@pytest.mark.parametrize("strategy", list(strategies()))
@pytest.mark.parametrize("holds", LAWS, ids=lambda law: law.__name__)
def test_a_state_may_be_kept_copied_moved_and_taken_back(
    bench: Any, strategy: Strategy, holds: Callable[..., None]
) -> None:
    holds(bench, strategy)


@pytest.mark.parametrize(
    ("name", "family"), list(families()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_state_matters(bench: Any, name: str, family: list[Any]) -> None:
    """Stages that never move would keep the laws above. These give another law at step 6 than at the start."""
    moves = []
    for stage in family:
        play = Play(bench, ended(stage))
        play.run(0, 6)
        sessions = (play.session, Play(bench, ended(stage)).session)
        now, start = (s.propose(play.dist(6), play.context(6)).law().dense().probs for s in sessions)
        moves.append(not torch.allclose(now, start, atol=1e-3))
    assert any(moves)


def test_a_host_object_that_rolls_back_is_where_it_was(bench: Any) -> None:
    """What a search that takes tokens back does with it: clone, go on, roll back, and the laws go on as before."""
    strategy = ended(STAGES["Matching"]())
    fresh = Play(bench, strategy).run()
    play = Play(bench, strategy)
    play.run(0, 5)
    outputs = [list(row) for row in play.outputs]
    play.run(5, 8, other=True)
    play.outputs = outputs
    for state in play.session.states.values():
        for tally in state:
            tally.rollback(3)
    agree(play.run(5), fresh, range(ROWS), 5)


# -- wrong stages break them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        ("MovesInApply", "proposing_changes_nothing"),
        ("ReadsRowZero", "rows_may_be_moved_about a_row_alone_goes_as_in_company"),
        (
            "RemembersItself",
            "proposing_changes_nothing what_was_kept_can_be_returned_to a_row_alone_goes_as_in_company",
        ),
        ("SharesHostObjects", "what_was_kept_can_be_returned_to rows_may_be_moved_about"),
        ("WeighsTheBatch", "rows_may_be_moved_about a_row_alone_goes_as_in_company"),
    ],
)
def test_wrong_stages_break_the_laws(bench: Any, wrong: str, broken: str) -> None:
    strategy = ended(STAGES[wrong]())
    for law in LAWS:
        if law.__name__ in broken.split():
            with pytest.raises(AssertionError):
                law(bench, strategy)
