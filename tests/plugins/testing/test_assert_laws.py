"""assert_laws as its callers meet it: what it takes, what it raises, and what the message says."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field

import logitmill as lm
from logitmill.core.loader import registry
from logitmill.plugins.testing.cases import Case, extreme, from_tensor, lonely, ordinary
from logitmill.plugins.testing.laws import devices
from logitmill.plugins.testing.shrink import size, smallest
from logitmill.plugins.testing.subjects import siblings, stages_of, written
from logitmill.testing import LawBroken, assert_laws, check_laws, laws


class Less(lm.LogitsProcessor, name="kit.less"):
    """Lower tokens that are there already, by an amount."""

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    examples: ClassVar[tuple[str, ...]] = ("kit.less(0.5)", "kit.less(2.0, over='prompt')".replace("'", '"'))

    amount: lm.Scalar = Field(ge=0, le=9, description="how much")
    over: str = Field("output", description="where they are looked for")

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        counts = ctx.counts if self.over == "output" else ctx.prompt_counts
        return dist.with_logits(dist.logits - self.amount * (dist.lookup(counts) > 0))


class Lied(Less, name="kit.lied"):
    """As Less, and says that it keeps the order."""

    monotone: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ()


def test_a_class_is_tried_at_its_examples_or_in_the_middle_of_its_fields() -> None:
    assert [(s.amount, s.over) for s in stages_of(Less, {})] == [(0.5, "output"), (2.0, "prompt")]
    assert [(s.amount, s.over) for s in stages_of(Lied, {})] == [(4.5, "output")]
    assert_laws(Less)


def test_a_keyword_is_one_value_or_several_in_a_list() -> None:
    tried = stages_of(Less, {"amount": [0.0, 9.0], "over": ["output", "prompt"]})
    assert [(s.amount, s.over) for s in tried] == [(0, "output"), (0, "prompt"), (9, "output"), (9, "prompt")]
    [one] = stages_of(registry().find("xtc").load(), {"probability": 0.5, "protect": (3, 4)})
    assert one.protect == (3, 4)
    assert_laws(Less, amount=[0.0, 0.25, 9.0])


def test_stages_and_texts_are_taken_as_they_are() -> None:
    assert_laws(lm.top_k(3), "top_p(0.5)", "min_p(0.1) | top_k(3)")
    assert [type(s).__name__ for s in written("mix(1: { top_k(3) }) | greedy until eos")] == ["Mix", "Greedy", "Eos"]
    assert [type(s).__name__ for s in written("max_tokens(3) or stop(\"a\") or entropy > 2")] == [
        "MaxTokens", "Stop", "Entropy",
    ]  # fmt: skip
    assert [type(s).__name__ for s in written("1.2 -> 0.6 over 8 by cosine")] == ["Cosine"]
    assert [type(s).__name__ for s in written("tail")] == ["Tail"]


KINDS = ["logits processor", "sampler", "signal", "stopping criterion", "combinator", "search", "schedule"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_laws(kind: str) -> None:
    named = laws(kind)
    assert {"contract", "declared", "spelling"} <= set(named) < set(laws())


def test_wrong_use_is_said() -> None:
    with pytest.raises(TypeError, match="is wanted"):
        assert_laws()
    with pytest.raises(TypeError, match="is wanted, got 3"):
        assert_laws(3)  # type: ignore[arg-type]
    with pytest.raises(lm.StrategyError, match="has no argument 'amuont'; it takes amount, over"):
        assert_laws(Less, amuont=1.0)
    with pytest.raises(lm.StrategyError, match="at most 9"):
        assert_laws(Less, amount=10.0)
    with pytest.raises(lm.StrategyError, match="top_kk"):
        assert_laws("top_kk(3)")
    with pytest.raises(ValueError, match="too many"):
        assert_laws(Less, amount=[float(i) / 64 for i in range(300)])
    with pytest.raises(ValueError, match="names tokens beyond the 320"):
        assert_laws(lm.ban(4000))
    when = registry().find("when").load()
    with pytest.raises(ValueError, match="give one, as in"):
        stages_of(type("Needy", (when,), {"examples": (), "__doc__": "Needs."}), {})


def test_the_message_names_the_law_the_stage_and_the_smallest_counterexample() -> None:
    with pytest.raises(LawBroken) as caught:
        assert_laws(Lied, amount=2.0)
    assert str(caught.value) == (
        "kit.lied(2.0) breaks the law 'monotone': monotone = True: the order of the logits is kept\n"
        "  smallest counterexample: logits [[0, 0]], prompt [], output [0], row 0\n"
        "  token 1 comes above token 0: it gives [-2, 0]\n"
        "  other laws it breaks: planned"
    )
    found = caught.value
    assert (found.law, found.stage, found.row) == ("monotone", "kit.lied(2.0)", 0)
    assert found.case == from_tensor(torch.tensor([[0.0, 0.0]]), [[]], [[0]])
    assert isinstance(found, AssertionError)


def test_all_that_are_broken_come_back_from_check_laws() -> None:
    class Both(lm.LogitsProcessor, name="kit.both"):
        """Shifts, and says that it masks and that it does nothing."""

        masks_only = True
        identity_when: ClassVar[dict[str, Any]] = {"by": 0.0}
        by: lm.Scalar = Field(1.0, description="how much more than 1")

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            return dist.with_logits(dist.logits + 1 + self.by)

    broken = check_laws(Both, by=[0.0, 1.0])
    assert sorted((found.law, found.stage) for found in broken) == sorted([
        ("identity", "kit.both(by=0.0)"), ("masks_only", "kit.both(by=0.0)"), ("planned", "kit.both(by=0.0)"),
        ("identity", "kit.both"), ("masks_only", "kit.both"),
    ])  # fmt: skip
    with pytest.raises(LawBroken, match="other laws it breaks: identity"):
        assert_laws(Both)


def test_a_law_may_be_tried_by_itself() -> None:
    assert laws()["monotone"].broken_by(Lied(2.0)) is not None
    assert laws()["pointwise"].broken_by(Lied(2.0)) is None


def test_a_class_is_known_while_it_is_tried_and_no_longer() -> None:
    before = dict(registry().entries)
    assert_laws(Less, amount=1.0)
    check_laws(Lied)

    class TopK(lm.LogitsProcessor, name="top_k"):
        """Another stage under a name that is taken."""

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            return dist

    assert_laws(TopK)
    assert registry().entries == before


def test_a_stage_that_raises_breaks_the_first_law_alone() -> None:
    class Raising(lm.LogitsProcessor, name="kit.raising"):
        """Raises."""

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            raise KeyError("nothing here")

    [found] = check_laws(Raising)
    assert found.law == "contract"
    assert "it raised KeyError: 'nothing here'" in str(found)


def test_a_value_in_the_range_that_does_not_work_is_named() -> None:
    class Best(lm.LogitsProcessor, name="kit.best"):
        """Keeps the best k."""

        k: lm.Scalar[int] = Field(2, description="how many; 0 is not refused")

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            if isinstance(self.k, int) and self.k == 0:
                raise KeyError("none")
            return dist.keep(dist.rank < self.k)

    broken = {found.law: found.says for found in check_laws(Best)}
    assert broken["left"] == "kit.best(k=0) raised KeyError: 'none'"

    class Early(lm.LogitsProcessor, name="kit.early"):
        """Divides by what may be 0."""

        by: lm.Scalar = Field(1.0, ge=0, description="by what")

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            return dist.with_logits((dist.logits - dist.max_logit) / self.by)

    with pytest.raises(LawBroken, match=r"law 'left'.*\n.*\n  kit.early\(by=0.0\) gives \[nan\]"):
        assert_laws(Early)


def test_a_head_that_is_never_asked_or_says_no_breaks_nothing() -> None:
    class Reads(Less, name="kit.reads"):
        """Its on_head stands beside what the planner leaves alone."""

        needs: ClassVar[frozenset[str]] = frozenset({"history"})

        def on_head(self, head: Any, ctx: Any) -> bool:
            raise AssertionError("it is asked")

    asked: list[int] = []

    class Declines(lm.LogitsProcessor, name="kit.declines"):
        """It spoils the head, and says that it could not do it."""

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            return dist.with_logits(dist.logits / 2)

        def on_head(self, head: Any, ctx: Any) -> bool:
            asked.append(1)
            head.first(1)
            return False

    assert laws()["head"].broken_by(Reads(2.0)) is None
    assert laws()["head"].broken_by(Declines()) is None
    assert asked


def test_a_sampler_is_stochastic_by_the_draw_it_inherits_and_says_so_of_its_own() -> None:
    class Drawing(lm.Sampler, name="kit.drawing"):
        """Draws, by Sampler's own pick."""

    class Choosing(Drawing, name="kit.choosing"):
        """Draws by a pick of its own, and does not say that it reads noise."""

        def pick(self, law: Any, ctx: Any) -> Any:
            return super().pick(law, ctx)

    assert Drawing.stochastic
    assert check_laws(Drawing) == []
    assert not Choosing.stochastic
    assert [found.law for found in check_laws(Choosing)] == ["noise"]


