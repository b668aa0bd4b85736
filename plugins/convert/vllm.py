"""vLLM: SamplingParams, in the order of its v1 sampler (vllm/v1/sample/sampler.py and logits_processor/builtin.py).

Allowed tokens, bad words, min_tokens, logit_bias, penalties (repetition, frequency, presence); then, unless it is
greedy, temperature, min_p, top_k and top_p.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ...core.errors import StrategyError
from ...core.strategy import AllOf, Strategy, Test, all_of
from .assembly import Assembly, reads
from .conversion import LeftOut
from .outline import Outline, Writer, Writing
from .reading import Field, Reading, carried, inert, is_id, read_object, refused

_OUTPUT = inert("what is returned besides the tokens")
_TEXT = inert("how tokens become text")
_SEARCH = refused("there is no beam search here", 1, 1.0)

FIELDS: dict[str, Field] = {
    "allowed_token_ids": carried("`allow`"),
    "bad_words": carried("`bad_words`"),
    "min_tokens": carried("`min_tokens`, for the end of sequence and for stop_token_ids; `stop(...) and step > n`", 0),
    "logit_bias": carried("`bias`"),
    "repetition_penalty": carried("`repetition`", 1.0),
    "frequency_penalty": carried("`frequency`", 0.0),
    "presence_penalty": carried("`presence`", 0.0),
    "temperature": carried("`temperature`; 0: `greedy`; below 0.01: 0.01, as vLLM does", 1.0),
    "min_p": carried("`min_p`", 0.0),
    "top_k": carried("`top_k`; 0 and -1 are off", 0),
    "top_p": carried("`top_p`", 1.0),
    "seed": carried("`sample(seed)`"),
    "stop": carried("`stop`"),
    "include_stop_str_in_output": carried("`stop(include=true)`", False),
    "stop_token_ids": carried("`stop_ids`"),
    "ignore_eos": carried("no `eos` in the until", False),
    "max_tokens": carried("`max_tokens`", 16),
    "n": refused("how many sequences is the request's to say: ask for n=", 1),
    "best_of": refused("how many sequences are ranked is not carried over: write best_of(n) around the pipeline", 1),
    "use_beam_search": _SEARCH,
    "length_penalty": _SEARCH,
    "early_stopping": _SEARCH,
    "structured_outputs": refused("the grammar that the text has to follow is not carried over"),
    "guided_decoding": refused("the grammar that the text has to follow is not carried over"),
    "thinking_token_budget": refused("which tokens open and close the thinking is not in it: add thinking_budget", -1),
    "repetition_detection": carried("`loop`, where the least pattern is one token"),
    "logits_processors": refused("code is not carried over"),
    "extra_args": refused("what a plugin makes of them is not known here"),
    "trace_decode_token_ids": refused("tokens that are prescribed are not carried over: add force"),
    "truncate_prompt_tokens": refused("the prompt is not cut here"),
    "logprobs": _OUTPUT,
    "prompt_logprobs": _OUTPUT,
    "prompt_logprob_token_ids": _OUTPUT,
    "prompt_logprob_start": _OUTPUT,
    "logprob_token_ids": _OUTPUT,
    "flat_logprobs": _OUTPUT,
    "output_kind": _OUTPUT,
    "stream_interval": _OUTPUT,
    "routed_experts_prompt_start": _OUTPUT,
    "detokenize": _TEXT,
    "skip_special_tokens": _TEXT,
    "spaces_between_special_tokens": _TEXT,
    "output_text_buffer_length": _TEXT,
    "skip_clone": inert("how the object is handed on"),
    "skip_reading_prefix_cache": inert("how keys and values are kept"),
    "bad_words_token_ids": inert("made from bad_words by vLLM itself"),
}

LEAST_TEMPERATURE = 0.01  # to which a lower one is raised, but for 0 (_MAX_TEMP of vllm/sampling_params.py)
DEFAULT_BOUND = 16
NEARLY = "vLLM looks for a word's first tokens in the output alone, and bans one tokenization of it"
ORDER = (
    "allow", "bad_words", "min_tokens", "bias", "repetition", "frequency", "presence", "temperature", "min_p", "top_k",
    "top_p",
)  # fmt: skip
_RANDOM = ("min_p", "top_k", "top_p")


def read(source: Any, file: str | None = None) -> Reading:
    """SamplingParams from an object, a dict or JSON."""
    if isinstance(source, str):
        source = read_object(source, "vllm", file)
    elif not isinstance(source, Mapping):
        source = _attributes(source)
    return Reading("vllm", FIELDS, source, file)


def _attributes(source: Any) -> dict[str, Any]:
    names = getattr(source, "__struct_fields__", None) or (
        [field.name for field in dataclasses.fields(source)]
        if dataclasses.is_dataclass(source)
        else vars(source)
        if hasattr(source, "__dict__")
        else ()
    )
    found = {name: getattr(source, name) for name in names if not name.startswith("_")}
    if not found.keys() & FIELDS.keys():
        raise StrategyError(f"vllm: SamplingParams, a dict or JSON is wanted, got {type(source).__name__}")
    return found


def imported(reading: Reading) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
    """In the order of vLLM's sampler."""
    maker = _Maker(reading)
    maker.pipeline()
    maker.ends()
    return maker.strategy(), reading.left_out, reading.unused


