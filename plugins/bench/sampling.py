"""A strategy in the words of the peer that is measured beside it, by the conversions that ``logitmill convert`` has."""

from __future__ import annotations

from typing import Any

from ...core.dsl.kinds import whole
from ...core.errors import StrategyError, UsageError
from ...core.patch import patched
from ...core.strategy import Strategy
from ..convert.conversion import ConversionError, LeftOut, convert_to
from ..convert.llamacpp_options import parsed, words_of

#: what is measured where nothing is asked for: name -> strategy
USUAL = {"greedy": "greedy", "sampled": "temperature(0.8) | top_k(50) | top_p(0.95) | sample"}

#: how long a row gets, and its end, are the measurement's affair: what a conversion says of them is not sent on
_LENGTH = ("max_new_tokens", "max_tokens", "ignore_eos", "n_predict")

#: samplers of llama.cpp's chain: the request fields that each is told
_CHAIN = {
    "temperature": ("temperature",),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "typ_p": ("typical_p",),
    "top_n_sigma": ("top_n_sigma",),
    "xtc": ("xtc_probability", "xtc_threshold"),
}


def pipeline(text: str) -> Strategy:
    """The strategy behind a usual one's name, or a text: a whole pipeline without a stop test. Raises StrategyError."""
    strategy = Strategy.parse(USUAL.get(text, text))
    whole(patched(strategy))
    if strategy.stop is not None:
        raise UsageError(
            f"a strategy is measured on rows of one length (--tokens), so it has no end of its own: leave out "
            f"'until ...' in {strategy.to_text()!r}"
        )
    return strategy


APART = "the two would not do the same work: leave it out, or measure without a peer"


def settings_for(peer: str, strategy: Strategy) -> dict[str, Any]:
    """What the peer is told: keyword arguments of hf's generate or of vllm's SamplingParams, or llamacpp's chain.

    Raises StrategyError where the peer has no such stage, since then the two would not do the same work.
    """
    ended = Strategy.parse(f"{strategy.to_text()} until eos or max_tokens(1)")
    made = convert_to(peer, ended, lossy=True)
    lost = [item for item in made.left_out if not _harmless(item)]
    if lost:
        raise ConversionError(f"to {peer} this strategy", lost, hint=APART)
    if peer == "llamacpp":
        return {"samplers": _chain(parsed(words_of(made.document), None))}
    return {key: value for key, value in made.document.items() if key not in _LENGTH}


def _harmless(item: LeftOut) -> bool:
    """Whether the peer has the stage, and differs on ties alone: the work is the same."""
    return "carried over all the same" in item.why


def _chain(fields: dict[str, Any]) -> list[list[Any]]:
    """Request fields as [[sampler, value, ...], ...], the draw at the end."""
    if fields.get("temperature") == 0:
        return [["greedy"]]
    samplers = fields.get("samplers", [])  # mirostat has none
    unknown = [name for name in samplers if name not in _CHAIN]
    unknown += [name for name in ("mirostat", "logit_bias", "dynatemp_range") if fields.get(name)]
    if unknown:
        raise StrategyError(
            f"llama.cpp's {unknown[0]} is not measured here: the chain may have {', '.join(_CHAIN)}", code="peer"
        )
    return [[name, *(fields[field] for field in _CHAIN[name])] for name in samplers] + [["dist"]]
