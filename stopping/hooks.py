"""The built-in stopping criteria, registered as any plugin's are, imported when a strategy names them."""

from __future__ import annotations

from ..core.hookspecs import hookimpl
from ..core.registry import Register

api = 1

_ROOM = __name__.rpartition(".")[0]


@hookimpl
def register_stopping_criteria(register: Register) -> None:
    """What ends a row."""
    for stage in ("tokens:Eos", "tokens:StopIds"):
        register(f"{_ROOM}.{stage}")
    for stage in ("length:MaxTokens", "length:MaxLength", "length:Timeout"):
        register(f"{_ROOM}.{stage}")
    for stage in ("text:Stop", "text:StopRegex", "text:Text"):
        register(f"{_ROOM}.{stage}")
    for stage in ("uncertainty:Confidence", "uncertainty:EntropyBelow", "repetition:Loop", "budget:Budget"):
        register(f"{_ROOM}.{stage}")
