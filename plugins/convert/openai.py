"""OpenAI: the fields of a chat or completion request, and what its documentation says they do.

The reference of the API gives no code: a bias is added to the logits "prior to sampling", the penalties are
l -= count * frequency_penalty + (count > 0) * presence_penalty over the tokens sampled so far, then come temperature
and top_p. What compatible servers add to it is not OpenAI's: read it as vllm or llamacpp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...core.errors import StrategyError
from ...core.loader import registry
from ...core.strategy import Step, Strategy
from .assembly import Assembly
from .conversion import LeftOut
from .outline import Outline, Writing
from .reading import Field, Reading, carried, inert, read_object, refused
from .vllm import amounts

_PROMPT = inert("what the model reads, not how it decodes")
_OUTPUT = inert("what is returned besides the tokens")
_SERVICE = inert("how the service handles the request")
_TOOLS = refused("tools are not carried over: they are put into the prompt, and the answer follows their schema")

FIELDS: dict[str, Field] = {
    "logit_bias": carried("`bias`"),
    "frequency_penalty": carried("`frequency`", 0.0),
    "presence_penalty": carried("`presence`", 0.0),
    "temperature": carried("`temperature`; 0: `greedy`", 1.0),
    "top_p": carried("`top_p`", 1.0),
    "seed": carried("`sample(seed)`"),
    "best_of": carried("`best_of` around the pipeline"),
    "stop": carried("`stop`"),
    "max_completion_tokens": carried("`max_tokens`"),
    "max_tokens": carried("`max_tokens`; a completion (a request with a prompt) has 16 where it says nothing"),
    "n": refused("how many answers is the request's to say: ask for n=", 1),
    "suffix": refused("text behind the answer is not carried over"),
    "response_format": Field(
        "not carried", "the schema that the answer has to follow is not carried over", None,
        lambda value: value in (None, {"type": "text"}),
    ),
    "tools": _TOOLS,
    "tool_choice": refused("tools are not carried over", "none", "auto"),
    "functions": _TOOLS,
    "function_call": refused("tools are not carried over", "none", "auto"),
    "reasoning_effort": refused("how long a model reasons is not carried over: add thinking_budget", "none"),
    "verbosity": refused("what the model is told about its answer's length is not carried over", "medium"),
    "web_search_options": refused("a search is not carried over"),
    "audio": refused("sound is not carried over"),
    "modalities": refused("there is text alone here", ["text"]),
    "moderation": refused("there is no moderation here"),
    "prediction": inert("drafts change the speed, not the distribution"),
    "parallel_tool_calls": inert("nothing without tools"),
    "messages": _PROMPT,
    "prompt": _PROMPT,
    "model": inert("which model is asked is not in a strategy"),
    "echo": _OUTPUT,
    "logprobs": _OUTPUT,
    "top_logprobs": _OUTPUT,
    "stream": _OUTPUT,
    "stream_options": _OUTPUT,
    "user": _SERVICE,
    "safety_identifier": _SERVICE,
    "metadata": _SERVICE,
    "store": _SERVICE,
    "service_tier": _SERVICE,
    "prompt_cache_key": _SERVICE,
    "prompt_cache_options": _SERVICE,
    "prompt_cache_retention": _SERVICE,
}  # fmt: skip

DEFAULT_BOUND = 16  # of a completion; a chat has none
MOST_STOPS = 4
ORDER = ("bias", "frequency", "presence", "temperature", "top_p")


def read(source: Any, file: str | None = None) -> Reading:
    """A request from a dict or JSON."""
    if isinstance(source, str):
        source = read_object(source, "openai", file)
    if not isinstance(source, Mapping):
        raise StrategyError(
            f"openai: the fields of a request are wanted, as a dict or JSON, got {type(source).__name__}"
        )
    return Reading("openai", FIELDS, source, file)


def imported(reading: Reading) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
    """In the order of the documentation."""
    maker = _Maker(reading)
    maker.pipeline()
    maker.ends()
    strategy = maker.strategy()
    if reading.has("best_of") and reading.whole("best_of") != 1:
        search = maker.stage("best_of", "best_of", n=reading.whole("best_of"), block=Strategy(strategy.pipeline))
        strategy = Strategy((Step(search),), strategy.stop)
    return strategy, reading.left_out, reading.unused


class _Maker(Assembly):
    """Goes through one request."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)

    def pipeline(self) -> None:
        reading = self.reading
        if reading.get("logit_bias"):
            self.add("logit_bias", "bias", amounts(reading, "logit_bias"))
        for name, stage in (("frequency_penalty", "frequency"), ("presence_penalty", "presence")):
            if reading.number(name) != 0.0:
                self.add(name, stage, reading.number(name))
        temperature = reading.number("temperature")
        if temperature == 0:
            reading.ignore("a temperature of 0 is greedy", "top_p", "seed")
            self.add("temperature", "greedy")
            return
        if temperature != 1.0:
            self.add("temperature", "temperature", temperature)
        if reading.number("top_p") < 1:
            self.add("top_p", "top_p", reading.number("top_p"))
        self.add("seed", "sample", seed=reading.seed("seed"))

    def ends(self) -> None:
        reading = self.reading
        self.end("stop", "eos")
        if reading.texts("stop"):
            self.end("stop", "stop", *reading.texts("stop"))
        if reading.has("max_completion_tokens"):
            reading.ignore("max_completion_tokens goes before it", "max_tokens")
            self.end("max_completion_tokens", "max_tokens", reading.whole("max_completion_tokens"))
        elif reading.has("max_tokens"):
            self.end("max_tokens", "max_tokens", reading.whole("max_tokens"))
        elif "prompt" in reading.given:
            self.end("max_tokens", "max_tokens", DEFAULT_BOUND)


