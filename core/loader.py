"""Our own loader around pluggy: finds plugins by entry points, isolates their faults, fills the registry.

A plugin that cannot be imported or registered is recorded, warned about in one line and left out. Environment:
``LOGITMILL_PLUGINS=a,b`` allows just those besides the built-ins (empty: none), ``LOGITMILL_STRICT_PLUGINS=1`` raises
instead.
"""

from __future__ import annotations

import difflib
import functools
import os
import threading
import types
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from .errors import LogitmillError, PluginError
from .hookspecs import Hooks
from .registry import KINDS, Registry

GROUP = "logitmill.plugins"
API = 1
OBSERVING = ("on_request", "on_step", "on_finish")


class PluginWarning(UserWarning):
    """A plugin was left out, or an observer was."""


@dataclass
class Plugin:
    """One plugin as it was met. ``error`` says why it was left out."""

    name: str
    origin: str
    distribution: str = ""
    version: str = ""
    api: int = API
    builtin: bool = False
    module: Any = None
    error: str | None = None
    allowed: bool = True

    @property
    def status(self) -> str:
        return (
            "failed"
            if self.error
            else "loaded"
            if self.module is not None
            else "available"
            if self.allowed
            else "not allowed"
        )


class Plugins:
    """The plugins of a process: a pluggy manager, a registry, and an account of every plugin met.

    ``strict``: a fault raises PluginError instead of leaving the plugin out; None: as LOGITMILL_STRICT_PLUGINS says.
    """

    def __init__(self, *, strict: bool | None = None) -> None:
        self.strict = os.environ.get("LOGITMILL_STRICT_PLUGINS") == "1" if strict is None else strict
        self.manager = pluggy.PluginManager("logitmill")
        self.manager.add_hookspecs(Hooks)
        self.registry = Registry()
        self.met: dict[str, Plugin] = {}
        self._reported: set[Any] = set()

    # -- discovery -----------------------------------------------------------------------------------------------------

    @staticmethod
    def found() -> list[Plugin]:
        """Every installed plugin, built-ins first, none of them imported."""
        plugins = [_plugin(entry) for entry in entry_points(group=GROUP)]
        allowed = os.environ.get("LOGITMILL_PLUGINS")
        names = None if allowed is None else {name.strip() for name in allowed.split(",") if name.strip()}
        for plugin in plugins:
            plugin.allowed = plugin.builtin or names is None or plugin.name in names
        return sorted(plugins, key=lambda plugin: (not plugin.builtin, plugin.name))

    def discover(self) -> None:
        """Load every allowed plugin that is installed."""
        found = self.found()
        wanted = {n.strip() for n in os.environ.get("LOGITMILL_PLUGINS", "").split(",") if n.strip()}
        for name in sorted(wanted - {plugin.name for plugin in found}):
            self._fault(Plugin(name, "LOGITMILL_PLUGINS"), "is named in LOGITMILL_PLUGINS and not installed")
        for plugin in found:
            if plugin.name in self.met:
                first, second = _source(self.met[plugin.name]), _source(plugin)
                self._fault(
                    plugin, f"of {second} has the name of another, of {first}", key=f"{plugin.name} of {second}"
                )
                continue
            self.met[plugin.name] = plugin
            if plugin.allowed:
                self._load(plugin, functools.partial(_import, plugin.origin))

    def add(self, plugin: Any, name: str | None = None) -> Plugin:
        """Register a module or object as a plugin, now. Unlike discovery this raises."""
        name = name or getattr(plugin, "__name__", None) or type(plugin).__name__
        if self.manager.is_registered(plugin):
            raise PluginError(f"{name!r} is registered already, as plugin {self.manager.get_name(plugin)!r}")
        if name in self.met and self.met[name].module is not None:
            raise PluginError(f"a plugin {name!r} is registered already, from {self.met[name].origin}")
        record = Plugin(name, getattr(plugin, "__file__", None) or repr(plugin))
        self.met[name] = record
        self._load(record, lambda: plugin, strict=True)
        if not self.manager.get_hookcallers(plugin):
            self.remove(name)
            raise PluginError(f"{name!r} registers nothing; write a function such as register_samplers under @hookimpl")
        return record

    def remove(self, name: str) -> None:
        """Forget a plugin and everything it registered."""
        record = self.met.pop(name)
        if record.module is not None and self.manager.is_registered(record.module):
            self.manager.unregister(record.module)
        self.registry.remove(name)

    def check(self) -> dict[str, list[str]]:
        """Import every lazy stage.

        For each plugin what is wrong with its stages, in words; nothing where all is well.
        """
        faults: dict[str, list[str]] = {}
        for entry in [*self.registry.entries.values(), *self.registry.schedules.values()]:
            try:
                entry.load()
            except PluginError as error:
                faults.setdefault(entry.plugin, []).append(str(error))
        return faults

    # -- loading -------------------------------------------------------------------------------------------------------

    def _load(self, plugin: Plugin, get: Callable[[], Any], *, strict: bool = False) -> None:
        try:
            module = get()
        except (Exception, SystemExit) as error:  # whatever a stranger's module does on import must not end the program
            self._fault(plugin, f"cannot be imported: {_line(error)}", error, strict=strict)
            return
        api = getattr(module, "api", API)
        if not isinstance(api, int) or api != API:
            self._fault(
                plugin,
                f"is written for plugin api {api!r}, this logitmill speaks api {API}: upgrade one of them",
                strict=strict,
            )
            return
        if self.manager.is_registered(module):
            self._fault(
                plugin, f"is {self.manager.get_name(module)!r} once more: both are {plugin.origin}", strict=strict
            )
            return
        try:
            self.manager.register(module, plugin.name)
            self._known_hooks(plugin, module)
            self._register(plugin, module)
        except (Exception, SystemExit) as error:  # as above: registration runs a stranger's code
            if self.manager.is_registered(module):
                self.manager.unregister(module)
            self.registry.remove(plugin.name)
            reason = str(error) if isinstance(error, PluginError) else f"raised while registering: {_line(error)}"
            self._fault(plugin, reason, error, strict=strict)
            return
        plugin.module, plugin.api = module, api

    def _known_hooks(self, plugin: Plugin, module: Any) -> None:
        """Raise PluginError for a hook that does not exist: a misspelt one would never be called."""
        known = [name for name in vars(Hooks) if not name.startswith("_")]
        for caller in self.manager.get_hookcallers(module) or ():
            optional = all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is module)
            if not caller.has_spec() and not optional:
                near = difflib.get_close_matches(caller.name, known, n=1, cutoff=0.7)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise PluginError(
                    f"plugin {plugin.name!r} implements the hook {caller.name!r}, which does not exist{hint}"
                )

    def _register(self, plugin: Plugin, module: Any) -> None:
        """Call this plugin's registration hooks, and only its."""
        others = [p for p in self.manager.get_plugins() if p is not module]
        for hook, kind in KINDS.items():
            caller = self.manager.subset_hook_caller(hook, others)

            def register(target: Any, /, name: str | None = None, kind: str = kind) -> None:
                self.registry.add(kind, plugin.name, target, name, builtin=plugin.builtin)

            caller(register=register)
        presets = self.manager.subset_hook_caller("register_presets", others)
        presets(register=functools.partial(self.registry.add_preset, plugin.name))

    def _fault(
        self,
        plugin: Plugin,
        reason: str,
        cause: BaseException | None = None,
        *,
        strict: bool = False,
        key: str | None = None,
    ) -> None:
        """Record why a plugin is left out, under its name or ``key``, and say it in one line.

        ``strict``: forget it and raise.
        """
        message = reason if reason.startswith("plugin") else f"plugin {plugin.name!r} {reason}"
        plugin.error = message
        if strict:
            self.met.pop(plugin.name, None)
        else:
            self.met[key or plugin.name] = plugin
        if strict or self.strict:
            raise PluginError(message) from cause
        warnings.warn(f"{message}; it is left out", PluginWarning, stacklevel=2)

    # -- the model -----------------------------------------------------------------------------------------------------

    def load_model(self, spec: Any) -> Any:
        """(LoadedModel, Runner) of the first plugin that knows the model, or None. A fault of one is a warning."""
        for name, function in self.observers("load_model"):
            try:
                made = function(spec)
            except LogitmillError:
                raise
            except Exception as error:  # a stranger's loader may raise anything: it keeps nobody else from the model
                warnings.warn(f"load_model of plugin {name!r} raised {_line(error)}", PluginWarning, stacklevel=2)
                continue
            if made is not None:
                return made
        return None

    def configure(self, settings: Any) -> None:
        """Tell every plugin, those to come included, the settings of an engine.

        One that raises keeps nobody else from them.
        """
        none_yet = self.manager.subset_hook_caller("configure", self.manager.get_plugins())
        none_yet.call_historic(kwargs={"settings": settings})  # remembers it for those to come
        for name, function in self.observers("configure"):
            try:
                function(settings)
            except Exception as error:  # as for observers
                warnings.warn(f"configure of plugin {name!r} raised {_line(error)}", PluginWarning, stacklevel=2)

    # -- observers -----------------------------------------------------------------------------------------------------

    def observers(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """(plugin, function) of everyone who observes: a flat list, so that nothing is dispatched inside a step."""
        found = getattr(self.manager.hook, hook).get_hookimpls()
        return [
            (impl.plugin_name, impl.function if impl.argnames else functools.partial(_alone, impl.function))
            for impl in found
        ]

    def notify(self, observers: Iterable[tuple[str, Callable[..., Any]]], event: Any) -> None:
        """Tell them. One that raises is reported once and left out from then on."""
        for name, function in observers:
            if function in self._reported:
                continue
            try:
                function(event)
            except Exception as error:  # an observer changes nothing, so its faults must not either
                self._reported.add(function)
                warnings.warn(
                    f"observer of plugin {name!r} raised {_line(error)}; it is left out", PluginWarning, stacklevel=2
                )


def _plugin(entry: EntryPoint) -> Plugin:
    if entry.dist is None:
        return Plugin(entry.name, entry.value)
    name = entry.dist.name
    return Plugin(entry.name, entry.value, name, entry.dist.version, builtin=name == "logitmill")


def _source(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}" if plugin.distribution else plugin.origin


def _alone(function: Callable[[], Any], event: Any) -> None:
    """Call an observer that does not want to know what happened."""
    function()


def _import(origin: str) -> types.ModuleType | Any:
    return EntryPoint("plugin", origin, GROUP).load()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


_lock = threading.Lock()
_plugins: Plugins | None = None


def plugins() -> Plugins:
    """The plugins of this process, discovered once."""
    global _plugins  # one registry a process, made on first use
    with _lock:
        if _plugins is None:
            loading = Plugins()
            loading.discover()
            _plugins = loading
        return _plugins


def registry() -> Registry:
    """The names of this process."""
    return plugins().registry


def register(*stages: Any) -> None:
    """Register stage classes, or plugin modules, in this process: for a notebook or a script of one's own.

    Raises PluginError for a clash or a wrong kind. A class that is registered again under its name replaces its former
    self.
    """
    from .stage import Stage

    kinds = {kind: hook for hook, kind in KINDS.items()}
    if not stages:
        raise PluginError("register takes stage classes or plugin modules, at least one")
    for stage in stages:
        if not (isinstance(stage, type) and issubclass(stage, Stage)):
            plugins().add(stage)
            continue
        held = plugins().registry
        name = f"{__name__}.register:{stage.stage_name}"
        if name in plugins().met:
            plugins().remove(name)
        if stage.kind not in kinds:
            raise PluginError(f"{stage.__name__} is of no kind a strategy can name")
        held.add(stage.kind, name, stage, None, builtin=True)  # a script's own stage needs no vendor's prefix
        plugins().met[name] = Plugin(name, stage.__module__, module=stage)


def unregister(*stages: Any) -> None:
    """Undo ``register``."""
    for stage in stages:
        name = getattr(stage, "stage_name", None)
        record = f"{__name__}.register:{name}" if name is not None else getattr(stage, "__name__", type(stage).__name__)
        if record not in plugins().met:
            raise PluginError(f"{record!r} is not registered")
        plugins().remove(record)
