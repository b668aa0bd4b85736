"""Installed plugins that are at fault: each is named in one line and left out, and everything else goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

import logitmill as lm
from logitmill.core.errors import PluginError
from logitmill.core.loader import PluginWarning

GOOD = '''
import logitmill as lm

class Halve(lm.LogitsProcessor, name="{vendor}.halve"):
    """l' = l / 2."""

    def apply(self, dist, state, ctx):
        return dist.with_logits(dist.logits / 2)

@lm.hookimpl
def register_logits_processors(register):
    register(Halve)
'''
LAZY = """
from logitmill import hookimpl

@hookimpl
def register_samplers(register):
    register("{module}:Late", name="acme.late")
"""
LATE = '''
import logitmill as lm

class Late(lm.Sampler, name="acme.late"):
    """Draws."""
'''

HOOK = "from logitmill import hookimpl\n@hookimpl\n"
VENDOR = "a third party's stage is named vendor.stage, as in"

#: what is wrong with it -> its source (None: there is none) and what is said
FAULTS = {
    "cannot be imported": (
        "import a_module_that_is_not_there",
        "cannot be imported: ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    ),
    "has no such module": (None, "cannot be imported: ModuleNotFoundError: No module named"),
    "has a syntax error": ("def register(:", "cannot be imported: SyntaxError: invalid syntax"),
    "exits on import": ("import sys; sys.exit('goodbye')", "cannot be imported: SystemExit: goodbye"),
    "raises in registration": (
        HOOK + "def register_signals(register): raise KeyError('oh')",
        "raised while registering: KeyError: 'oh'",
    ),
    "is of another api": (
        "api = 2",
        "is written for plugin api 2, this logitmill speaks api 1: upgrade one of them",
    ),
    "has no vendor": (GOOD.replace("{vendor}.", ""), f"registered 'halve': {VENDOR} 'acme.halve'"),
    "takes a built-in name": (GOOD.replace("{vendor}.halve", "top_p"), f"registered 'top_p': {VENDOR} 'acme.top_p'"),
    "misspells a hook": (
        HOOK + "def register_sampler(register): pass",
        "implements the hook 'register_sampler', which does not exist; did you mean 'register_samplers'?",
    ),
    "takes what no hook gives": (
        HOOK + "def register_signals(book): pass",
        "raised while registering: PluginValidationError",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_at_fault_is_left_out_and_its_neighbour_works(
    fault: str, installed: Callable[..., Path], fresh: SimpleNamespace
):
    source, says = FAULTS[fault]
    name = "fault_" + fault.replace(" ", "_").replace("-", "_")
    installed("bad-samplers", {} if source is None else {name: source}, plugins={"bad": name})
    installed("good-samplers", {f"{name}_neighbour": GOOD.format(vendor="good")}, plugins={"good": f"{name}_neighbour"})
    with pytest.warns(PluginWarning) as warned:
        plugins = fresh.discover()
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == 1
    assert messages[0].startswith(f"plugin 'bad' {says}")
    assert messages[0].endswith("; it is left out")
    assert "\n" not in messages[0]
    assert plugins.met["bad"].status == "failed"
    assert (plugins.met["bad"].distribution, plugins.met["bad"].version) == ("bad-samplers", "1.2")
    assert plugins.met["good"].status == "loaded"
    assert {entry.plugin for entry in plugins.registry.entries.values()} == {"samplers", "stopping", "good"}
    law = lm.Strategy.parse("good.halve | temperature(0.5)").distribution([1.0, 0.0])
    assert law.tolist() == lm.Strategy().distribution([1.0, 0.0]).tolist()


@pytest.mark.parametrize("fault", ["cannot be imported", "is of another api", "raises in registration"])
def test_strict_raises(
    fault: str, installed: Callable[..., Path], fresh: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOGITMILL_STRICT_PLUGINS", "1")
    source, says = FAULTS[fault]
    name = "strict_" + fault.replace(" ", "_")
    installed("bad-samplers", {name: source}, plugins={"bad": name})
    with pytest.raises(PluginError) as caught:
        fresh.discover()
    assert str(caught.value).startswith(f"plugin 'bad' {says}")


def test_two_plugins_one_stage(installed: Callable[..., Path], fresh: SimpleNamespace):
    installed("one", {"clash_one": GOOD.format(vendor="acme")}, plugins={"one": "clash_one"})
    installed("two", {"clash_two": GOOD.format(vendor="acme")}, plugins={"two": "clash_two"})
    with pytest.warns(PluginWarning, match="plugins 'one' and 'two' both register 'acme.halve'; it is left out"):
        plugins = fresh.discover()
    assert plugins.registry.find("acme.halve").plugin == "one"
    assert plugins.met["two"].status == "failed"


def test_two_distributions_one_plugin_name(installed: Callable[..., Path], fresh: SimpleNamespace):
    installed("one", {"same_one": GOOD.format(vendor="one")}, plugins={"acme": "same_one"})
    installed("two", {"same_two": GOOD.format(vendor="two")}, plugins={"acme": "same_two"})
    with pytest.warns(
        PluginWarning,
        match=r"plugin 'acme' of (one|two) 1\.2 has the name of another, of (one|two) 1\.2; it is left out",
    ):
        plugins = fresh.discover()
    assert len([plugin for plugin in plugins.met.values() if plugin.name == "acme"]) == 2
    assert len([name for name in plugins.registry.entries if name.endswith(".halve")]) == 1


def test_one_module_under_two_names(installed: Callable[..., Path], fresh: SimpleNamespace):
    installed(
        "one",
        {"shared_module": GOOD.format(vendor="one")},
        plugins={"first": "shared_module", "second": "shared_module"},
    )
    with pytest.warns(PluginWarning, match="plugin 'second' is 'first' once more: both are shared_module"):
        plugins = fresh.discover()
    assert plugins.registry.find("one.halve").plugin == "first"


# -- the allow-list ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("allowed", "loaded"), [("", []), ("one", ["one"]), (" two , one ", ["one", "two"])])
def test_only_what_is_allowed(
    allowed: str,
    loaded: list[str],
    installed: Callable[..., Path],
    fresh: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
):
    name = "allowed_" + str(len(loaded))
    for vendor in ("one", "two"):
        installed(vendor, {f"{name}_{vendor}": GOOD.format(vendor=vendor)}, plugins={vendor: f"{name}_{vendor}"})
    monkeypatch.setenv("LOGITMILL_PLUGINS", allowed)
    plugins = fresh.discover()
    assert [entry.plugin for entry in plugins.registry.entries.values() if "." in entry.name] == loaded
    assert {plugin.name for plugin in plugins.met.values() if plugin.status == "not allowed"} == {"one", "two"} - set(
        loaded
    )
    assert plugins.registry.find("top_p") is not None
    assert [f"{name}_{vendor}" in sys.modules for vendor in ("one", "two")] == [v in loaded for v in ("one", "two")]


def test_an_allowed_plugin_that_is_not_installed_is_said(fresh: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGITMILL_PLUGINS", "acme_samplers_not_there")
    with pytest.warns(
        PluginWarning, match="plugin 'acme_samplers_not_there' is named in LOGITMILL_PLUGINS and not installed"
    ):
        fresh.discover()


# -- lazy registration -------------------------------------------------------------------------------------------------


def test_a_lazy_stage_is_imported_by_the_strategy_that_names_it(installed: Callable[..., Path], fresh: SimpleNamespace):
    installed(
        "acme", {"lazy_hooks": LAZY.format(module="lazy_late"), "lazy_late": LATE}, plugins={"acme": "lazy_hooks"}
    )
    fresh.discover()
    assert "lazy_late" not in sys.modules
    lm.Strategy.parse("top_p(0.5) | sample")
    assert "lazy_late" not in sys.modules
    lm.Strategy.parse("top_p(0.5) | acme.late")
    assert "lazy_late" in sys.modules


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (LATE.replace("lm.Sampler", "lm.LogitsProcessor"), "registered 'acme.late' as a sampler, but"),
        (LATE.replace('name="acme.late"', 'name="acme.later"'), "is the sampler 'acme.later'"),
        ("raise OSError('a disk is missing')", "'acme.late' cannot be imported"),
    ],
)
def test_a_lazy_stage_that_is_not_what_was_said_is_an_error_where_it_is_named(
    late: str, says: str, installed: Callable[..., Path], fresh: SimpleNamespace
):
    name = f"lazy_wrong_{abs(hash(late))}"
    installed("acme", {name: LAZY.format(module=f"{name}_late"), f"{name}_late": late}, plugins={"acme": name})
    fresh.discover()
    with pytest.raises(lm.StrategyError) as caught:
        lm.Strategy.parse("top_p(0.5) | acme.late")
    assert says in str(caught.value)
    assert caught.value.column == 14
    assert lm.Strategy.parse("top_p(0.5) | sample").complete


# -- the plugins command -----------------------------------------------------------------------------------------------


def test_plugins_lists_without_an_import(
    installed: Callable[..., Path], logitmill: Callable[..., Result], golden: Callable[[str, str], None]
):
    installed("acme-samplers", {"listed_module": "raise RuntimeError"}, plugins={"acme": "listed_module"})
    result = logitmill("plugins", env={"LOGITMILL_PLUGINS": "acme"})
    assert (result.exit_code, result.stderr) == (0, "")
    assert "listed_module" not in sys.modules
    golden(result.stdout, "plugins.txt")


def test_plugins_check_imports_and_says_what_is_wrong(
    installed: Callable[..., Path], logitmill: Callable[..., Result], golden: Callable[[str, str], None]
):
    installed(
        "acme-samplers", {"broken_module": "raise RuntimeError('out of luck')"}, plugins={"acme": "broken_module"}
    )
    installed("late-samplers", {"late_hooks": LAZY.format(module="late_missing")}, plugins={"late": "late_hooks"})
    result = logitmill("plugins", "--check", env={"LOGITMILL_STRICT_PLUGINS": "1"})
    assert result.exit_code == 1
    golden(result.stdout + result.stderr, "plugins_check.txt")


def test_plugins_as_json(installed: Callable[..., Path], logitmill: Callable[..., Result]):
    import json

    installed("acme-samplers", {"json_module": ""}, plugins={"acme": "json_module"})
    result = logitmill("plugins", "--json", env={"LOGITMILL_PLUGINS": ""})
    found = {item["name"]: item for item in map(json.loads, result.stdout.splitlines())}
    assert found["acme"] == {
        "name": "acme", "distribution": "acme-samplers", "version": "1.2", "origin": "json_module",
        "builtin": False, "status": "not allowed", "error": None,
    }  # fmt: skip
    assert found["samplers"]["builtin"]


def test_a_fault_is_one_line_on_stderr_of_any_command(installed: Callable[..., Path], program: Callable[..., object]):
    site = installed("acme", {"loud_module": "raise RuntimeError('out of luck')"}, plugins={"acme": "loud_module"})
    result = program("check", "greedy until eos or max_tokens(9)", path=site)
    assert (result.returncode, result.stdout) == (0, b"ok\n")
    assert result.stderr == b"warning: plugin 'acme' cannot be imported: RuntimeError: out of luck; it is left out\n"
    strict = program("check", "greedy until eos or max_tokens(9)", path=site, env={"LOGITMILL_STRICT_PLUGINS": "1"})
    assert (strict.returncode, strict.stdout) == (1, b"")
    assert strict.stderr == b"error: plugin 'acme' cannot be imported: RuntimeError: out of luck\n"
