"""llama.cpp: options of its command line, or the fields of a request to its server.

The chain is that of common_sampler_init (common/sampling.cpp, as llama-cpp-python 0.3.36 has it): biases, then the
samplers in the order of ``samplers``, then the draw; mirostat takes the place of the samplers.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.errors import StrategyError
from ...core.loader import registry
from ...core.strategy import Strategy
from .assembly import Assembly
from .conversion import LeftOut
from .llamacpp_options import parsed, words_of
from .llamacpp_writing import CHAIN, LETTERS, NEVER, written
from .reading import Field, Reading, carried, inert, read_object, refused

_OUTPUT = inert("what is returned besides the tokens")
_CACHE = inert("how keys and values are kept")
_GRAMMAR = refused("the grammar that the text has to follow is not carried over")
_BUDGET = refused("a budget for reasoning is not carried over: add thinking_budget", -1)
_CHAT = inert("how a chat's answer is taken apart")
DEFAULT_SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
DEFAULT_BREAKERS = ("\n", ":", '"', "*")
RANDOM_SEED = 2**32 - 1

FIELDS: dict[str, Field] = {
    "samplers": carried("the order of the stages", DEFAULT_SAMPLERS),
    "logit_bias": carried("`bias`; -inf and false: `ban`"),
    "ignore_eos": carried("`min_tokens(2147483647)`: llama.cpp removes the end of sequence", False),
    "repeat_penalty": carried("`repetition`", 1.0),
    "frequency_penalty": carried("`frequency`", 0.0),
    "presence_penalty": carried("`presence`", 0.0),
    "repeat_last_n": carried("the window of the three; -1, which older versions took, is all", 64),
    "dry_multiplier": carried("`dry`", 0.0),
    "dry_base": carried("`dry(base)`", 1.75),
    "dry_allowed_length": carried("`dry(allowed_length)`", 2),
    "dry_penalty_last_n": carried("`dry(window)`; -1 is all", 64),
    "dry_sequence_breakers": carried("`dry(breakers)`", list(DEFAULT_BREAKERS)),
    "top_n_sigma": carried("`top_n_sigma`", -1.0),
    "top_k": carried("`top_k`", 40),
    "typical_p": carried("`typical`", 1.0),
    "top_p": carried("`top_p`", 0.95),
    "min_p": carried("`min_p`", 0.05),
    "xtc_probability": carried("`xtc`", 0.0),
    "xtc_threshold": carried("`xtc(threshold)`", 0.1),
    "min_keep": carried("`min_keep` of the stages that have it", 0),
    "temperature": carried("`temperature`; 0 at the end: `greedy`", 0.8),
    "dynatemp_range": carried("`dynamic_temperature`", 0.0),
    "dynatemp_exponent": carried("`dynamic_temperature(exponent)`", 1.0),
    "mirostat": carried("`mirostat`, in place of the samplers", 0),
    "mirostat_tau": carried("`mirostat(tau)`", 5.0),
    "mirostat_eta": carried("`mirostat(eta)`", 0.1),
    "adaptive_target": carried("`adaptive_p`, where samplers name it", -1.0),
    "adaptive_decay": carried("`adaptive_p(decay)`", 0.9),
    "seed": carried("`sample(seed)`; -1 and 4294967295 draw one"),
    "n_predict": carried("`max_tokens`; -1 is no bound", -1),
    "stop": carried("`stop`"),
    "grammar": _GRAMMAR,
    "json_schema": _GRAMMAR,
    "grammar_lazy": _GRAMMAR,
    "grammar_triggers": _GRAMMAR,
    "grammar_type": inert("nothing without a grammar"),
    "preserved_tokens": inert("nothing without a grammar"),
    "n_cmpl": refused("how many answers is the request's to say: ask for n=", 1),
    "t_max_predict_ms": refused("it ends a row at the first line break after that time: add timeout", -1, 0),
    "n_indent": refused("a least indentation is not carried over", 0),
    "reasoning_budget": _BUDGET,
    "reasoning_budget_tokens": _BUDGET,
    "reasoning_effort": refused("how long a model reasons is not carried over"),
    "reasoning_budget_start_tag": inert("nothing without a budget"),
    "reasoning_budget_end_tags": inert("nothing without a budget"),
    "reasoning_budget_end_tag": inert("nothing without a budget"),
    "reasoning_budget_message": inert("nothing without a budget"),
    "reasoning_control": inert("nothing without a budget"),
    "prompt": inert("what the model reads, not how it decodes"),
    "messages": inert("what the model reads, not how it decodes"),
    "model": inert("which model is asked is not in a strategy"),
    "lora": inert("which model is asked is not in a strategy"),
    "stream": _OUTPUT,
    "stream_options": _OUTPUT,
    "n_probs": _OUTPUT,
    "post_sampling_probs": _OUTPUT,
    "return_tokens": _OUTPUT,
    "return_progress": _OUTPUT,
    "response_fields": _OUTPUT,
    "timings_per_token": _OUTPUT,
    "sse_ping_interval": _OUTPUT,
    "verbose": _OUTPUT,
    "echo": _OUTPUT,
    "backend_sampling": inert("where it is computed"),
    "cache_prompt": _CACHE,
    "n_cache_reuse": _CACHE,
    "n_keep": _CACHE,
    "n_discard": _CACHE,
    "id_slot": _CACHE,
    "chat_format": _CHAT,
    "reasoning_format": _CHAT,
    "generation_prompt": _CHAT,
    "parse_tool_calls": _CHAT,
    "chat_parser": _CHAT,
    "continue_final_message": _CHAT,
}
_ALIASES = {"max_tokens": "n_predict", "max_completion_tokens": "n_predict", "n": "n_cmpl", "logprobs": "n_probs"}

#: the names that ``samplers`` may use -> those of CHAIN
NAMES = {
    **{name: name for name in CHAIN},
    **{name.replace("_", "-"): name for name in CHAIN},
    **{name.replace("_", ""): name for name in CHAIN},
    "nucleus": "top_p", "temp": "temperature", "typ": "typ_p",
}  # fmt: skip


def read(source: Any, file: str | None = None) -> Reading:
    """Options as text or words, or a request as a dict or JSON."""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        source = read_object(source, "llamacpp", file)
    if isinstance(source, Mapping):
        given = dict(source)
        for alias, name in _ALIASES.items():
            if alias in given and name not in given:
                given[name] = given.pop(alias)
        return Reading("llamacpp", FIELDS, given, file)
    if isinstance(source, str):
        source = words_of(source, file)
    if not isinstance(source, Sequence) or not all(isinstance(word, str) for word in source):
        raise StrategyError(f"llamacpp: options, a dict or JSON are wanted, got {type(source).__name__}")
    return Reading("llamacpp", FIELDS, parsed(source, file), file)


def imported(reading: Reading) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
    """In the order of the chain."""
    maker = _Maker(reading)
    maker.biases()
    if reading.whole("mirostat") not in (0, 1, 2):
        raise reading.wrong("mirostat", "0, 1 or 2")
    if reading.whole("mirostat"):
        maker.mirostat()
    else:
        maker.chain()
    maker.ends()
    return maker.strategy(), reading.left_out, reading.unused


class _Maker(Assembly):
    """Goes through one configuration."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading, "llamacpp")
        self.seed = reading.seed("seed", -1, RANDOM_SEED)
        self.keep = max(reading.whole("min_keep"), 1)
        self.counted = False  # whether llama.cpp's candidates hold tokens that have no mass

    # -- biases --------------------------------------------------------------------------------------------------------

    def biases(self) -> None:
        pairs = self._pairs()
        finite = tuple((key, amount) for key, amount in pairs if amount != float("-inf"))
        never = [key for key, amount in pairs if amount == float("-inf")]
        if finite:
            self.add("logit_bias", "bias", finite)
        if never:
            self.add("logit_bias", "ban", never)
        if self.reading.truth("ignore_eos"):
            self.add("ignore_eos", "min_tokens", NEVER)
        self.counted = bool(never) or self.reading.truth("ignore_eos")

    def _pairs(self) -> list[tuple[int, float]]:
        given = self.reading.get("logit_bias") or []
        items = given.items() if isinstance(given, Mapping) else given
        found = []
        try:
            for key, amount in items:
                if isinstance(key, str) and not key.lstrip("-").isdigit():
                    self.reading.lose("logit_bias", "a text biases each of its tokens by itself there: name their ids")
                    return []
                if amount is True:
                    raise ValueError
                found.append((int(key), float("-inf") if amount is False else float(amount)))
        except (TypeError, ValueError):
            raise self.reading.wrong("logit_bias", "token ids with their amounts") from None
        return found

    # -- the chain -----------------------------------------------------------------------------------------------------

    def order(self) -> list[str]:
        """The samplers by the names of CHAIN, in order."""
        given = self.reading.get("samplers")
        if isinstance(given, str):
            known, found = LETTERS, list(given)
        else:
            known, found = NAMES, [name.lower() for name in self.reading.texts("samplers")]
        for odd in dict.fromkeys(name for name in found if name not in known):
            wanted = ", ".join(LETTERS if known is LETTERS else CHAIN)
            self.reading.lose("samplers", f"{odd!r} is none of {wanted}; llama.cpp leaves it out with a warning")
        return [known[name] for name in found if name in known]

    def chain(self) -> None:
        order = self.order()
        last = [name for name in order if name != "adaptive_p"][-1:]
        adaptive = "adaptive_p" in order and self.reading.number("adaptive_target") >= 0
        greedy = last == ["temperature"] and self.reading.number("temperature") <= 0 and not adaptive
        greedy = greedy and self.reading.number("dynatemp_range") <= 0
        for name in order:
            if name != "adaptive_p" and not (greedy and name == "temperature"):
                getattr(self, name)()
        self._unused(order)
        if adaptive:
            decay = min(self.reading.number("adaptive_decay"), 0.99)  # as llama.cpp clips it
            self.add("adaptive_target", "adaptive_p", self.reading.number("adaptive_target"), decay, seed=self.seed)
        elif greedy:
            self.add("temperature", "greedy")
        else:
            self.add("seed", "sample", seed=self.seed)

    def _unused(self, order: Sequence[str]) -> None:
        for name, fields in CHAIN.items():
            if name not in order and fields:
                self.reading.ignore(f"samplers leave {name} out", *fields)

    def penalties(self) -> None:
        reading = self.reading
        last = reading.whole("repeat_last_n")
        if last < -1:
            raise reading.wrong("repeat_last_n", "0 or more")
        where: dict[str, Any] = {"window": last} if last >= 0 else {"dialect": "logitmill", "over": "all"}
        penalty = reading.number("repeat_penalty")
        if last == 0:
            return
        if penalty != 1.0:
            self.add("repeat_penalty", "repetition", penalty, **where)
        for field, stage in (("frequency_penalty", "frequency"), ("presence_penalty", "presence")):
            if reading.number(field) != 0.0:
                self.add(field, stage, reading.number(field), **where)

    def dry(self) -> None:
        reading = self.reading
        last, base = reading.whole("dry_penalty_last_n"), reading.number("dry_base")
        if reading.number("dry_multiplier") == 0 or last == 0:
            return
        if base < 1:
            base = 1.75  # what llama.cpp puts in its place
            reading.ignore("below 1: llama.cpp takes its default, 1.75", "dry_base")
        breakers = reading.texts("dry_sequence_breakers")
        self.add(
            "dry_multiplier", "dry", reading.number("dry_multiplier"), base, reading.whole("dry_allowed_length"),
            None if last < 0 else last, breakers,
        )  # fmt: skip

    def top_n_sigma(self) -> None:
        if self.reading.number("top_n_sigma") > 0:
            self.add("top_n_sigma", "top_n_sigma", self.reading.number("top_n_sigma"))
            self.counted = True

    def top_k(self) -> None:
        if self.reading.whole("top_k") > 0:
            self.add("top_k", "top_k", self.reading.whole("top_k"))

    def typ_p(self) -> None:
        if self.reading.number("typical_p") < 1:
            self._keeping("typical_p", "typical", self.reading.number("typical_p"))

    def top_p(self) -> None:
        if self.reading.number("top_p") < 1:
            self._keeping("top_p", "top_p", self.reading.number("top_p"))

    def min_p(self) -> None:
        if self.reading.number("min_p") > 0:
            self._keeping("min_p", "min_p", self.reading.number("min_p"))

    def xtc(self) -> None:
        probability, threshold = self.reading.number("xtc_probability"), self.reading.number("xtc_threshold")
        if probability > 0 and threshold <= 0.5:
            self._keeping("xtc_probability", "xtc", probability, threshold)

    def _keeping(self, field: str, name: str, *args: Any) -> None:
        """A truncation with llama.cpp's min_keep, where it has one."""
        self.counted = self.counted and name == "xtc"
        entry = registry().find(name)
        if self.keep == 1:
            self.add(field, name, *args)
        elif entry is not None and "min_keep" in entry.load().model_fields:
            self.add(field, name, *args, min_keep=self.keep)
        else:
            self.reading.lose("min_keep", f"{name} has none here, and is carried over without")
            self.add(field, name, *args)

    def temperature(self) -> None:
        reading = self.reading
        value, reach = max(reading.number("temperature"), 0.0), reading.number("dynatemp_range")
        if reach > 0:
            exponent = reading.number("dynatemp_exponent")
            if self.counted:
                why = "llama.cpp counts tokens in N that a bias or top_n_sigma removed; carried over without them"
                reading.lose("dynatemp_range", why)
            self.add("dynatemp_range", "dynamic_temperature", value=value, range=reach, exponent=exponent)
        elif value != 1.0:
            self.add("temperature", "temperature", value)

    def infill(self) -> None:
        self.reading.lose("samplers", "infill, which joins candidates for filling in the middle, has no stage here")

    def mirostat(self) -> None:
        reading = self.reading
        value = max(reading.number("temperature"), 0.0)
        if value != 1.0:
            self.add("temperature", "temperature", value)
        version = reading.whole("mirostat")
        self.add(
            "mirostat", "mirostat", reading.number("mirostat_tau"), reading.number("mirostat_eta"), version,
            seed=self.seed,
        )  # fmt: skip
        fields = {field for fields in CHAIN.values() for field in fields} - {"temperature"}
        reading.ignore("mirostat takes the samplers' place", "samplers", *sorted(fields))

    # -- the end -------------------------------------------------------------------------------------------------------

    def ends(self) -> None:
        reading = self.reading
        bound = reading.whole("n_predict")
        if not reading.truth("ignore_eos"):
            self.end("ignore_eos", "eos")
        if bound == 0:
            reading.lose("n_predict", "a row has one token at least here")
        if bound > 0:
            self.end("n_predict", "max_tokens", bound)
        texts = [text for text in reading.texts("stop") if text]
        if texts:
            self.end("stop", "stop", *texts)


def exported(strategy: Strategy) -> tuple[str, list[LeftOut]]:
    """Options as one line of a shell."""
    words, left_out = written(strategy)
    return shlex.join(words), left_out


def shown(document: str) -> str:
    """The line itself."""
    return document


__all__ = ["FIELDS", "exported", "imported", "read", "shown"]
