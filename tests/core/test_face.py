"""The Python face: every registered name is an attribute, and mistakes say what was meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

import logitmill as lm
from logitmill import Strategy, ramp, signals
from logitmill.core.errors import StrategyError
from logitmill.core.loader import registry


def test_every_registered_stage_is_an_attribute() -> None:
    for name, entry in registry().entries.items():
        if (
            "." not in name and entry.kind != "signal" and name != "when"
        ):  # lm.when takes conditions as Python builds them
            assert getattr(lm, name).stage_name == name
            assert name in dir(lm)
    for entry in registry().of("signal"):
        if "." not in entry.name:
            assert entry.name in dir(signals)


def test_importing_logitmill_imports_no_torch() -> None:
    code = "import sys, logitmill; logitmill.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_mistakes_say_what_was_meant() -> None:
    with pytest.raises(AttributeError, match="did you mean 'top_p'"):
        lm.topp  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute"):
        lm._private  # noqa: B018
    with pytest.raises(AttributeError, match="no signal 'top_p'"):
        signals.top_p  # noqa: B018
    with pytest.raises(StrategyError, match="unknown schedule 'cubic'"):
        ramp(1, 2, over=3, by="cubic")
    with pytest.raises(StrategyError, match="when takes a condition on signals, not a stopping criterion"):
        lm.when(lm.eos(), lm.greedy())
    with pytest.raises(StrategyError, match="when takes a condition on signals, got True"):
        lm.when(True, lm.greedy())
    with pytest.raises(StrategyError, match="when takes a condition on signals, this expression is a number"):
        lm.when(signals.entropy, lm.greedy())
    for combinator in ("mix", "product"):
        for wrong in ((1, 2), (lm.top_p(0.9), lm.top_k(4)), ((0.5, lm.top_p(0.9)), 3)):
            with pytest.raises(StrategyError, match=rf"{combinator} takes pairs of weight and block, as in lm\."):
                getattr(lm, combinator)(*wrong)
    with pytest.raises(StrategyError, match=r"mix\.parts: a strategy, a stage or a block is wanted, got int$"):
        lm.mix((1, 2))
    with pytest.raises(StrategyError, match="at least 1 character"):
        signals.within("", "x")
    with pytest.raises(StrategyError, match=r"open must be at least 0, got -1"):
        signals.within(-1, "x")


def test_python_and_text_make_equal_strategies() -> None:
    pairs = {
        "temperature(1.2 -> 0.6 over 64 by cosine) | sample": lm.temperature(ramp(1.2, 0.6, over=64, by="cosine"))
        | lm.sample(),
        "temperature(0.3 + 0.2*entropy) | greedy": lm.temperature(0.3 + 0.2 * signals.entropy) | lm.greedy(),
        "when entropy < 0.4 { greedy } else { sample }": lm.when(signals.entropy < 0.4, lm.greedy(), lm.sample()),
        "when step < 3 { top_k(5) } | sample": lm.when(signals.step < 3, lm.top_k(5)) | lm.sample(),
        "mix(0.7: { top_k(3) }, 0.3: { min_p(0.1) }) | sample": lm.mix((0.7, lm.top_k(3)), (0.3, lm.min_p(0.1)))
        | lm.sample(),
        "phases({ sample until max_tokens(3) }, { greedy })": lm.phases(
            lm.sample().until(lm.max_tokens(3)), lm.greedy()
        ),
        "best_of(3, by=sum_logprob) { sample }": lm.best_of(3, by=signals.sum_logprob, block=lm.sample()),
        'greedy until stop("a", "b") or step > 3': lm.greedy().until(lm.stop("a", "b").or_(signals.step > 3)),
    }
    for text, built in pairs.items():
        strategy = Strategy.of(built)
        assert strategy == Strategy.parse(text), text
        assert strategy.hash == Strategy.parse(text).hash
        assert Strategy.parse(strategy.to_text()) == strategy
        assert Strategy.from_dict(strategy.to_dict()) == strategy