def test_siblings_are_the_ends_of_a_range_and_values_within_it() -> None:
    assert sorted(s.amount for s in siblings(Less(2.0))) == [0.0, 1.0, 5.0, 9.0]
    assert siblings(lm.greedy()) == []


# -- shrinking ---------------------------------------------------------------------------------------------------------


def test_a_counterexample_is_shrunk_to_the_least_that_fails() -> None:
    found = smallest(ordinary(), lambda case: any(3 in row for row in case.outputs))
    assert found.rows == 1
    assert found.vocab == 4  # as many as token 3 needs
    assert found.outputs == ((3,),)
    assert found.prompts == ((),)
    assert str(found) == "logits [[0, 0, 0, 0]], prompt [], output [3]"


def test_numbers_become_whole_and_small() -> None:
    found = smallest(ordinary(), lambda case: max(max(row) for row in case.logits) > 2.5)
    assert found.logits == ((3.0,),)


def test_numbers_that_must_be_large_have_few_digits() -> None:
    found = smallest(extreme(), lambda case: max(max(row) for row in case.logits) > 1.8446744e19)
    assert str(found) == "logits [[2e+19]], prompt [], output []"
    shown = str(from_tensor(torch.tensor([[100.0, 20.0, 3.4e38, 0.1, -1234567.0]]), [[]], [[]]))
    assert shown == "logits [[100, 20, 3.4e+38, 0.1, -1234567]], prompt [], output []"


