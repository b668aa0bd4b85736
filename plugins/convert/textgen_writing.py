"""A strategy as a preset of text-generation-webui."""

from __future__ import annotations

import json
from typing import Any

from ...core.stage import Stage
from ...core.strategy import Strategy
from .conversion import LeftOut
from .outline import Outline, Writing
from .textgen import DEFAULT_PRIORITY, FIELDS, UNIT, WARPERS

#: stage -> the name that sampler_priority has for it
_NAMES = {
    "repetition": "repetition_penalty", "presence": "presence_penalty", "frequency": "frequency_penalty", "dry": "dry",
    "top_n_sigma": "top_n_sigma", "temperature": "temperature", "dynamic_temperature": "dynamic_temperature",
    "quadratic": "quadratic_sampling", "top_k": "top_k", "top_p": "top_p", "typical": "typical_p",
    "epsilon": "epsilon_cutoff", "eta": "eta_cutoff", "tail_free": "tfs", "top_a": "top_a", "min_p": "min_p",
    "xtc": "xtc", "encoder repetition": "encoder_repetition_penalty", "no_repeat_ngram": "no_repeat_ngram",
    "mirostat": "mirostat", "adaptive_p": "adaptive_p",
}  # fmt: skip


def written(strategy: Strategy) -> tuple[dict[str, Any], list[LeftOut]]:
    """The fields, and what they do not say."""
    writing = _Writing(Outline("textgen", strategy))
    return writing.document(), writing.outline.finish()


