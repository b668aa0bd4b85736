"""text-generation-webui: a preset, in the order of its transformers loaders (modules/sampler_hijack.py, May 2026).

Its samplers are sorted by ``sampler_priority``; what that does not name comes first. Presets say nothing about when a
row ends, nor about seeds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from ...core.dsl.files import read_yaml
from ...core.errors import Path, StrategyError
from ...core.stage import Stage
from ...core.strategy import Strategy
from .assembly import Assembly, listed
from .conversion import LeftOut
from .reading import Field, Reading, carried, inert, refused

DEFAULT_PRIORITY = (
    "repetition_penalty", "presence_penalty", "frequency_penalty", "dry", "top_n_sigma", "temperature",
    "dynamic_temperature", "quadratic_sampling", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "tfs",
    "top_a", "min_p", "adaptive_p", "mirostat", "xtc", "encoder_repetition_penalty", "no_repeat_ngram",
)  # fmt: skip
#: the order in which they are made, which is that of those sampler_priority does not name
MADE = (
    "encoder_repetition_penalty", "no_repeat_ngram", "temperature", "top_k", "top_p", "min_p", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "dry", "repetition_penalty", "presence_penalty", "frequency_penalty", "tfs",
    "top_a", "top_n_sigma", "adaptive_p", "xtc", "dynamic_temperature", "quadratic_sampling", "mirostat",
)  # fmt: skip
#: made by transformers, and only where it samples
WARPERS = frozenset({"temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"})
_LATE = ("temperature", "dynamic_temperature", "quadratic_sampling")  # what temperature_last moves to the end
DEFAULT_BREAKERS = '"\\n", ":", "\\"", "*"'
UNIT = 1e-4  # of epsilon_cutoff and eta_cutoff
_LENGTH = refused("a preset of an old version says something here that is no preset's today: set it where it is run")

FIELDS: dict[str, Field] = {
    "temperature": carried("`temperature`", 1.0),
    "dynamic_temperature": carried("`dynamic_temperature`", False),
    "dynatemp_low": carried("`dynamic_temperature(low)`", 1.0),
    "dynatemp_high": carried("`dynamic_temperature(high)`", 1.0),
    "dynatemp_exponent": carried("`dynamic_temperature(exponent)`", 1.0),
    "smoothing_factor": carried("`quadratic`", 0.0),
    "smoothing_curve": carried("`quadratic(curve)`", 1.0),
    "top_k": carried("`top_k`", 0),
    "top_p": carried("`top_p`", 1.0),
    "min_p": carried("`min_p`", 0.0),
    "top_n_sigma": carried("`top_n_sigma`", 0.0),
    "typical_p": carried("`typical`", 1.0),
    "xtc_threshold": carried("`xtc(threshold)`", 0.1),
    "xtc_probability": carried("`xtc`", 0.0),
    "epsilon_cutoff": carried("`epsilon`, in units of 1e-4", 0.0),
    "eta_cutoff": carried("`eta`, in units of 1e-4", 0.0),
    "tfs": carried("`tail_free`", 1.0),
    "top_a": carried("`top_a`", 0.0),
    "adaptive_target": carried("`adaptive_p`", 0.0),
    "adaptive_decay": carried("`adaptive_p(decay)`", 0.9),
    "dry_multiplier": carried("`dry`", 0.0),
    "dry_allowed_length": carried("`dry(allowed_length)`", 2),
    "dry_base": carried("`dry(base)`", 1.75),
    "dry_sequence_breakers": carried("`dry(breakers)`", DEFAULT_BREAKERS),
    "repetition_penalty": carried("`repetition`", 1.0),
    "frequency_penalty": carried("`frequency`", 0.0),
    "presence_penalty": carried("`presence`", 0.0),
    "repetition_penalty_range": carried("the window of the penalties and of `dry`; 0 is all", 1024),
    "encoder_repetition_penalty": carried("`repetition(1 / value, over=prompt)`", 1.0),
    "no_repeat_ngram_size": carried("`no_repeat_ngram`", 0),
    "mirostat_mode": carried("`mirostat`; 2 alone", 0),
    "mirostat_tau": carried("`mirostat(tau)`", 5.0),
    "mirostat_eta": carried("`mirostat(eta)`", 0.1),
    "do_sample": carried("`sample`, else `greedy`", True),
    "temperature_last": carried("temperatures at the end", False),
    "sampler_priority": carried("the order of the stages", "\n".join(DEFAULT_PRIORITY)),
    "guidance_scale": refused("there is no classifier-free guidance here", 1),
    "penalty_alpha": refused("there is no contrastive search here", 0),
    "num_beams": refused("there is no beam search here", 1),
    "min_length": _LENGTH,
    "length_penalty": inert("only beam search reads it"),
    "early_stopping": inert("only beam search reads it"),
}


def read(source: Any, file: str | None = None) -> Reading:
    """A preset from a dict, or from YAML."""
    if isinstance(source, str):
        source = read_yaml(source, file)
        source = {} if source is None else source
        if not isinstance(source, Mapping):
            raise StrategyError("textgen: a preset is a mapping", Path("the document", file), code="type")
    if not isinstance(source, Mapping):
        raise StrategyError(f"textgen: a preset is wanted, as YAML or a dict, got {type(source).__name__}")
    return Reading("textgen", FIELDS, source, file)


def imported(reading: Reading) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
    """In the order of the preset."""
    maker = _Maker(reading)
    maker.chain()
    return maker.strategy(), reading.left_out, reading.unused


def priority(reading: Reading) -> list[str]:
    """The samplers in the order in which they run."""
    given = reading.get("sampler_priority")
    names = given.replace("\n", ",").split(",") if isinstance(given, str) else reading.texts("sampler_priority")
    order = [name.strip() for name in names if name.strip()] or list(DEFAULT_PRIORITY)
    odd = [name for name in order if name not in MADE]
    if odd:
        raise reading.wrong("sampler_priority", f"made of {listed(MADE)} ({odd[0]!r} is none)")
    if reading.truth("temperature_last"):
        order = [name for name in order if name not in _LATE] + list(_LATE)
    return sorted(MADE, key=lambda name: order.index(name) if name in order else -1)


class _Maker(Assembly):
    """Goes through one preset."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading, "textgen", "hf")
        self.sampling = reading.truth("do_sample")
        self.draw: Stage | None = None
        reach = reading.whole("repetition_penalty_range")
        if reach < 0:
            raise reading.wrong("repetition_penalty_range", "0 or more")
        self.window = reach or None

    def chain(self) -> None:
        for name in priority(self.reading):
            if name in WARPERS and not self.sampling:
                self.reading.ignore("do_sample is off", name)
            elif self.draw is not None:
                self.behind(name)
            else:
                getattr(self, name)()
        if self.draw is None:
            self.add("do_sample", "sample" if self.sampling else "greedy")

    def behind(self, name: str) -> None:
        """A sampler behind mirostat or adaptive_p, which leave one token."""
        if name == "no_repeat_ngram" and self.reading.whole("no_repeat_ngram_size") > 0:
            self.reading.lose("no_repeat_ngram_size", "it runs behind the draw, whose token it may remove")
        fields = {
            "tfs": ("tfs",), "dry": ("dry_multiplier",), "xtc": ("xtc_probability",), "mirostat": ("mirostat_mode",),
            "adaptive_p": ("adaptive_target",), "quadratic_sampling": ("smoothing_factor",),
        }  # fmt: skip
        if name != "no_repeat_ngram":
            self.reading.ignore("it runs behind the draw", *fields.get(name, (name,)))

    def ends_in(self, field: str, name: str, *args: Any) -> None:
        """A sampler that draws, wherever it stands."""
        self.draw = self.stage(field, name, *args)
        self.add(field, name, *args)

    # -- one method for each sampler -----------------------------------------------------------------------------------

    def _numbered(self, field: str, stage: str, off: float, scale: float = 1.0) -> None:
        value = self.reading.number(field)
        if value != off:
            self.add(field, stage, value * scale)

    def temperature(self) -> None:
        if self.reading.number("temperature") <= 0:
            raise self.reading.wrong("temperature", "above 0 (for greedy decoding, do_sample: false)")
        self._numbered("temperature", "temperature", 1.0)

    def dynamic_temperature(self) -> None:
        reading = self.reading
        if reading.truth("dynamic_temperature"):
            low, high, exponent = (reading.number(f"dynatemp_{name}") for name in ("low", "high", "exponent"))
            self.add("dynatemp_low", "dynamic_temperature", low, high, exponent)
        else:
            reading.ignore("dynamic_temperature is off", "dynatemp_low", "dynatemp_high", "dynatemp_exponent")

    def quadratic_sampling(self) -> None:
        if self.reading.number("smoothing_factor") > 0:
            factor, curve = self.reading.number("smoothing_factor"), self.reading.number("smoothing_curve")
            self.add("smoothing_factor", "quadratic", factor, curve)

    def top_k(self) -> None:
        if self.reading.whole("top_k") != 0:
            self.add("top_k", "top_k", self.reading.whole("top_k"))

    def top_p(self) -> None:
        if self.reading.number("top_p") < 1:
            self._numbered("top_p", "top_p", 1.0)

    def min_p(self) -> None:
        self._numbered("min_p", "min_p", 0.0)

    def typical_p(self) -> None:
        if self.reading.number("typical_p") < 1:
            self._numbered("typical_p", "typical", 1.0)

    def epsilon_cutoff(self) -> None:
        if 0 < self.reading.number("epsilon_cutoff") * UNIT < 1:
            self._numbered("epsilon_cutoff", "epsilon", 0.0, UNIT)

    def eta_cutoff(self) -> None:
        if 0 < self.reading.number("eta_cutoff") * UNIT < 1:
            self._numbered("eta_cutoff", "eta", 0.0, UNIT)

    def tfs(self) -> None:
        if 0 <= self.reading.number("tfs") < 1:
            self._numbered("tfs", "tail_free", 1.0)

    def top_a(self) -> None:
        if 0 < self.reading.number("top_a") <= 1:
            self._numbered("top_a", "top_a", 0.0)

    def top_n_sigma(self) -> None:
        if self.reading.number("top_n_sigma") > 0:
            self._numbered("top_n_sigma", "top_n_sigma", 0.0)

    def xtc(self) -> None:
        if self.reading.number("xtc_probability") > 0:
            values = self.reading.number("xtc_probability"), self.reading.number("xtc_threshold")
            self.add("xtc_probability", "xtc", *values)

    def repetition_penalty(self) -> None:
        if self.reading.number("repetition_penalty") != 1.0:
            self.add("repetition_penalty", "repetition", self.reading.number("repetition_penalty"), window=self.window)

    def presence_penalty(self) -> None:
        if self.reading.number("presence_penalty") != 0.0:
            self.add("presence_penalty", "presence", self.reading.number("presence_penalty"), window=self.window)

    def frequency_penalty(self) -> None:
        if self.reading.number("frequency_penalty") != 0.0:
            self.add("frequency_penalty", "frequency", self.reading.number("frequency_penalty"), window=self.window)

    def dry(self) -> None:
        reading = self.reading
        if reading.number("dry_multiplier") <= 0:
            return
        breakers = reading.get("dry_sequence_breakers")
        if isinstance(breakers, str):
            text = breakers if breakers.startswith("[") else f"[{breakers}]"
            try:
                breakers = json.loads(text)
            except json.JSONDecodeError:
                raise reading.wrong("dry_sequence_breakers", "a list of quoted texts") from None
        if not isinstance(breakers, list) or not all(isinstance(item, str) for item in breakers):
            raise reading.wrong("dry_sequence_breakers", "a list of quoted texts")
        self.add(
            "dry_multiplier", "dry", reading.number("dry_multiplier"), reading.number("dry_base"),
            reading.whole("dry_allowed_length"), self.window, breakers,
        )  # fmt: skip

    def encoder_repetition_penalty(self) -> None:
        value = self.reading.number("encoder_repetition_penalty")
        if value <= 0:
            raise self.reading.wrong("encoder_repetition_penalty", "above 0")
        if value != 1.0:
            self.add("encoder_repetition_penalty", "repetition", 1 / value, over="prompt")

    def no_repeat_ngram(self) -> None:
        if self.reading.whole("no_repeat_ngram_size") > 0:
            self.add("no_repeat_ngram_size", "no_repeat_ngram", self.reading.whole("no_repeat_ngram_size"))

    def adaptive_p(self) -> None:
        if self.reading.number("adaptive_target") > 0:
            values = self.reading.number("adaptive_target"), min(self.reading.number("adaptive_decay"), 0.99)
            self.ends_in("adaptive_target", "adaptive_p", *values)

    def mirostat(self) -> None:
        mode = self.reading.whole("mirostat_mode")
        if mode == 2:
            values = self.reading.number("mirostat_tau"), self.reading.number("mirostat_eta")
            self.ends_in("mirostat_mode", "mirostat", *values)
        elif mode != 0:
            self.reading.lose("mirostat_mode", "its transformers loaders know 2 alone: elsewhere it is llama.cpp's")


def exported(strategy: Strategy) -> tuple[dict[str, Any], list[LeftOut]]:
    """The fields of a preset."""
    from .textgen_writing import written

    return written(strategy)


def shown(document: Mapping[str, Any]) -> str:
    """As YAML."""
    from ruamel.yaml import YAML  # only those who write YAML pay for it

    if not document:
        return "{}"
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None, takes a bool
    stream = io.StringIO()
    writer.dump(dict(document), stream)
    return stream.getvalue().rstrip("\n")


__all__ = ["DEFAULT_PRIORITY", "FIELDS", "MADE", "UNIT", "WARPERS", "exported", "imported", "priority", "read", "shown"]
