"""Registry: every name a strategy may use, and what stands behind it.

Entries may be lazy ("module:Class"): the name is known without an import, the class is imported when a strategy names
it.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .errors import PluginError

if TYPE_CHECKING:
    from .stage import Stage

#: registration hook -> the kind of stage it takes
KINDS = {
    "register_logits_processors": "logits processor",
    "register_samplers": "sampler",
    "register_stopping_criteria": "stopping criterion",
    "register_searches": "search",
    "register_combinators": "combinator",
    "register_signals": "signal",
    "register_schedules": "schedule",
}


#: words of the language, which no part of a name may be; ``raw.`` reads a signal on the model's own distribution
WORDS = frozenset("when until with as use let when else over by and or not in true false dsl raw".split())
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


class Register(Protocol):
    """What a registration hook is given."""

    def __call__(self, stage: type[Stage] | str, /, name: str | None = None) -> None: ...


@dataclass
class Entry:
    """One registered name."""

    name: str
    kind: str
    plugin: str
    target: type[Stage] | str
    builtin: bool = False

    @property
    def loaded(self) -> bool:
        return not isinstance(self.target, str)

    def load(self) -> type[Stage]:
        """The class, imported now if it was lazy.

        Raises PluginError where it cannot be had, or is not what it was said to be.
        """
        from .stage import Stage

        if isinstance(self.target, str):
            module, _, attribute = self.target.partition(":")
            try:
                found = getattr(importlib.import_module(module), attribute)
            except (Exception, SystemExit) as error:  # the module is a stranger's and may raise anything
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise PluginError(
                    f"plugin {self.plugin!r}: {self.name!r} cannot be imported from {self.target!r}: {reason}"
                ) from error
            if not (isinstance(found, type) and issubclass(found, Stage)):
                raise PluginError(f"plugin {self.plugin!r}: {self.target!r} is no stage class")
            if found.stage_name != self.name or getattr(found, "kind", None) != self.kind:
                raise PluginError(
                    f"plugin {self.plugin!r} registered {self.name!r} as a {self.kind}, "
                    f"but {self.target!r} is the {getattr(found, 'kind', 'stage')} {found.stage_name!r}"
                )
            self.target = found
        return self.target


@dataclass
class Registry:
    """Names of one process. Stages and signals share one name space; schedules and presets have their own."""

    entries: dict[str, Entry] = field(default_factory=dict)
    schedules: dict[str, Entry] = field(default_factory=dict)
    presets: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (text, plugin)

    def add(
        self, kind: str, plugin: str, target: type[Stage] | str, name: str | None, *, builtin: bool = False
    ) -> None:
        """Register one stage. Raises PluginError for a wrong kind, a bad name or a clash, naming both sides."""
        from .stage import Stage, snake_case

        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            if not all(part.isidentifier() for part in module.split(".")) or not attribute.isidentifier():
                raise PluginError(f"plugin {plugin!r} registered {target!r}: a lazy stage is written 'module:Class'")
            name = name or snake_case(attribute)
        else:
            if not (isinstance(target, type) and issubclass(target, Stage)):
                raise PluginError(f"plugin {plugin!r} registered {target!r}, which is no stage class")
            if getattr(target, "kind", None) != kind:
                raise PluginError(
                    f"plugin {plugin!r} registered the {getattr(target, 'kind', 'stage')} "
                    f"{target.stage_name!r} as a {kind}"
                )
            if name is not None and name != target.stage_name:
                raise PluginError(f"plugin {plugin!r} registered {target.stage_name!r} under another name, {name!r}")
            name = target.stage_name
        self._check_name(plugin, name, builtin)
        book = self.schedules if kind == "schedule" else self.entries
        if name in book:
            raise PluginError(f"plugins {book[name].plugin!r} and {plugin!r} both register {name!r}")
        book[name] = Entry(name, kind, plugin, target, builtin)

    @staticmethod
    def _check_name(plugin: str, name: str, builtin: bool) -> None:
        if not _NAME.fullmatch(name):
            raise PluginError(f"plugin {plugin!r} registered {name!r}: a name is made of letters, digits, _ and dots")
        if builtin:
            return
        if "." not in name:
            raise PluginError(
                f"plugin {plugin!r} registered {name!r}: "
                f"a third party's stage is named vendor.stage, as in 'acme.{name}'"
            )
        reserved = [part for part in name.split(".") if part in WORDS]
        if reserved:
            raise PluginError(
                f"plugin {plugin!r} registered {name!r}: {reserved[0]!r} is a word of the language, choose another"
            )

    def add_preset(self, plugin: str, name: str, text: str) -> None:
        """Register a pack. Raises PluginError for a clash, and for what is no text."""
        if not (isinstance(name, str) and isinstance(text, str)):
            raise PluginError(f"plugin {plugin!r} registered the preset {name!r}: its name and its text are strings")
        if name in self.presets:
            raise PluginError(f"plugins {self.presets[name][1]!r} and {plugin!r} both register the preset {name!r}")
        self.presets[name] = (text, plugin)

    def find(self, name: str) -> Entry | None:
        """The entry of a stage or signal, or None."""
        return self.entries.get(name)

    def stage(self, name: str, *args: Any, **fields: Any) -> Stage:
        """A stage made by name. Raises PluginError for an unknown one."""
        entry = self.find(name)
        if entry is None:
            near = self.near(name)
            raise PluginError(f"no stage {name!r} is registered" + (f"; did you mean {near!r}?" if near else ""))
        return entry.load()(*args, **fields)

    def schedule(self, name: str) -> Entry | None:
        """The entry of a schedule, or None."""
        return self.schedules.get(name)

    def near(self, name: str, kinds: tuple[str, ...] = ()) -> str | None:
        """The registered name most like ``name``."""
        names = [n for n, e in self.entries.items() if not kinds or e.kind in kinds]
        found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        return found[0] if found else None

    def of(self, kind: str) -> Iterator[Entry]:
        """All entries of a kind, by name."""
        book = self.schedules if kind == "schedule" else self.entries
        return (book[name] for name in sorted(book) if book[name].kind == kind)

    def remove(self, plugin: str) -> None:
        """Forget everything a plugin registered."""
        self.entries = {n: e for n, e in self.entries.items() if e.plugin != plugin}
        self.schedules = {n: e for n, e in self.schedules.items() if e.plugin != plugin}
        self.presets = {n: p for n, p in self.presets.items() if p[1] != plugin}
