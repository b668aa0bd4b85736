"""Names: who may take which, and what an entry gives."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitmill as lm
from logitmill.core.errors import PluginError
from logitmill.core.registry import WORDS, Entry, Registry


class Halve(lm.LogitsProcessor, name="acme.halve"):
    """l' = l / 2."""

    def apply(self, dist, state, ctx):
        return dist.with_logits(dist.logits / 2)


class Warm(lm.Signal, name="acme.warm"):
    """Always 1."""

    def read(self, dist, ctx):
        return dist.probs.sum(-1, keepdim=True)


class Plain(lm.LogitsProcessor, name="plain"):
    """A name without a vendor."""


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_a_class_is_found_by_its_name(registry: Registry):
    registry.add("logits processor", "acme", Halve, None)
    entry = registry.find("acme.halve")
    assert entry is not None
    assert entry.loaded
    assert entry.load() is Halve
    assert isinstance(registry.stage("acme.halve"), Halve)
    assert [entry.name for entry in registry.of("logits processor")] == ["acme.halve"]


@pytest.mark.parametrize(
    ("kind", "target", "name", "says"),
    [
        ("sampler", Halve, None, "registered the logits processor 'acme.halve' as a sampler"),
        ("signal", int, None, "which is no stage class"),
        ("signal", Warm(), None, "which is no stage class"),
        ("logits processor", Halve, "acme.other", "under another name, 'acme.other'"),
        ("logits processor", Plain, None, "is named vendor.stage, as in 'acme.plain'"),
        ("logits processor", "acme:Halve", None, "is named vendor.stage, as in 'acme.halve'"),
        ("logits processor", "acme", "acme.x", "a lazy stage is written 'module:Class'"),
        ("logits processor", "acme:", "acme.x", "a lazy stage is written 'module:Class'"),
        ("logits processor", ":Halve", "acme.x", "a lazy stage is written 'module:Class'"),
        ("logits processor", "acme:Halve", "acme.top-k", "made of letters, digits, _ and dots"),
        ("logits processor", "acme:Halve", "acme..x", "made of letters, digits, _ and dots"),
        ("logits processor", "acme:Halve", "acmé.x", "made of letters, digits, _ and dots"),
        ("logits processor", "acme:Halve", "acme.until", "'until' is a word of the language"),
        ("logits processor", "acme:Halve", "raw.x", "'raw' is a word of the language"),
    ],
)
def test_what_is_refused(registry: Registry, kind: str, target: object, name: str | None, says: str):
    with pytest.raises(PluginError, match=r"^plugin 'acme' registered") as caught:
        registry.add(kind, "acme", target, name)
    assert says in str(caught.value)
    assert not registry.entries


def test_a_clash_names_both_sides(registry: Registry):
    registry.add("logits processor", "first", Halve, None)
    with pytest.raises(PluginError, match=r"plugins 'first' and 'second' both register 'acme\.halve'"):
        registry.add("signal", "second", "somewhere:Halve", "acme.halve")
    assert registry.entries["acme.halve"].plugin == "first"


def test_schedules_have_a_name_space_of_their_own(registry: Registry):
    registry.add("schedule", "core", "m:Step", "step", builtin=True)
    registry.add("signal", "core", "m:Step", "step", builtin=True)
    assert registry.find("step").kind == "signal"
    assert registry.schedule("step").kind == "schedule"


def test_presets(registry: Registry):
    registry.add_preset("acme", "acme", "let x = greedy")
    with pytest.raises(PluginError, match="plugins 'acme' and 'other' both register the preset 'acme'"):
        registry.add_preset("other", "acme", "let x = greedy")
    with pytest.raises(PluginError, match="are strings"):
        registry.add_preset("other", "more", 3)  # type: ignore[arg-type]


def test_what_a_plugin_leaves_is_forgotten(registry: Registry):
    registry.add("logits processor", "acme", Halve, None)
    registry.add("signal", "other", Warm, None)
    registry.add("schedule", "acme", "m:S", "acme.s")
    registry.add_preset("acme", "pack", "")
    registry.remove("acme")
    assert set(registry.entries) == {"acme.warm"}
    assert not registry.schedules
    assert not registry.presets


def test_the_words_are_the_languages():
    """Every keyword of the grammar is reserved."""
    grammar = (Path(lm.__file__).parent / "core/dsl/grammar.lark").read_text("utf-8")
    rules = "\n".join(line for line in grammar.splitlines() if not line.startswith("//"))
    keywords = {word for word in rules.split('"')[1::2] if word.isalpha()}
    assert {"until", "when"} <= keywords <= WORDS


_WORD = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=8).filter(
    lambda w: not w[0].isdigit() and w not in WORDS
)


@given(st.lists(_WORD, min_size=2, max_size=4).map(".".join))
def test_any_plain_name_with_a_vendor_is_a_name(name: str):
    registry = Registry()
    registry.add("logits processor", "acme", "acme:X", name)
    assert registry.find(name) is not None


# -- lazy stages -------------------------------------------------------------------------------------------------------

LAZY = '''
import logitmill as lm

class Halve(lm.LogitsProcessor, name="acme.halve"):
    """l' = l / 2."""

NUMBER = 3
'''


@pytest.fixture
def lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "registry_lazy_" + tmp_path.name.replace("-", "_")
    (tmp_path / f"{name}.py").write_text(LAZY, encoding="utf-8")
    (tmp_path / f"{name}_raises.py").write_text("raise RuntimeError('no\\nsuch luck')", encoding="utf-8")
    (tmp_path / f"{name}_exits.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_lazy_stage_is_imported_once_when_asked_for(lazy: str):
    entry = Entry("acme.halve", "logits processor", "acme", f"{lazy}:Halve")
    assert not entry.loaded
    stage = entry.load()
    assert stage.stage_name == "acme.halve"
    assert entry.load() is stage
    assert entry.loaded


@pytest.mark.parametrize(
    ("name", "kind", "target", "says"),
    [
        ("acme.other", "logits processor", "{}:Halve", "is the logits processor 'acme.halve'"),
        ("acme.halve", "sampler", "{}:Halve", "registered 'acme.halve' as a sampler, but"),
        ("acme.halve", "logits processor", "{}:NUMBER", "is no stage class"),
        ("acme.halve", "logits processor", "{}:Missing", "cannot be imported"),
        ("acme.halve", "logits processor", "{}_missing:Halve", "ModuleNotFoundError"),
        ("acme.halve", "logits processor", "{}_raises:Halve", "RuntimeError: no"),
        ("acme.halve", "logits processor", "{}_exits:Halve", "SystemExit: 3"),
    ],
)
def test_a_lazy_stage_that_is_not_what_was_said(lazy: str, name: str, kind: str, target: str, says: str):
    with pytest.raises(PluginError, match=r"^plugin 'acme'") as caught:
        Entry(name, kind, "acme", target.format(lazy)).load()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_stage_by_name(registry: Registry):
    registry.add("logits processor", "acme", Halve, None)
    with pytest.raises(PluginError, match=r"no stage 'acme\.halv' is registered; did you mean 'acme\.halve'"):
        registry.stage("acme.halv")
