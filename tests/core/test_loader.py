"""The loader, on plugins that are objects here; as installed packages they are met in tests/plugins/test_faults.py."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import pytest

import logitmill as lm
from logitmill.core import loader
from logitmill.core.errors import PluginError
from logitmill.core.hookspecs import Hooks
from logitmill.core.loader import Plugins, PluginWarning

UPGRADE = "this logitmill speaks api 1: upgrade one of them"


class Halve(lm.LogitsProcessor, name="acme.halve"):
    """l' = l / 2."""

    def apply(self, dist, state, ctx):
        return dist.with_logits(dist.logits / 2)


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(strict=False)


def module(name: str = "acme", **hooks: Any) -> ModuleType:
    made = ModuleType(name)
    for hook, function in hooks.items():
        setattr(made, hook, lm.hookimpl(function) if callable(function) else function)
    return made


def halve(register: Any) -> None:
    register(Halve)


def test_a_plugin_is_added_and_removed(plugins: Plugins):
    added = plugins.add(module(register_logits_processors=halve))
    assert (added.name, added.status, added.error) == ("acme", "loaded", None)
    assert plugins.registry.find("acme.halve").plugin == "acme"
    plugins.remove("acme")
    assert plugins.registry.find("acme.halve") is None
    assert "acme" not in plugins.met
    plugins.add(module(register_logits_processors=halve))


def test_an_object_is_a_plugin_too(plugins: Plugins):
    class Mine:
        @lm.hookimpl
        def register_logits_processors(self, register: Any) -> None:
            register(Halve)

    plugins.add(Mine())
    assert "Mine" in plugins.met


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (module(api=2), "plugin 'acme' is written for plugin api 2, " + UPGRADE),
        (module(api="new"), "plugin 'acme' is written for plugin api 'new', " + UPGRADE),
        (
            module(register_samplers=lambda register: 1 / 0),
            "plugin 'acme' raised while registering: ZeroDivisionError: division by zero",
        ),
        (module(register_samplers=halve), "plugin 'acme' registered the logits processor 'acme.halve' as a sampler"),
        (
            module(register_sampler=halve),
            "plugin 'acme' implements the hook 'register_sampler', which does not exist; "
            "did you mean 'register_samplers'?",
        ),
        (module(fly=lambda: None), "plugin 'acme' implements the hook 'fly', which does not exist"),
    ],
)  # fmt: skip
def test_what_add_refuses_leaves_nothing(plugins: Plugins, made: ModuleType, says: str):
    with pytest.raises(PluginError) as caught:
        plugins.add(made)
    assert str(caught.value) == says
    assert not plugins.met
    assert not plugins.registry.entries
    assert not plugins.manager.get_plugins()


def test_a_hook_that_another_version_has_may_be_marked_optional(plugins: Plugins):
    made = ModuleType("acme")
    made.on_rainy_day = lm.hookimpl(lambda: None, optionalhook=True)  # type: ignore[attr-defined]
    plugins.add(made)


def test_one_plugin_twice(plugins: Plugins):
    made = module(register_logits_processors=halve)
    plugins.add(made)
    with pytest.raises(PluginError, match="'acme' is registered already, as plugin 'acme'"):
        plugins.add(made)
    with pytest.raises(PluginError, match="a plugin 'acme' is registered already"):
        plugins.add(module())
    assert plugins.registry.find("acme.halve") is not None


def test_two_plugins_one_stage(plugins: Plugins):
    plugins.add(module("first", register_logits_processors=halve))
    with pytest.raises(PluginError, match=r"plugins 'first' and 'second' both register 'acme\.halve'"):
        plugins.add(module("second", register_logits_processors=halve))
    assert plugins.registry.find("acme.halve").plugin == "first"


def test_what_a_plugin_registered_before_it_failed_is_taken_back(plugins: Plugins):
    def both(register: Any) -> None:
        register(Halve)
        raise RuntimeError("second thoughts")

    with pytest.raises(PluginError, match="second thoughts"):
        plugins.add(module(register_logits_processors=both))
    assert plugins.registry.find("acme.halve") is None


def test_presets_are_registered(plugins: Plugins):
    plugins.add(module(register_presets=lambda register: register("acme", "let warm = temperature(1.2)")))
    assert plugins.registry.presets["acme"] == ("let warm = temperature(1.2)", "acme")