def test_two_rows_stay_where_two_are_needed() -> None:
    found = smallest(ordinary(), lambda case: case.rows > 1 and case.logits[0] != case.logits[1])
    assert found.rows == 2
    assert size(found) <= size(ordinary())
    assert found.vocab == 1


def test_what_shrinks_stays_a_case_a_model_could_give() -> None:
    def fails(case: Case) -> bool:
        assert all(any(value > -torch.inf for value in row) for row in case.logits)
        tokens = [token for rows in (case.prompts, case.outputs) for row in rows for token in row]
        assert all(0 <= token < case.vocab for token in tokens)
        return any(-torch.inf in row for row in case.logits)

    found = smallest(ordinary(), fails)
    assert sorted(found.logits[0]) == [-torch.inf, 0.0]


def test_shrinking_ends_where_its_tries_do() -> None:
    calls: list[int] = []
    smallest(ordinary(), lambda case: bool(calls.append(1)), tries=10)
    assert len(calls) == 10
    assert smallest(lonely(), lambda case: False) == lonely()


# -- another device ----------------------------------------------------------------------------------------------------


def test_another_device_is_compared_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands in for it, which shows the comparison; what a GPU does is seen where there is one."""
    monkeypatch.setattr(devices, "accelerators", lambda: ["cpu"])
    for stage in (lm.top_p(0.9), lm.greedy(), lm.signals.entropy.expression.signal, lm.max_tokens(3)):
        assert laws()["float32"].broken_by(stage) is None


def test_another_result_there_is_told() -> None:
    class Drifting(lm.LogitsProcessor, name="kit.drifting"):
        """One more each time."""

        calls: ClassVar[list[int]] = []

        def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
            self.calls.append(1)
            return dist.with_logits(dist.logits + len(self.calls))

    found = devices._elsewhere(Drifting(), ordinary(), "cpu")
    assert found is not None
    assert found.row == 0
    assert found.says.startswith("on cpu it gives [")
