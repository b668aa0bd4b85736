"""The pytest plugin that comes with logitmill, as another project's tests use it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest

import logitmill as lm
from logitmill.core.loader import plugins, registry

pytest_plugins = ["pytester"]


class Mine(lm.LogitsProcessor, name="mine"):
    """Does nothing."""

    def apply(self, dist: Any, state: Any, ctx: Any) -> Any:
        return dist


def test_pytest_finds_it_by_its_entry_point() -> None:
    [point] = [point for point in entry_points(group="pytest11") if point.name == "logitmill"]
    assert point.value == "logitmill.plugins.testing.fixtures"
    assert point.load().engine


def test_an_engine_generates_and_needs_no_download(engine: lm.Engine) -> None:
    out = engine.generate("The sea", "sample until max_tokens(5)", seed=1)
    assert len(out.raise_for_error().tokens) == 5
    assert engine.generate("The sea", "sample until max_tokens(5)", seed=1).tokens == out.tokens
    assert len(engine.generate(["a"] * 9, "greedy until max_tokens(2)")) == 9


def test_the_model_is_one_for_all_tests_and_is_of_bytes(byte_model: Any, engine: lm.Engine) -> None:
    assert engine.model is byte_model.model
    assert len(byte_model.tokenizer("häuser")["input_ids"]) == 7


REGISTERED: list[Any] = []


def test_what_is_registered_for_a_test(register_plugin: Callable[..., Any]) -> None:
    REGISTERED.append((dict(plugins().met), dict(registry().entries)))

    @register_plugin
    class Yours(Mine, name="yours"):
        """Does nothing either."""

    assert register_plugin(Mine) is Mine
    watcher = ModuleType("watcher")
    watcher.on_finish = lm.hookimpl(lambda result: None)  # type: ignore[attr-defined]  # a module made on the spot
    register_plugin(watcher)
    assert lm.Strategy.parse("mine | yours | greedy").complete
    assert "watcher" in [name for name, _ in plugins().observers("on_finish")]
    assert Yours.stage_name == "yours"


def test_is_gone_in_the_next(register_plugin: Callable[..., Any]) -> None:
    [(met, entries)] = REGISTERED
    assert (dict(plugins().met), dict(registry().entries)) == (met, entries)
    assert "watcher" not in [name for name, _ in plugins().observers("on_finish")]
    with pytest.raises(lm.StrategyError, match="mine"):
        lm.Strategy.parse("mine")


def test_a_class_gives_way_to_its_former_self(pytester: pytest.Pytester) -> None:
    """Registered before a test, and again in it: afterwards it is the first one."""
    lm.register(Mine)
    try:
        pytester.makepyfile(
            """
            import logitmill as lm

            class Mine(lm.LogitsProcessor, name="mine"):
                "Another one."

            def test_it(register_plugin):
                register_plugin(Mine)
                assert lm.mine().__class__ is Mine
            """
        )
        pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
        assert registry().stage("mine").__class__ is Mine
    finally:
        lm.unregister(Mine)


def test_a_strategy_is_parsed_and_its_warnings_are_shown(strategy: Callable[..., lm.Strategy]) -> None:
    assert strategy("top_k(5) | sample") == lm.Strategy.parse("top_k(5) | sample")
    with pytest.raises(lm.StrategyError, match="did you mean"):
        strategy("top_kk(5)")
    with pytest.warns(UserWarning, match="temperature"):
        strategy("temperature(0.5) | greedy until max_tokens(3)")
    strategy("temperature(0.5) | greedy", ignore=None)
    with pytest.warns(UserWarning, match="no-bound|bound"):
        strategy('sample until stop("x")', ignore=())


def test_warnings_come_in_pytests_summary(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(strategy):\n    strategy('temperature(0.5) | greedy until max_tokens(3)')\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*test_warnings_come_in_pytests_summary.py*temperature*"])


def test_a_law_that_is_broken_reads_well_in_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import logitmill as lm
        from logitmill.testing import assert_laws

        class Turning(lm.LogitsProcessor, name="tide.turning"):
            "Turns token 0 down."
            monotone = True

            def apply(self, dist, state, ctx):
                return dist.with_logits(dist.logits - 2.0 * (dist.token_ids() == 0))

        def test_it():
            assert_laws(Turning)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*tide.turning breaks the law 'monotone'*",
            "*smallest counterexample: logits [[][[]0, 0]], prompt [[]], output*",
        ]
    )


def test_the_fixtures_are_documented_where_pytest_lists_them(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--fixtures", "-p", "no:cacheprovider")
    text = result.stdout.str()
    for name in ("byte_model", "engine", "register_plugin", "strategy"):
        assert f"\n{name} " in text or f"\n{name}\n" in text
    assert "no docstring available" not in text[text.index("byte_model") : text.index("byte_model") + 2000]


def test_loading_it_brings_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, logitmill.plugins.testing.fixtures;"
        "print(*[name for name in ('torch', 'transformers', 'pydantic', 'lark') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == []
