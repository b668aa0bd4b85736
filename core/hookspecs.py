"""Every hook a plugin may implement, on one screen. The strategy alone decides order; hooks discover and inform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .registry import Register

hookspec = pluggy.HookspecMarker("logitmill")
hookimpl = pluggy.HookimplMarker("logitmill")


class Hooks:
    """``register`` takes a class, or "module:Class" with ``name=`` to be imported only when a strategy names it."""

    @hookspec
    def register_logits_processors(self, register: Register) -> None:
        """Logits processors: logits in, logits out."""

    @hookspec
    def register_samplers(self, register: Register) -> None:
        """Samplers: the law and the draw."""

    @hookspec
    def register_stopping_criteria(self, register: Register) -> None:
        """Stopping criteria: tests that end a row."""

    @hookspec
    def register_searches(self, register: Register) -> None:
        """Searches: several rows for one request."""

    @hookspec
    def register_combinators(self, register: Register) -> None:
        """Combinators: pipelines of pipelines."""

    @hookspec
    def register_signals(self, register: Register) -> None:
        """Signals: a number, a truth or a text a row, for conditions and expressions."""

    @hookspec
    def register_schedules(self, register: Register) -> None:
        """Schedules: the shapes of ``a -> b over n by shape``."""

    @hookspec
    def register_presets(self, register: Any) -> None:
        """Presets: ``register(name, text)``, a pack of strategies that ``use "name"`` brings in."""

    @hookspec
    def register_routes(self, app: Any) -> None:
        """Routes of the server."""

    @hookspec(firstresult=True)
    def load_model(self, spec: Any) -> Any:
        """(LoadedModel, Runner) for a model spec that this plugin knows, or None."""

    @hookspec(historic=True)
    def configure(self, settings: Any) -> None:
        """An engine was made: ``settings`` is its ``describe()``."""

    @hookspec
    def on_request(self, request: Any) -> None:
        """A request was accepted."""

    @hookspec
    def on_step(self, step: Any) -> None:
        """One token was committed in each live row."""

    @hookspec
    def on_finish(self, result: Any) -> None:
        """A request ended; ``result`` is its Completion."""
