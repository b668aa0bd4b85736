"""A model's GenerationConfig as a strategy: what transformers' ``generate`` would do with it, in transformers' order.

Written against ``_get_logits_processor`` and ``_get_stopping_criteria`` of transformers 5.23. Stages come from the
registry, in the hf dialect where it differs. What cannot be carried over is said in a note, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import StrategyError
from ..expression import Comparison, Constant, Expression, Read
from ..registry import Registry
from ..stage import Signal, Stage
from ..strategy import Step, Strategy, Test, any_of

if TYPE_CHECKING:
    from transformers import GenerationConfig

#: field -> (when its value matters, what is not done)
_NOT_CARRIED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "num_beams": (lambda v: v > 1, "beam search is not carried over: one row is decoded"),
    "num_beam_groups": (lambda v: v > 1, "groups of beams are not carried over"),
    "diversity_penalty": (lambda v: v != 0, "the penalty between groups of beams is not carried over"),
    "constraints": (bool, "constrained beam search is not carried over"),
    "force_words_ids": (bool, "constrained beam search is not carried over"),
    "num_return_sequences": (lambda v: v > 1, "one sequence is returned: ask for more with n="),
    "guidance_scale": (lambda v: v != 1, "classifier-free guidance is not carried over"),
    "encoder_repetition_penalty": (lambda v: v != 1.0, "the reward for the prompt's tokens is not carried over"),
    "encoder_no_repeat_ngram_size": (lambda v: v > 0, "the ban on the prompt's n-grams is not carried over"),
    "remove_invalid_values": (bool, "NaN and infinite logits end a row with an error here, they are not replaced"),
    "exponential_decay_length_penalty": (bool, "the growing bias towards the end of the sequence is not carried over"),
    "top_h": (lambda v: v is not None, "top-h is not carried over"),
    "epsilon_cutoff": (lambda v: 0 < v < 1, "the epsilon cutoff is not carried over"),
    "eta_cutoff": (lambda v: 0 < v < 1, "the eta cutoff is not carried over"),
    "watermarking_config": (lambda v: v is not None, "the watermark is not carried over"),
    "penalty_alpha": (lambda v: v != 0, "contrastive search is not carried over"),
    "dola_layers": (lambda v: v is not None, "contrasting layers is not carried over"),
    "token_healing": (bool, "the prompt's last token is not healed"),
    "prompt_lookup_num_tokens": (lambda v: v > 0, "the prompt is not looked up for drafts, so it is slower"),
    "assistant_early_exit": (lambda v: v > 0, "no early exit drafts tokens, so it is slower"),
    "assistant_ensemble_weight": (lambda v: v != 0, "the draft model's share in the distribution is not carried over"),
    "is_assistant": (bool, "the confidence at which an assistant stops is not carried over"),
    "use_mtp": (bool, "multi-token prediction is not carried over"),
    "speculation_type": (lambda v: v is not None, "nothing is drafted, so it is slower"),
}


def strategy_of(config: GenerationConfig, registry: Registry) -> tuple[Strategy, list[str]]:
    """The strategy of a GenerationConfig, and notes on what it does not carry.

    Fields the config leaves open have generate's own defaults: greedy, and when it samples, a top-k of 50. The default
    max_length of 20 is not carried: without a bound of its own a row goes on to the end of the cache.
    """
    converter = _Converter(config, registry)
    converter.processors()
    if converter.get("do_sample"):
        converter.sampling()
    else:
        converter.add("greedy")
    converter.left_behind()
    return Strategy(tuple(converter.steps), converter.stop()), converter.notes


class _Converter:
    """Goes through one config in transformers' order."""

    def __init__(self, config: GenerationConfig, registry: Registry) -> None:
        self.config, self.registry = config, registry
        self.defaults: dict[str, Any] = {**config._get_default_generation_params(), "max_length": None}
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def get(self, field: str) -> Any:
        """A field's value, or what generate puts for one left open."""
        value = getattr(self.config, field, None)
        return self.defaults.get(field) if value is None else value

    def note(self, field: str, why: str) -> None:
        self.notes.append(f"generation config: {field}={self.get(field)!r}: {why}")

    def make(self, field: str, name: str, *args: Any, **fields: Any) -> Stage | None:
        """A stage, or None and a note where it refuses the value."""
        try:
            return self.registry.stage(name, *args, **fields)
        except StrategyError as error:
            self.note(field, f"left out: {error.message}")
            return None

    def add(self, name: str, *args: Any, field: str = "", when: Expression | None = None, **fields: Any) -> None:
        """A stage at the end of the pipeline, for the rows in which ``when`` holds."""
        stage = self.make(field or name, name, *args, **fields)
        if stage is not None and when is not None:
            stage = self.registry.stage("when", when, Strategy((Step(stage),)))
        if stage is not None:
            self.steps.append(Step(stage))

    def reads(self, signal: str, op: str, value: int) -> Comparison:
        read = self.registry.stage(signal)
        assert isinstance(read, Signal)  # the names asked for are signals
        return Comparison(op, Read(read), Constant(value))

    @property
    def eos(self) -> list[int]:
        """The config's own end-of-sequence ids."""
        return _ids(self.config.eos_token_id)

    # -- the pipeline --------------------------------------------------------------------------------------------------

    def processors(self) -> None:
        """What transformers runs for greedy decoding too."""
        get = self.get
        self.sequence_bias()
        if get("repetition_penalty") != 1.0:
            self.add("repetition", float(get("repetition_penalty")), field="repetition_penalty")
        if get("no_repeat_ngram_size") > 0:
            self.add("no_repeat_ngram", get("no_repeat_ngram_size"), field="no_repeat_ngram_size")
        words = [tuple(word) for word in get("bad_words_ids") or [] if list(word) not in [[i] for i in self.eos]]
        if words:
            self.add("ban", words, field="bad_words_ids")
        if self.eos and get("min_new_tokens"):
            self.add("min_tokens", get("min_new_tokens"), field="min_new_tokens")
        elif self.eos and get("min_length"):
            self.add("ban", self.eos, field="min_length", when=self.reads("position", "<", get("min_length")))
        if get("forced_bos_token_id") is not None:
            second = self.reads("position", "==", 1)
            self.add("allow", get("forced_bos_token_id"), field="forced_bos_token_id", when=second)
        self.forced_eos()
        if get("suppress_tokens"):
            self.add("ban", list(get("suppress_tokens")), field="suppress_tokens")
        if get("begin_suppress_tokens"):
            first = list(get("begin_suppress_tokens"))
            self.add("ban", first, field="begin_suppress_tokens", when=self.reads("step", "==", 0))

    def sequence_bias(self) -> None:
        given = self.get("sequence_bias") or {}
        pairs = [(tuple(key), value) for key, value in (given.items() if isinstance(given, dict) else given)]
        finite = [(key, float(value)) for key, value in pairs if value != float("-inf")]
        never = [key for key, value in pairs if value == float("-inf")]
        if finite:
            self.add("bias", tuple(finite), field="sequence_bias")
        if never:
            self.add("ban", never, field="sequence_bias")

    def forced_eos(self) -> None:
        ids = _ids(self.get("forced_eos_token_id"))
        if not ids:
            return
        if len(ids) > 1:
            self.note("forced_eos_token_id", "one of several at equal odds is not carried over")
        elif self.get("max_new_tokens"):
            last = self.reads("step", "==", self.get("max_new_tokens") - 1)
            self.add("allow", ids, field="forced_eos_token_id", when=last)
        elif self.get("max_length"):
            last = self.reads("position", "==", self.get("max_length") - 1)
            self.add("allow", ids, field="forced_eos_token_id", when=last)
        else:
            self.note("forced_eos_token_id", "the config gives no length at which to force it")

    def sampling(self) -> None:
        """What transformers adds when it samples. Each may be left open, off or on."""
        get = self.get
        if get("temperature") == 0:
            self.note("temperature", "transformers refuses it; greedy is used")
            self.add("greedy")
            return
        if get("temperature") != 1.0:
            self.add("temperature", float(get("temperature")), dialect="hf")
        if get("top_k") != 0:
            self.add("top_k", get("top_k"), dialect="hf")
        if get("top_p") < 1.0:
            self.add("top_p", float(get("top_p")), dialect="hf")
        if get("min_p") is not None:
            self.add("min_p", float(get("min_p")), dialect="hf")
        if get("typical_p") < 1.0:
            self.add("typical", float(get("typical_p")), field="typical_p", dialect="hf")
        self.add("sample")

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop(self) -> Test | None:
        """What ends a row."""
        tests: list[Stage | None] = []
        if self.eos:
            tests.append(self.make("eos_token_id", "eos"))
        if self.get("max_new_tokens") is not None:
            tests.append(self.make("max_new_tokens", "max_tokens", self.get("max_new_tokens")))
        elif self.get("max_length") is not None:
            tests.append(self.make("max_length", "max_length", self.get("max_length")))
        strings = self.get("stop_strings")
        if strings:
            strings = [strings] if isinstance(strings, str) else list(strings)
            tests.append(self.make("stop_strings", "stop", strings, include=True))
        if self.get("max_time") is not None:
            tests.append(self.make("max_time", "timeout", float(self.get("max_time"))))
        held = [test for test in tests if test is not None]
        return any_of(*held) if held else None

    def left_behind(self) -> None:
        for field, (matters, why) in _NOT_CARRIED.items():
            value = self.get(field)
            if value is not None and matters(value):
                self.note(field, why)
        if not self.eos:
            self.notes.append("generation config: it names no end-of-sequence token")
        if self.get("max_new_tokens") is not None and getattr(self.config, "max_length", None) is not None:
            self.note("max_length", "max_new_tokens goes before it")
        if self.get("min_new_tokens") and self.get("min_length"):
            self.note("min_length", "min_new_tokens goes before it")


def _ids(given: Any) -> list[int]:
    """A list from an id, a list of ids, a tensor of them or None."""
    given = given.tolist() if hasattr(given, "tolist") else given
    return [] if given is None else [given] if isinstance(given, int) else [int(i) for i in given]


__all__ = ["strategy_of"]
