"""transformers: a GenerationConfig, in the order of ``generate`` (``_get_logits_processor``, transformers 5.23).

What a config leaves open has generate's own defaults: greedy, and where it samples a top-k of 50; 20 new tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...core.errors import StrategyError
from ...core.strategy import Strategy
from .assembly import Assembly
from .conversion import LeftOut
from .hf_writing import DEFAULT_BOUND, begins, written
from .reading import Field, Reading, carried, inert, is_id, is_sequence, read_object, refused

_SPEED = inert("drafts change the speed, not the distribution")
_CACHE = inert("how keys and values are kept")
_OUTPUT = inert("what is returned besides the tokens")
_BEAMS = inert("only beam search reads it")

FIELDS: dict[str, Field] = {
    "do_sample": carried("`sample`, else `greedy`", False),
    "sequence_bias": carried("`bias`; amounts of -inf: `ban`, `bad_words`"),
    "encoder_repetition_penalty": carried("`repetition(1 / value, over=prompt)`", 1.0),
    "repetition_penalty": carried("`repetition`", 1.0),
    "no_repeat_ngram_size": carried("`no_repeat_ngram`", 0),
    "encoder_no_repeat_ngram_size": carried("`no_repeat_ngram(over=prompt)`", 0),
    "bad_words_ids": carried("`bad_words`"),
    "min_length": carried("`min_tokens(over=all)`", 0),
    "min_new_tokens": carried("`min_tokens`"),
    "forced_bos_token_id": carried("`force(at=1, over=all)`"),
    "forced_eos_token_id": carried("`force` at the last place that the bound leaves"),
    "exponential_decay_length_penalty": carried("`length_decay`"),
    "suppress_tokens": carried("`ban`"),
    "begin_suppress_tokens": carried("`when step == 0 { ban }`"),
    "temperature": carried("`temperature`", 1.0),
    "top_h": carried("`top_h`"),
    "top_k": carried("`top_k`", 50),
    "top_p": carried("`top_p`", 1.0),
    "min_p": carried("`min_p`"),
    "typical_p": carried("`typical`", 1.0),
    "epsilon_cutoff": carried("`epsilon`", 0.0),
    "eta_cutoff": carried("`eta`", 0.0),
    "watermarking_config": carried("`watermark`, `synthid`"),
    "max_new_tokens": carried("`max_tokens`"),
    "max_length": carried("`max_length`; where there is no bound at all: `max_tokens(20)`"),
    "eos_token_id": carried("`eos`"),
    "stop_strings": carried("`stop(include=true)`"),
    "max_time": carried("`timeout`"),
    "num_beams": refused("there is no beam search here", 1),
    "num_beam_groups": refused("there is no beam search here", 1),
    "diversity_penalty": refused("there is no beam search here", 0),
    "constraints": refused("there is no constrained beam search here"),
    "force_words_ids": refused("there is no constrained beam search here"),
    "num_return_sequences": refused("how many sequences is the request's to say: ask for n=", 1),
    "guidance_scale": refused("there is no classifier-free guidance here", 1),
    "penalty_alpha": refused("there is no contrastive search here", 0),
    "dola_layers": refused("layers are not contrasted here"),
    "token_healing": refused("the prompt's last token is not healed here"),
    "remove_invalid_values": refused("NaN and infinite logits end a row with an error here, they are not replaced"),
    "is_assistant": refused("an assistant's own stop, by its confidence, is not carried over"),
    "assistant_ensemble_weight": refused("a draft model's share in the distribution is not carried over"),
    "renormalize_logits": inert("a softmax does not see it"),
    "length_penalty": _BEAMS,
    "early_stopping": _BEAMS,
    "low_memory": inert("how much memory a search takes"),
    "use_cache": _CACHE,
    "cache_implementation": _CACHE,
    "cache_config": _CACHE,
    "max_cache_len": _CACHE,
    "prefill_chunk_size": _CACHE,
    "compile_config": inert("how the model is compiled"),
    "disable_compile": inert("how the model is compiled"),
    "continuous_batching_config": inert("how requests are batched"),
    "output_attentions": _OUTPUT,
    "output_hidden_states": _OUTPUT,
    "output_scores": _OUTPUT,
    "output_logits": _OUTPUT,
    "return_dict_in_generate": _OUTPUT,
    "pad_token_id": inert("no padding here"),
    "bos_token_id": inert("what a prompt begins with is the tokenizer's to say"),
    "decoder_start_token_id": inert("for encoder-decoder models"),
    "num_assistant_tokens": _SPEED,
    "num_assistant_tokens_schedule": _SPEED,
    "assistant_confidence_threshold": _SPEED,
    "prompt_lookup_num_tokens": _SPEED,
    "max_matching_ngram_size": _SPEED,
    "assistant_early_exit": _SPEED,
    "assistant_lookbehind": _SPEED,
    "target_lookbehind": _SPEED,
    "speculation_type": _SPEED,
    "use_mtp": _SPEED,
    "transformers_version": inert("who wrote the file"),
    "_from_model_config": inert("who wrote the file"),
    "_commit_hash": inert("who wrote the file"),
}

_WARPERS = (
    "temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip


def read(source: Any, file: str | None = None) -> Reading:
    """A config from an object with ``to_dict``, a dict or JSON."""
    if isinstance(source, str):
        source = read_object(source, "hf", file)
    elif hasattr(source, "to_dict"):
        source = source.to_dict()
    if not isinstance(source, Mapping):
        raise StrategyError(f"hf: a GenerationConfig, a dict or JSON is wanted, got {type(source).__name__}")
    return Reading("hf", FIELDS, source, file)


def imported(reading: Reading) -> tuple[Strategy, list[LeftOut], list[LeftOut]]:
    """In transformers' order."""
    maker = _Maker(reading)
    maker.processors()
    if reading.truth("do_sample"):
        maker.warpers()
    else:
        reading.ignore("do_sample is off", *_WARPERS)
    maker.watermark()
    maker.add("do_sample", "sample" if reading.truth("do_sample") else "greedy")
    maker.ends()
    return maker.strategy(), reading.left_out, reading.unused