def test_check_imports_every_lazy_stage(plugins: Plugins):
    plugins.add(module(register_signals=lambda register: register("no_such_module:X", name="acme.x")))
    plugins.add(module("fine", register_logits_processors=halve))
    faults = plugins.check()
    assert list(faults) == ["acme"]
    assert "ModuleNotFoundError" in faults["acme"][0]


# -- observers ---------------------------------------------------------------------------------------------------------


def test_observers_are_told_and_one_that_raises_is_left_out(plugins: Plugins):
    told: list[tuple[str, Any]] = []

    def good(result: Any) -> None:
        told.append(("good", result))

    def bad(result: Any) -> None:
        told.append(("bad", result))
        raise ValueError("not today")

    plugins.add(module("one", on_finish=good))
    plugins.add(module("two", on_finish=bad))
    observers = plugins.observers("on_finish")
    with pytest.warns(PluginWarning, match="observer of plugin 'two' raised ValueError: not today; it is left out"):
        plugins.notify(observers, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # not a second time
        plugins.notify(observers, 2)
        plugins.notify(plugins.observers("on_finish"), 3)
    assert sorted(told) == [("bad", 1), ("good", 1), ("good", 2), ("good", 3)]


def test_an_observer_need_not_look(plugins: Plugins):
    calls = []
    plugins.add(module(on_step=lambda: calls.append("step")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugins.notify(plugins.observers("on_step"), object())
    assert calls == ["step"]


def test_an_observers_method_is_left_out_for_its_object_alone(plugins: Plugins):
    class Picky:
        def __init__(self, limit: int) -> None:
            self.limit, self.seen = limit, 0

        @lm.hookimpl
        def on_step(self, step: Any) -> None:
            self.seen += 1
            if self.seen > self.limit:
                raise RuntimeError("enough")

    few, many = Picky(1), Picky(10)
    plugins.add(few, "few")
    plugins.add(many, "many")
    plugins.notify(plugins.observers("on_step"), None)
    with pytest.warns(PluginWarning, match="'few'"):
        plugins.notify(plugins.observers("on_step"), None)
    for _ in range(3):
        plugins.notify(plugins.observers("on_step"), None)
    assert (few.seen, many.seen) == (2, 5)


# -- register, as a notebook uses it -----------------------------------------------------------------------------------


def test_register_and_unregister_a_class(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loader, "_plugins", Plugins(strict=False))

    class Mine(lm.LogitsProcessor, name="mine"):
        """Nothing."""

    first = Mine
    lm.register(first)
    assert loader.registry().find("mine").load() is first

    class Mine(lm.LogitsProcessor, name="mine"):  # type: ignore[no-redef]  # the cell is run again
        """Nothing, better."""

    lm.register(Mine)
    assert loader.registry().find("mine").load() is Mine
    lm.unregister(Mine)
    assert loader.registry().find("mine") is None


def test_configure_reaches_everyone_now_and_later_whoever_raises():
    told: list[tuple[str, object]] = []

    class Faulty:
        @lm.hookimpl
        def configure(self, settings):
            raise ValueError("no")

    class Fine:
        def __init__(self, name: str) -> None:
            self.name = name

        @lm.hookimpl
        def configure(self, settings):
            told.append((self.name, settings))

    loading = Plugins(strict=False)
    loading.add(Fine("before"), "before")
    loading.add(Faulty(), "faulty")
    loading.add(Fine("after"), "after")
    with pytest.warns(PluginWarning, match="configure of plugin 'faulty' raised ValueError: no"):
        loading.configure({"rows": 8})
    assert sorted(told) == [("after", {"rows": 8}), ("before", {"rows": 8})]
    loading.add(Fine("late"), "late")
    assert told[2:] == [("late", {"rows": 8})]


def test_every_hook_says_what_it_is_for():
    hooks = [value for name, value in vars(Hooks).items() if not name.startswith("_")]
    assert len(hooks) == 14
    for hook in hooks:
        assert hook.__doc__
        assert "\n" not in hook.__doc__


def test_the_builtin_stages_come_by_entry_points():
    """Without the entry points nothing is registered: core knows no stage."""
    assert not Plugins(strict=False).registry.entries
    found = {plugin.name: plugin for plugin in Plugins.found()}
    assert {"samplers", "stopping"} <= set(found)
    assert all(found[name].builtin for name in ("samplers", "stopping"))