class _Writing(Writing):
    """Goes through one strategy."""

    def document(self) -> dict[str, Any]:
        outline = self.outline
        sampler = self.sampler("sample", "greedy", "mirostat", "adaptive_p")
        name = "sample" if sampler is None else sampler.stage_name
        writers = self.writers()
        if name == "greedy":
            self.fields["do_sample"] = False
            why = "runs it only where it samples: leave it out, greedy is the same without"
            writers |= {stage: lambda _: why for stage, known in _NAMES.items() if known in WARPERS}
        order = [_NAMES[written] for written in outline.write(writers, None, _name)]
        if name in ("mirostat", "adaptive_p"):
            order.append(name)
            self.draw(sampler)
        self.in_order(order)
        if getattr(sampler, "seed", None) is not None:
            outline.lose(sampler, "has no seed in a preset: set it where it is run")
        self.ends()
        return {key: value for key, value in self.fields.items() if value != FIELDS[key].default}

    def in_order(self, order: list[str]) -> None:
        """``sampler_priority``, where the usual one would run these samplers in another order."""
        if len(set(order)) < len(order):
            twice = next(name for name in order if order.count(name) > 1)
            stages = [stage for stage in self.outline.stages if _NAMES.get(_name(stage)) == twice]
            self.outline.lose(stages[-1], f"runs {twice} once, with one set of values")
        wanted = [name for name in DEFAULT_PRIORITY if name in order]
        if wanted != order:
            rest = [name for name in DEFAULT_PRIORITY if name not in order]
            self.fields["sampler_priority"] = "\n".join([*dict.fromkeys(order), *rest])

    # -- stages --------------------------------------------------------------------------------------------------------

    def writers(self) -> dict[str, Any]:
        sigma = "takes sigma over all tokens, removed ones as 0"
        ties = "keeps all that ties with the last"
        return {
            "temperature": self.temperature,
            "dynamic_temperature": self.dynamic_temperature,
            "quadratic": self.quadratic,
            "top_k": self.simple("top_k", "k", "hf", "vllm", how="keeps all that ties with the k-th"),
            "top_p": self.simple("top_p", "p"),
            "min_p": self.simple("min_p", "p"),
            "top_n_sigma": self.simple("top_n_sigma", "n", "textgen", how=sigma),
            "typical": self.simple("typical_p", "mass", "hf", how=ties),
            "xtc": self.xtc,
            "epsilon": lambda stage: self.cutoff("epsilon_cutoff", stage),
            "eta": lambda stage: self.cutoff("eta_cutoff", stage),
            "tail_free": self.simple("tfs", "z", "textgen", how="keeps one token more"),
            "top_a": self.simple("top_a", "a"),
            "dry": self.dry,
            "repetition": lambda stage: self.penalty("repetition_penalty", stage, stage.penalty),
            "presence": lambda stage: self.penalty("presence_penalty", stage, stage.value),
            "frequency": lambda stage: self.penalty("frequency_penalty", stage, stage.value),
            "encoder repetition": self.over_prompt,
            "no_repeat_ngram": self.ngram,
        }

    def temperature(self, stage: Any) -> str | None:
        if stage.value == 0:
            return "takes a temperature above 0: end in greedy"
        return self.put("temperature", stage.value)

    def dynamic_temperature(self, stage: Any) -> str | None:
        low, high = stage.low, stage.high
        if stage.dialect == "llamacpp":
            low, high = max(0.0, stage.value - stage.range), stage.value + stage.range
        self.fields |= {"dynamic_temperature": True, "dynatemp_exponent": stage.exponent}
        self.fields["dynatemp_low"] = low
        return self.put("dynatemp_high", high)

    def quadratic(self, stage: Any) -> str | None:
        self.fields["smoothing_curve"] = stage.curve
        return self.put("smoothing_factor", stage.factor)

    def xtc(self, stage: Any) -> str | None:
        if stage.protect:
            return "protects the newline and the end of sequence, and no other tokens"
        self.outline.differs(stage, "drops nothing where the newline or the end of sequence would go", "textgen")
        self.fields["xtc_threshold"] = stage.threshold
        return self.put("xtc_probability", stage.probability)

    def cutoff(self, field: str, stage: Any) -> str | None:
        """In units of 1e-4: a number that is the value again when it is read."""
        value = next((v for v in (round(stage.e / UNIT, 9), stage.e / UNIT) if v * UNIT == stage.e), stage.e / UNIT)
        self.outline.differs(stage, "keeps all that tie where all are below", "hf")
        return self.put(field, value)

    def reach(self, stage: Any) -> str | None:
        """The window that all penalties share."""
        if stage.window == 0:
            return "reads a range of 0 as all of the sequence"
        return None if self.agrees("repetition_penalty_range", stage.window or 0) else "has one range for all penalties"

    def penalty(self, field: str, stage: Any, value: float) -> str | None:
        over = stage.over or ("output" if stage.dialect == "logitmill" else "all")
        if over != "all" or (stage.window is None and stage.dialect == "llamacpp"):
            return "looks at prompt and output: write over=all"
        return self.reach(stage) or self.put(field, value)

    def over_prompt(self, stage: Any) -> str | None:
        if stage.window is not None:
            return "looks at all of the prompt"
        return self.put("encoder_repetition_penalty", 1 / stage.penalty)

    def ngram(self, stage: Any) -> str | None:
        if stage.over != "all":
            return "forbids the n-grams of prompt and output"
        return self.put("no_repeat_ngram_size", stage.n)

    def dry(self, stage: Any) -> str | None:
        if not all(isinstance(key, str) for key in stage.breakers):
            return "knows sequence breakers as texts alone"
        why = self.reach(stage)
        if why is None:
            self.outline.differs(stage, "has breakers and caps of its own", "textgen")
            self.fields |= {"dry_base": stage.base, "dry_allowed_length": stage.allowed_length}
            self.fields["dry_sequence_breakers"] = ", ".join(json.dumps(key) for key in stage.breakers)
            why = self.put("dry_multiplier", stage.multiplier)
        return why

    # -- the draw and the end ------------------------------------------------------------------------------------------

    def draw(self, stage: Any) -> None:
        if stage.stage_name == "adaptive_p":
            self.fields |= {"adaptive_target": stage.target, "adaptive_decay": stage.decay}
            return
        self.fields |= {"mirostat_mode": 2, "mirostat_tau": stage.tau, "mirostat_eta": stage.eta}
        if stage.variant != 2:
            self.outline.lose(stage, "knows variant 2 alone in its transformers loaders")

    def ends(self) -> None:
        outline = self.outline
        eos = outline.take("eos")
        if outline.stop is not None and not eos:
            outline.lose_end(outline.stop, "always ends a row at the model's end of sequence too")
        if any(criterion.ids for criterion in eos):
            outline.lose_end(outline.stop, "knows the model's own end of sequence alone")


def _name(stage: Stage) -> str:
    prompt = stage.stage_name == "repetition" and getattr(stage, "over", "") == "prompt"
    return "encoder repetition" if prompt else stage.stage_name


__all__ = ["written"]