class _Maker(Assembly):
    """Goes through one config."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading, "hf")
        self.eos = reading.ids("eos_token_id")

    # -- the pipeline --------------------------------------------------------------------------------------------------

    def processors(self) -> None:
        """What transformers runs for greedy decoding too."""
        reading = self.reading
        self._forced()  # there it brings back what was removed before it: here it comes first, and is all that is left
        finite, never = self._sequence_bias()
        if finite:
            self.add("sequence_bias", "bias", finite)
        if reading.number("encoder_repetition_penalty") != 1.0:
            inverse = 1 / self._positive("encoder_repetition_penalty")
            self.add("encoder_repetition_penalty", "repetition", inverse, over="prompt")
        if reading.number("repetition_penalty") != 1.0:
            self.add("repetition_penalty", "repetition", self._positive("repetition_penalty"))
        if reading.whole("no_repeat_ngram_size") > 0:
            self.add("no_repeat_ngram_size", "no_repeat_ngram", reading.whole("no_repeat_ngram_size"))
        if reading.whole("encoder_no_repeat_ngram_size") > 0:
            size = reading.whole("encoder_no_repeat_ngram_size")
            self.add("encoder_no_repeat_ngram_size", "no_repeat_ngram", size, over="prompt")
        words = [word for word in reading.sequences("bad_words_ids") if len(word) > 1 or word[0] not in self.eos]
        words += [key for key in never if len(key) > 1]
        if words:
            self.add("bad_words_ids", "bad_words", [word if len(word) > 1 else word[0] for word in words])
        self._least()
        if reading.has("exponential_decay_length_penalty"):
            start, factor = self._pair("exponential_decay_length_penalty")
            self.add("exponential_decay_length_penalty", "length_decay", start, factor, ids=self.eos)
        suppressed = [*reading.ids("suppress_tokens"), *(key[0] for key in never if len(key) == 1)]
        if suppressed:
            self.add("suppress_tokens", "ban", suppressed)
        first = reading.ids("begin_suppress_tokens")
        if first:
            self.add("begin_suppress_tokens", "ban", list(first), when=begins(reading.has("forced_bos_token_id")))

    def _positive(self, name: str) -> float:
        value = self.reading.number(name)
        if value <= 0:
            raise self.reading.wrong(name, "above 0")
        return value

    def _sequence_bias(self) -> tuple[tuple[tuple[Any, float], ...], list[tuple[int, ...]]]:
        """(finite amounts by token or sequence, sequences of an amount of -inf)."""
        given = self.reading.get("sequence_bias") or {}
        pairs = list(given.items()) if isinstance(given, Mapping) else given
        wanted = "sequences of token ids with their amounts"
        try:
            found = [(tuple(key), float(amount)) for key, amount in pairs]
        except (TypeError, ValueError):
            raise self.reading.wrong("sequence_bias", wanted) from None
        if not all(is_sequence(key) for key, _ in found):
            raise self.reading.wrong("sequence_bias", wanted)
        never = [key for key, amount in found if amount == float("-inf")]
        finite = tuple((key if len(key) > 1 else key[0], amount) for key, amount in found if key not in never)
        return finite, never

    def _pair(self, name: str) -> tuple[int, float]:
        given = self.reading.get(name)
        start, factor = given if isinstance(given, list | tuple) and len(given) == 2 else (None, None)
        if not is_id(start) or isinstance(factor, bool) or not isinstance(factor, int | float):
            raise self.reading.wrong(name, "a start, which is a whole number, and a factor")
        return start, float(factor)

    def _least(self) -> None:
        reading = self.reading
        if reading.has("min_new_tokens") and reading.whole("min_new_tokens") > 0:
            self.add("min_new_tokens", "min_tokens", reading.whole("min_new_tokens"), ids=self.eos)
            reading.ignore("min_new_tokens goes before it", "min_length")
        elif reading.whole("min_length") > 0:
            self.add("min_length", "min_tokens", reading.whole("min_length"), over="all", ids=self.eos)

    def _forced(self) -> None:
        reading = self.reading
        first, last = reading.ids("forced_bos_token_id"), reading.ids("forced_eos_token_id")
        for name, ids in (("forced_eos_token_id", last), ("forced_bos_token_id", first)):
            if len(ids) > 1:
                reading.lose(name, "one of several tokens at equal odds cannot be forced here")
        if len(last) == 1:
            criterion, bound = self._bound()
            over = "all" if criterion == "max_length" else "output"
            self.add("forced_eos_token_id", "force", *last, at=bound - 1, over=over)
        if len(first) == 1:
            self.add("forced_bos_token_id", "force", *first, at=1, over="all")

    def _bound(self) -> tuple[str, int]:
        """The criterion of the bound on length, and the bound."""
        if self.reading.has("max_new_tokens"):
            return "max_tokens", self.reading.whole("max_new_tokens")
        if self.reading.has("max_length"):
            return "max_length", self.reading.whole("max_length")
        return "max_tokens", DEFAULT_BOUND

    def warpers(self) -> None:
        """What transformers adds when it samples."""
        reading = self.reading
        if reading.number("temperature") <= 0:
            raise reading.wrong("temperature", "above 0 (for greedy decoding, do_sample=false)")
        if reading.number("temperature") != 1.0:
            self.add("temperature", "temperature", reading.number("temperature"))
        if reading.has("top_h"):
            self.add("top_h", "top_h", reading.number("top_h"))
        if reading.whole("top_k") != 0:
            self.add("top_k", "top_k", reading.whole("top_k"))
        if reading.number("top_p") < 1.0:
            self.add("top_p", "top_p", reading.number("top_p"))
        if reading.has("min_p") and reading.number("min_p") != 0:
            self.add("min_p", "min_p", reading.number("min_p"))
        if reading.number("typical_p") < 1.0:
            self.add("typical_p", "typical", reading.number("typical_p"))
        for name, stage in (("epsilon_cutoff", "epsilon"), ("eta_cutoff", "eta")):
            if 0.0 < reading.number(name) < 1.0:
                self.add(name, stage, reading.number(name))

    def watermark(self) -> None:
        """What runs last."""
        if not self.reading.has("watermarking_config"):
            return
        given = self.reading.mapping("watermarking_config")
        name, fields = "watermark", {
            "greenlist_ratio": "ratio", "bias": "bias", "hashing_key": "key", "seeding_scheme": "scheme",
            "context_width": "context",
        }  # fmt: skip
        if "keys" in given:
            name, fields = "synthid", {
                "keys": "keys", "ngram_len": "ngram", "context_history_size": "history",
                "sampling_table_seed": "table_seed", "sampling_table_size": "table_size",
                "skip_first_ngram_calls": "skip_first",
            }  # fmt: skip
            if given.pop("debug_mode", False):
                self.reading.lose("watermarking_config", "debug_mode leaves the logits as they are")
                return
        odd = sorted(given.keys() - fields)
        if odd:
            raise self.reading.wrong("watermarking_config", f"without {odd[0]!r}, which is unknown")
        self.add("watermarking_config", name, **{fields[key]: value for key, value in given.items()})

    # -- the end -------------------------------------------------------------------------------------------------------

    def ends(self) -> None:
        """What ends a row."""
        reading = self.reading
        self.end("eos_token_id", "eos", *self.eos)
        if reading.has("max_new_tokens"):
            reading.ignore("max_new_tokens goes before it", "max_length")
        criterion, bound = self._bound()
        self.end({"max_tokens": "max_new_tokens"}.get(criterion, criterion), criterion, bound)
        if reading.texts("stop_strings"):
            self.end("stop_strings", "stop", *reading.texts("stop_strings"), include=True)
        if reading.has("max_time"):
            self.end("max_time", "timeout", reading.number("max_time"))


def exported(strategy: Strategy) -> tuple[dict[str, Any], list[LeftOut]]:
    """The fields of a GenerationConfig."""
    return written(strategy)


def shown(document: Mapping[str, Any]) -> str:
    """As generation_config.json."""
    return json.dumps(document, indent=2, ensure_ascii=False)


__all__ = ["FIELDS", "exported", "imported", "read", "shown"]
