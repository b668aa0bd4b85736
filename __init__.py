"""logitmill: a language model's logits to text under a strategy, one declarative document for the whole of decoding.

    import logitmill as lm

    engine = lm.load()
    out = engine.generate("A list of colors: red, blue", "temperature(0.8) | sample until eos or max_tokens(32)")

Every registered stage is an attribute (``lm.temperature(0.8)``), whoever registered it. Names are imported when they
are first used: ``import logitmill`` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: public name -> the module that has it
_HOMES = {
    "Strategy": ".core.strategy",
    "Engine": ".core.engine", "load": ".core.engine",
    "Completion": ".core.completion", "Event": ".core.completion",
    "LogitsProcessor": ".core.stage", "Sampler": ".core.stage", "StoppingCriterion": ".core.stage",
    "Combinator": ".core.stage", "Search": ".core.stage", "Signal": ".core.stage", "Schedule": ".core.stage",
    "Stage": ".core.stage", "HostState": ".core.state", "Scalar": ".core.scalar",
    "Dist": ".core.dist", "Context": ".core.context", "Vocab": ".core.vocab", "Pattern": ".core.expression",
    "convert_from": ".plugins.convert.conversion", "convert_to": ".plugins.convert.conversion",
    "hookimpl": ".core.hookspecs", "register": ".core.loader", "unregister": ".core.loader",
    "detect_watermark": ".samplers.detection", "detect_synthid": ".samplers.detection",
    "signals": ".core.face", "ramp": ".core.face", "when": ".core.face",
    "LogitmillError": ".core.errors", "StrategyError": ".core.errors", "StageError": ".core.errors",
    "NumericalError": ".core.errors", "ModelError": ".core.errors", "RequestError": ".core.errors",
    "PluginError": ".core.errors",
}  # fmt: skip

__all__ = [
    "Combinator", "Completion", "Context", "Dist", "Engine", "Event", "HostState", "LogitmillError", "LogitsProcessor",
    "ModelError", "NumericalError", "Pattern", "PluginError", "RequestError", "Sampler", "Scalar", "Schedule", "Search",
    "Signal", "Stage", "StageError", "StoppingCriterion", "Strategy", "StrategyError", "Vocab", "__version__",
    "convert_from", "convert_to", "detect_synthid", "detect_watermark", "hookimpl", "load", "ramp", "register",
    "signals", "unregister", "when",
]  # fmt: skip

if TYPE_CHECKING:
    from .core.completion import Completion, Event
    from .core.context import Context
    from .core.dist import Dist
    from .core.engine import Engine, load
    from .core.errors import (
        LogitmillError,
        ModelError,
        NumericalError,
        PluginError,
        RequestError,
        StageError,
        StrategyError,
    )  # fmt: skip
    from .core.expression import Pattern
    from .core.face import ramp, signals, when
    from .core.hookspecs import hookimpl
    from .core.loader import register, unregister
    from .core.scalar import Scalar
    from .core.stage import (
        Combinator,
        LogitsProcessor,
        Sampler,
        Schedule,
        Search,
        Signal,
        Stage,
        StoppingCriterion,
    )  # fmt: skip
    from .core.state import HostState
    from .core.strategy import Strategy
    from .core.vocab import Vocab
    from .plugins.convert.conversion import convert_from, convert_to
    from .samplers.detection import detect_synthid, detect_watermark


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home, __name__), name)
        globals()[name] = value
        return value
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for room in ("core", "samplers", "stopping", "plugins", "testing"):
        if name == room:
            return importlib.import_module(f".{room}", __name__)
    from .core.face import stage_factory

    return stage_factory(name)


def __dir__() -> list[str]:
    from .core.loader import registry

    return sorted(
        {*__all__, *(name.split(".")[0] for name, entry in registry().entries.items() if entry.kind != "signal")}
    )