class _Maker(Assembly):
    """Goes through one SamplingParams."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading, "vllm", "hf")
        self.least = reading.whole("min_tokens")
        self.stop_ids = reading.ids("stop_token_ids")

    def pipeline(self) -> None:
        reading = self.reading
        if reading.has("allowed_token_ids"):
            self.add("allowed_token_ids", "allow", list(reading.ids("allowed_token_ids")))
        if reading.texts("bad_words"):
            self.add("bad_words", "bad_words", reading.texts("bad_words"))
            reading.lose("bad_words", f"carried over, but {NEARLY}")
        if self.least > 0:
            self.add("min_tokens", "min_tokens", self.least)
        if self.least > 0 and self.stop_ids:
            self.add("min_tokens", "min_tokens", self.least, ids=self.stop_ids)
        if reading.get("logit_bias"):
            self.add("logit_bias", "bias", amounts(reading, "logit_bias"))
        if reading.number("repetition_penalty") != 1.0:
            self.add("repetition_penalty", "repetition", reading.number("repetition_penalty"), dialect="logitmill")
        for name, stage in (("frequency_penalty", "frequency"), ("presence_penalty", "presence")):
            if reading.number(name) != 0.0:
                self.add(name, stage, reading.number(name))
        self.sampling()

    def sampling(self) -> None:
        reading = self.reading
        temperature = reading.number("temperature")
        if temperature < 0:
            raise reading.wrong("temperature", "0 or more")
        if temperature == 0:
            reading.ignore("a temperature of 0 is greedy", *_RANDOM, "seed")
            self.add("temperature", "greedy")
            return
        if temperature < LEAST_TEMPERATURE:
            reading.ignore(f"vLLM raises it to {LEAST_TEMPERATURE}", "temperature")
        if temperature != 1.0:
            self.add("temperature", "temperature", max(temperature, LEAST_TEMPERATURE))
        if reading.number("min_p") > 0:
            self.add("min_p", "min_p", reading.number("min_p"))
        if reading.whole("top_k") not in (0, -1):
            self.add("top_k", "top_k", reading.whole("top_k"))
        if reading.number("top_p") <= 0:
            raise reading.wrong("top_p", "above 0")
        if reading.number("top_p") < 1:
            self.add("top_p", "top_p", reading.number("top_p"))
        self.add("seed", "sample", seed=reading.seed("seed", -1))

    def ends(self) -> None:
        reading = self.reading
        if not reading.truth("ignore_eos"):
            self.end("ignore_eos", "eos")
        if self.stop_ids:
            self.end("stop_token_ids", "stop_ids", *self.stop_ids)
        if reading.texts("stop"):
            stop = self.stage(
                "stop", "stop", *reading.texts("stop"), include=reading.truth("include_stop_str_in_output")
            )
            self.tests.append(all_of(stop, reads("step", ">", self.least)) if self.least > 0 else stop)  # type: ignore[arg-type]  # a criterion
        if reading.has("repetition_detection"):
            self.repetition_detection()
        if "max_tokens" not in reading.given or reading.given["max_tokens"] is not None:  # None says: no bound
            self.end("max_tokens", "max_tokens", reading.whole("max_tokens"))

    def repetition_detection(self) -> None:
        given = self.reading.mapping("repetition_detection")
        sizes = [given.get(key) or 0 for key in ("max_pattern_size", "min_pattern_size", "min_count")]
        if not all(map(is_id, sizes)):
            raise self.reading.wrong("repetition_detection", "made of whole numbers")
        longest, least, times = sizes
        if longest and least <= 1:
            self.end("repetition_detection", "loop", longest, times=times)
        elif longest:
            self.reading.lose("repetition_detection", "a least pattern of more than one token is not carried over")


def amounts(reading: Reading, name: str) -> tuple[tuple[int, float], ...]:
    """logit_bias as pairs of a token id and an amount."""
    given = reading.get(name)
    try:
        return tuple((int(key), float(value)) for key, value in given.items())
    except (AttributeError, TypeError, ValueError):
        raise reading.wrong(name, "token ids with their amounts") from None


def exported(strategy: Strategy) -> tuple[dict[str, Any], list[LeftOut]]:
    """The fields of a SamplingParams."""
    writing = _Writing(Outline("vllm", strategy))
    return writing.document(), writing.outline.finish()


class _Writing(Writing):
    """Goes through one strategy."""

    stop_ids: tuple[int, ...] = ()

    def document(self) -> dict[str, Any]:
        outline, fields = self.outline, self.fields
        sampler = self.sampler("greedy", "sample")
        greedy = sampler is not None and sampler.stage_name == "greedy"
        self.ends()
        writers = self.writers()
        if greedy:
            fields["temperature"] = 0.0
            why = "leaves it out where it is greedy: leave it out here too, greedy is the same without"
            writers |= dict.fromkeys(("temperature", *_RANDOM), lambda stage: why)
        outline.write(writers, ORDER)
        if getattr(sampler, "seed", None) is not None:
            fields["seed"] = sampler.seed
        return fields

    def writers(self) -> dict[str, Writer]:
        return {
            "allow": self.allow,
            "bad_words": self.bad_words,
            "min_tokens": self.min_tokens,
            "bias": self.bias,
            "repetition": self.repetition,
            "frequency": lambda stage: self.output_penalty(stage, "frequency_penalty"),
            "presence": lambda stage: self.output_penalty(stage, "presence_penalty"),
            "temperature": self.temperature,
            "min_p": self.simple("min_p", "p"),
            "top_k": self.simple("top_k", "k", "vllm", "hf", how="keeps all that ties with the k-th"),
            "top_p": lambda stage: (
                self.put("top_p", stage.p) if stage.p > 0 else "takes a top_p above 0: end in greedy"
            ),
        }

    def allow(self, stage: Any) -> str | None:
        if not all(isinstance(key, int) for key in stage.tokens):
            return "knows allowed tokens by their ids alone"
        return self.put("allowed_token_ids", list(stage.tokens))

    def bad_words(self, stage: Any) -> str | None:
        if not all(isinstance(word, str) for word in stage.words) or not stage.spaces:
            return "knows bad words as texts alone, with and without a leading space"
        self.outline.lose(stage, f"bans a little less: {NEARLY}; carried over all the same")
        return self.put("bad_words", list(stage.words))

    def min_tokens(self, stage: Any) -> str | None:
        if stage.over != "output":
            return "counts what was generated"
        if stage.ids not in ((), self.stop_ids) or not self.agrees("min_tokens", stage.n):
            return "holds back the end of sequence and stop_token_ids, both for the same number of tokens"
        return None

    def bias(self, stage: Any) -> str | None:
        keys = [key for key, _ in stage.amounts]
        if not all(isinstance(key, int) for key in keys) or len(set(keys)) < len(keys):
            return "takes one amount for a token, by its id"
        return self.put("logit_bias", {str(key): amount for key, amount in stage.amounts})

    def repetition(self, stage: Any) -> str | None:
        if stage.over != "all" or stage.window is not None or stage.dialect != "logitmill":
            return "looks at prompt and output, all of them"
        return self.put("repetition_penalty", stage.penalty)

    def output_penalty(self, stage: Any, field: str) -> str | None:
        if stage.over not in (None, "output") or stage.window is not None or stage.dialect not in ("logitmill", "vllm"):
            return "looks at the output, all of it"
        return self.ranged(field, stage.value, -2, 2)

    def temperature(self, stage: Any) -> str | None:
        if stage.value < LEAST_TEMPERATURE:
            return f"takes a temperature of at least {LEAST_TEMPERATURE}: end in greedy"
        return self.put("temperature", stage.value)

    # -- the end -------------------------------------------------------------------------------------------------------

    def ends(self) -> None:
        outline, fields = self.outline, self.fields
        eos = outline.take("eos")
        fields["ignore_eos"] = outline.stop is not None and not eos
        if any(criterion.ids for criterion in eos):
            outline.lose_end(outline.stop, "knows the model's own end of sequence: name other tokens in stop_ids")
        self.stop_ids = tuple(i for criterion in outline.take("stop_ids") for i in criterion.ids)
        if self.stop_ids:
            fields["stop_token_ids"] = list(self.stop_ids)
        self.late_stops()
        loops = outline.take("loop")
        if loops:
            fields["repetition_detection"] = {"max_pattern_size": loops[0].n, "min_count": loops[0].times}
        if len(loops) > 1:
            outline.lose_end(loops[1], "has one repetition_detection, and that is taken")
        fields["max_tokens"] = outline.bound("max_tokens")

    def late_stops(self) -> None:
        """``stop(...)``, or where there is a least length ``stop(...) and step > n``."""
        outline = self.outline
        least = max((s.n for s in outline.stages if s.stage_name == "min_tokens" and isinstance(s.n, int)), default=0)  # type: ignore[attr-defined]
        if least:
            late: list[Test] = []
            for test in outline.tests:
                parts = test.tests if isinstance(test, AllOf) else ()
                found = len(parts) == 2 and parts[1] == reads("step", ">", least)
                late.append(parts[0] if found else test)
            early = [test for test in outline.tests if getattr(test, "stage_name", "") == "stop"]
            for test in early:
                outline.lose_end(test, f"looks for stop strings behind min_tokens only: write it 'and step > {least}'")
            outline.tests = late
        texts, include = outline.texts()
        if texts:
            self.fields |= {"stop": texts, "include_stop_str_in_output": True in include}
        if len(include) > 1:
            outline.lose_end(outline.stop, "keeps all stop strings in the text, or none")


def shown(document: Mapping[str, Any]) -> str:
    """As JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


__all__ = ["FIELDS", "exported", "imported", "read", "shown"]
