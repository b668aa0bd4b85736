"""A strategy as llama.cpp's options."""

from __future__ import annotations

from typing import Any

from ...core.strategy import Strategy
from .conversion import LeftOut
from .llamacpp_options import escaped
from .outline import Outline, Writing

NEVER = 2**31 - 1  # tokens before which no end of sequence may come: what ignore_eos amounts to

#: samplers, and the fields that only they read
CHAIN: dict[str, tuple[str, ...]] = {
    "penalties": ("repeat_last_n", "repeat_penalty", "frequency_penalty", "presence_penalty"),
    "dry": ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
    "top_n_sigma": ("top_n_sigma",),
    "top_k": ("top_k",),
    "typ_p": ("typical_p",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "xtc": ("xtc_probability", "xtc_threshold"),
    "temperature": ("temperature", "dynatemp_range", "dynatemp_exponent"),
    "infill": (),
    "adaptive_p": ("adaptive_target", "adaptive_decay"),
}
LETTERS = {
    "e": "penalties", "d": "dry", "s": "top_n_sigma", "k": "top_k", "y": "typ_p", "p": "top_p", "m": "min_p",
    "x": "xtc", "t": "temperature", "i": "infill", "a": "adaptive_p",
}  # fmt: skip


def written(strategy: Strategy) -> tuple[list[str], list[LeftOut]]:
    """The words of the command line, and what they do not say."""
    writing = _Writing(Outline("llamacpp", strategy))
    return writing.words(), writing.outline.finish()


class _Writing(Writing):
    """Goes through one strategy. ``fields``: options with their values; ``chain``: samplers in order."""

    def __init__(self, outline: Outline) -> None:
        super().__init__(outline)
        self.chain: list[str] = []
        self.repeated: list[tuple[str, str]] = []  # options that may come several times
        self.deaf = False  # whether the end of sequence is removed

    def words(self) -> list[str]:
        outline = self.outline
        sampler = self.sampler("sample", "greedy", "mirostat", "adaptive_p")
        name = "sample" if sampler is None else sampler.stage_name
        outline.write(self.writers(name))
        if name == "greedy":
            self.link("temperature")
            self.fields["--temp"] = 0.0
        elif name == "adaptive_p":
            self.adaptive(sampler)
        elif name == "mirostat":
            self.mirostat(sampler)
        if getattr(sampler, "seed", None) is not None:
            self.seed(sampler)
        self.ends()
        return self.line(mirostat=name == "mirostat")

    def line(self, *, mirostat: bool) -> list[str]:
        """All of it, the order of the samplers first."""
        fields = dict(self.fields)
        if mirostat:
            fields.setdefault("--temp", 1.0)
            chain = []
        elif not self.chain:  # a line that names no sampler has all of them
            chain, fields["--temp"] = ["temperature"], 1.0
        else:
            chain = self.chain
        words = ["--samplers", ";".join(chain)] if chain else []
        for option, value in fields.items():
            words += [option] if value is True else [option, f"{value:g}" if _short(value) else str(value)]
        return words + [word for pair in self.repeated for word in pair]

    # -- the chain -----------------------------------------------------------------------------------------------------

    def link(self, name: str) -> str | None:
        """A sampler at the end of the chain."""
        if name in self.chain and not (name == "penalties" and self.chain[-1] == name):
            return f"has one set of values for {name}, and that is taken"
        if not self.chain or self.chain[-1] != name:
            self.chain.append(name)
        return None

    def linked(self, name: str, stage: Any, values: dict[str, Any], how: str = "", *dialects: str) -> str | None:
        """A sampler with its options. ``how``: what llama.cpp does that is different in any dialect but these."""
        why = self.link(name)
        if why is None:
            self.fields |= values
            if how:
                self.outline.differs(stage, how, *dialects)
        return why

    def writers(self, sampler: str) -> dict[str, Any]:
        own: dict[str, Any] = {"bias": self.bias, "ban": self.ban, "min_tokens": self.min_tokens}
        own["temperature"] = self.temperature
        if sampler == "greedy":
            own["temperature"] = lambda stage: (
                "has one temperature, which is 0 for greedy: leave it out, as it does nothing"
            )
        if sampler == "mirostat":
            return own
        return own | {
            "repetition": self.repetition,
            "frequency": lambda stage: self.penalty("--frequency-penalty", stage, stage.value),
            "presence": lambda stage: self.penalty("--presence-penalty", stage, stage.value),
            "dry": self.dry,
            "top_n_sigma": lambda stage: self.linked(
                "top_n_sigma", stage, {"--top-nsigma": stage.n}, "takes sigma over what is left", "logitmill"
            ),
            "top_k": lambda stage: self.linked("top_k", stage, {"--top-k": stage.k}, "keeps exactly k", "logitmill"),
            "typical": lambda stage: self.linked(
                "typ_p", stage, {"--typical": stage.mass}, "goes on until the mass is exceeded", "llamacpp"
            ),
            "top_p": self.top_p,
            "min_p": lambda stage: self.linked("min_p", stage, {"--min-p": stage.p}),
            "xtc": self.xtc,
            "dynamic_temperature": self.dynamic_temperature,
        }

    def bias(self, stage: Any) -> str | None:
        if not all(isinstance(key, int) for key, _ in stage.amounts):
            return "knows biased tokens by their ids alone"
        return self.first(*(f"{key}{amount:+}" for key, amount in stage.amounts))

    def ban(self, stage: Any) -> str | None:
        if not all(isinstance(key, int) for key in stage.tokens):
            return "bans single tokens alone, by their ids"
        return self.first(*(f"{key}-inf" for key in stage.tokens))

    def first(self, *values: str) -> str | None:
        """Biases, which come before the chain."""
        if self.chain:
            return "always adds biases first"
        self.repeated += [("--logit-bias", value) for value in values]
        return None

    def min_tokens(self, stage: Any) -> str | None:
        if stage.n < NEVER or stage.ids:
            return "has no least length: it removes the end of sequence throughout, or never"
        self.deaf = True
        return "always adds biases first" if self.chain else self.put("--ignore-eos", True)

    def repetition(self, stage: Any) -> str | None:
        if self.chain and self.chain[-1] == "penalties":
            return "always runs repetition before frequency and presence"
        return self.penalty("--repeat-penalty", stage, stage.penalty)

    def penalty(self, option: str, stage: Any, value: float) -> str | None:
        over = stage.over or ("output" if stage.dialect == "logitmill" else "all")
        window = 64 if stage.window is None and stage.dialect == "llamacpp" else stage.window
        if over != "all" or window is None:
            return "looks at the last n tokens of prompt and output: write over=all and a window"
        if option in self.fields:
            return f"has one {option}, and that is taken"
        if not self.agrees("--repeat-last-n", window):
            return "has one window for all penalties"
        return self.linked("penalties", stage, {option: value})

    def dry(self, stage: Any) -> str | None:
        if not all(isinstance(key, str) for key in stage.breakers):
            return "knows sequence breakers as texts alone"
        if stage.window is None:
            return "looks at the last n tokens: give dry a window"
        why = self.linked(
            "dry", stage,
            {"--dry-multiplier": stage.multiplier, "--dry-base": stage.base,
             "--dry-allowed-length": stage.allowed_length, "--dry-penalty-last-n": stage.window},
            "has breakers and caps of its own", "llamacpp",
        )  # fmt: skip
        if why is None:
            self.repeated += [("--dry-sequence-breaker", escaped(text)) for text in stage.breakers or ("none",)]
        return why

    def top_p(self, stage: Any) -> str | None:
        return self.linked("top_p", stage, {"--top-p": stage.p})

    def xtc(self, stage: Any) -> str | None:
        if stage.protect or stage.dialect != "logitmill":
            return "protects no token from xtc"
        values = {"--xtc-probability": stage.probability, "--xtc-threshold": stage.threshold}
        return self.linked("xtc", stage, values)

    def temperature(self, stage: Any) -> str | None:
        return self.linked("temperature", stage, {"--temp": stage.value})

    def dynamic_temperature(self, stage: Any) -> str | None:
        value, reach = stage.value, stage.range
        if stage.dialect != "llamacpp":
            value, reach = (stage.low + stage.high) / 2, (stage.high - stage.low) / 2
            if reach < 0 or (value - reach, value + reach) != (stage.low, stage.high):
                return "goes as far above its temperature as below it"
        values = {"--temp": value, "--dynatemp-range": reach, "--dynatemp-exp": stage.exponent}
        return self.linked("temperature", stage, values)

    # -- the draw ------------------------------------------------------------------------------------------------------

    def adaptive(self, stage: Any) -> None:
        self.chain.append("adaptive_p")
        self.fields |= {"--adaptive-target": stage.target, "--adaptive-decay": stage.decay}

    def mirostat(self, stage: Any) -> None:
        self.chain.clear()
        self.fields |= {"--mirostat": stage.variant, "--mirostat-ent": stage.tau, "--mirostat-lr": stage.eta}
        if stage.variant == 1 and stage.m != 100:
            self.outline.lose(stage, "estimates from the 100 best tokens; carried over all the same")
        elif stage.variant == 1:
            self.outline.differs(stage, "keeps one token where k is no int32", "llamacpp")

    def seed(self, stage: Any) -> None:
        if stage.seed >= 2**32 - 1:
            self.outline.lose(stage, "takes seeds below 4294967295")
        else:
            self.fields["--seed"] = stage.seed

    # -- the end -------------------------------------------------------------------------------------------------------

    def ends(self) -> None:
        outline = self.outline
        eos = outline.take("eos")
        if outline.stop is not None and not eos and not self.deaf:
            outline.lose_end(outline.stop, "always ends a row at the model's end of sequence too")
        if any(criterion.ids for criterion in eos):
            outline.lose_end(outline.stop, "knows the model's own end of sequence alone")
        bound = outline.bound("max_tokens")
        if bound is not None:
            self.fields["--predict"] = bound
        texts, include = outline.texts()
        self.repeated += [("--reverse-prompt", escaped(text)) for text in texts]
        if True in include:
            outline.lose_end(outline.stop, "never leaves a stop string in the text")


def _short(value: Any) -> bool:
    """Whether six digits say all of a number."""
    return isinstance(value, float) and float(f"{value:g}") == value


__all__ = ["CHAIN", "LETTERS", "NEVER", "written"]
