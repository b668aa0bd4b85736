"""best_of: how it ranks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from logitmill.core.errors import StrategyError
from logitmill.core.expression import Negative, Read
from logitmill.core.strategy import Strategy


def row(measure: float, reason: str = "eos") -> SimpleNamespace:
    return SimpleNamespace(measures=(measure,), finish_reason=reason, tokens=[], text="")


def test_ranks_by_the_measure_ties_in_order(bench: Any) -> None:
    search = bench.stage("best_of", 4, block=bench.stage("sample"))
    assert search.finish([row(-2.0), row(-1.0), row(-3.0), row(-1.0)]) == [1, 3, 0, 2]
    assert search.finish([row(-1.0)]) == [0]


def test_errors_and_nan_come_last(bench: Any) -> None:
    search = bench.stage("best_of", 4, block=bench.stage("sample"))
    assert search.finish([row(5.0, "error"), row(-9.0), row(float("nan")), row(float("-inf"))]) == [1, 3, 0, 2]


def test_what_it_asks_of_the_core(bench: Any) -> None:
    block = Strategy.of(bench.stage("sample"))
    search = bench.stage("best_of", 3, block=block)
    assert search.expand() == 3
    assert search.children() == (block,)
    assert search.measures() == (Read(bench.stage("mean_logprob")),)
    shortest = Negative(Read(bench.stage("step")))
    assert bench.stage("best_of", 3, by=shortest, block=block).measures() == (shortest,)


def test_refuses(bench: Any) -> None:
    with pytest.raises(StrategyError, match="needs 'block'"):
        bench.stage("best_of", 3)
    with pytest.raises(StrategyError, match="at least 1"):
        bench.stage("best_of", 0, block=bench.stage("sample"))
    with pytest.raises(StrategyError, match="ranks by a number"):
        bench.stage("best_of", 2, by=Read(bench.stage("tail")), block=bench.stage("sample"))