def exported(strategy: Strategy) -> tuple[dict[str, Any], list[LeftOut]]:
    """The fields of a request: of a chat, or of a completion where only that can say it. Model and messages lack."""
    search = strategy.pipeline[-1].stage if strategy.pipeline else None
    ranked = None
    if search is not None and search.stage_name == "best_of" and len(strategy.pipeline) == 1:
        usual = registry().stage("best_of", n=search.n, block=search.block)  # type: ignore[attr-defined]
        if search == usual and search.block.stop is None:  # type: ignore[attr-defined]
            ranked, strategy = search.n, Strategy(search.block.pipeline, strategy.stop)  # type: ignore[attr-defined]
    writing = _Writing(Outline("openai", strategy))
    writing.ranked = ranked
    return writing.document(), writing.outline.finish()


class _Writing(Writing):
    """Goes through one strategy."""

    ranked: int | None = None

    def document(self) -> dict[str, Any]:
        outline, fields = self.outline, self.fields
        sampler = self.sampler("greedy", "sample")
        writers = {
            "bias": self.bias,
            "frequency": lambda stage: self.penalty("frequency_penalty", stage),
            "presence": lambda stage: self.penalty("presence_penalty", stage),
            "temperature": lambda stage: self.ranged("temperature", stage.value, 0, 2),
            "top_p": self.simple("top_p", "p"),
        }
        if sampler is not None and sampler.stage_name == "greedy":
            fields["temperature"] = 0.0
            why = "has one temperature, which is 0 for greedy: leave it out, greedy is the same without"
            writers |= dict.fromkeys(("temperature", "top_p"), lambda stage: why)
        outline.write(writers, ORDER)
        if getattr(sampler, "seed", None) is not None:
            fields["seed"] = sampler.seed
        if self.ranked is not None:
            fields["best_of"] = self.ranked
        self.ends()
        return fields

    def bias(self, stage: Any) -> str | None:
        keys = [key for key, _ in stage.amounts]
        if not all(isinstance(key, int) for key in keys) or len(set(keys)) < len(keys):
            return "takes one amount for a token, by its id"
        if not all(-100 <= amount <= 100 for _, amount in stage.amounts):
            return "takes amounts from -100 to 100"
        return self.put("logit_bias", {str(key): amount for key, amount in stage.amounts})

    def penalty(self, field: str, stage: Any) -> str | None:
        if stage.over not in (None, "output") or stage.window is not None or stage.dialect != "logitmill":
            return "looks at the output, all of it"
        return self.ranged(field, stage.value, -2, 2)

    def ends(self) -> None:
        outline, fields = self.outline, self.fields
        eos = outline.take("eos")
        if outline.stop is not None and not eos:
            outline.lose_end(outline.stop, "always ends an answer at the model's end of sequence too")
        if any(criterion.ids for criterion in eos):
            outline.lose_end(outline.stop, "knows the model's own end of sequence alone")
        texts, include = outline.texts()
        if texts:
            fields["stop"] = texts
        if len(texts) > MOST_STOPS:
            outline.lose_end(outline.stop, f"takes at most {MOST_STOPS} stop strings")
            fields["stop"] = texts[:MOST_STOPS]
        if True in include:
            outline.lose_end(outline.stop, "never leaves a stop string in the text")
        bound = outline.bound("max_tokens")
        if bound is not None:
            fields["max_tokens" if self.ranked else "max_completion_tokens"] = bound
        elif self.ranked:
            outline.lose_end(outline.stop, f"ends a completion after {DEFAULT_BOUND} tokens where there is no bound")


def shown(document: Mapping[str, Any]) -> str:
    """As JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


__all__ = ["FIELDS", "exported", "imported", "read", "shown"]
