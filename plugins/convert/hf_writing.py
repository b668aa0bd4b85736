"""A strategy as a GenerationConfig."""

from __future__ import annotations

from typing import Any

from ...core.expression import Expression, Logic
from ...core.stage import Stage
from ...core.strategy import Strategy
from .assembly import reads
from .conversion import LeftOut
from .outline import Outline, Writer, Writing

DEFAULT_BOUND = 20  # tokens, where a config has neither max_new_tokens nor max_length

#: the order of _get_logits_processor
ORDER = (
    "force", "bias", "encoder repetition", "repetition", "no_repeat_ngram", "encoder no_repeat_ngram", "bad_words",
    "min_tokens", "length_decay", "ban", "first ban", "temperature", "top_h", "top_k", "top_p", "min_p", "typical",
    "epsilon", "eta", "watermark", "synthid",
)  # fmt: skip
_WARPERS = ORDER[ORDER.index("temperature") : ORDER.index("watermark")]


def written(strategy: Strategy) -> tuple[dict[str, Any], list[LeftOut]]:
    """The fields, and what they do not say."""
    writing = _Writing(Outline("hf", strategy))
    return writing.document(), writing.outline.finish()


class _Writing(Writing):
    """Goes through one strategy."""

    eos: tuple[int, ...] = ()

    def document(self) -> dict[str, Any]:
        outline = self.outline
        sampler = self.sampler("greedy", "sample")
        sampling = sampler is None or sampler.stage_name != "greedy"
        self.fields["do_sample"] = sampling
        self._ends()
        writers = self._writers()
        if not sampling:
            writers |= dict.fromkeys(
                _WARPERS, lambda stage: "runs it only where it samples: leave it out, greedy is the same without"
            )
        outline.write(writers, ORDER, _name)
        if getattr(sampler, "seed", None) is not None:
            outline.lose(sampler, "has no seed in a config: call transformers.set_seed")
        # What a config leaves open is filled from the model's own, or with a top_k of 50.
        neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampling else {}
        return {**neutral, "repetition_penalty": 1.0, **self.fields}

    # -- the pipeline --------------------------------------------------------------------------------------------------

    def _writers(self) -> dict[str, Writer]:
        return {
            "force": self._force,
            "bias": self._bias,
            "encoder repetition": self._over_prompt,
            "repetition": self._repetition,
            "no_repeat_ngram": self._ngram,
            "encoder no_repeat_ngram": self.simple("encoder_no_repeat_ngram_size", "n"),
            "bad_words": self._bad_words,
            "min_tokens": self._min_tokens,
            "length_decay": self._length_decay,
            "ban": self._ban,
            "first ban": self._first_ban,
            "temperature": self._temperature,
            "top_h": self.simple("top_h", "alpha", "hf", how="does not normalise the prefix, nor keeps over 100"),
            "top_k": self.simple("top_k", "k", "hf", how="keeps all that ties with the k-th"),
            "top_p": self.simple("top_p", "p"),
            "min_p": self.simple("min_p", "p"),
            "typical": self.simple("typical_p", "mass", "hf", how="keeps all that ties with the last"),
            "epsilon": self.simple("epsilon_cutoff", "e", "hf", how="keeps all that tie where all are below"),
            "eta": self.simple("eta_cutoff", "e", "hf", how="keeps all that tie where all are below"),
            "watermark": self._watermark,
            "synthid": self._synthid,
        }

    def _force(self, stage: Any) -> str | None:
        if len(stage.tokens) != 1 or not isinstance(stage.tokens[0], int):
            return "forces one token, by id"
        token, at, over = stage.tokens[0], stage.at, stage.over
        if (at, over) == (1, "all") and "forced_bos_token_id" not in self.fields:
            return self.put("forced_bos_token_id", token)
        bound = self.fields.get("max_new_tokens") if over == "output" else self.fields.get("max_length")
        if bound is None or at != bound - 1:
            return "forces a token at index 1 of the sequence, or at the last place that the bound on length leaves"
        return self.put("forced_eos_token_id", token)

    def _bias(self, stage: Any) -> str | None:
        keys = [(key,) if isinstance(key, int) else key for key, _ in stage.amounts]
        if not all(isinstance(key, tuple) for key in keys):
            return "knows tokens by their ids alone"
        if len(set(keys)) < len(keys):
            return "takes one amount for a token"
        pairs = [[list(key), amount] for key, (_, amount) in zip(keys, stage.amounts, strict=True)]
        return self.put("sequence_bias", pairs)

    def _repetition(self, stage: Any) -> str | None:
        if stage.over != "all" or stage.window is not None or stage.dialect != "logitmill":
            return "looks at prompt and output, all of them"
        return self.put("repetition_penalty", stage.penalty)

    def _over_prompt(self, stage: Any) -> str | None:
        if stage.window is not None or stage.dialect != "logitmill":
            return "looks at all of the prompt"
        return self.put("encoder_repetition_penalty", 1 / stage.penalty)

    def _ngram(self, stage: Any) -> str | None:
        if stage.over != "all":
            return "forbids the n-grams of prompt and output, or those of the prompt"
        return self.put("no_repeat_ngram_size", stage.n)

    def _bad_words(self, stage: Any) -> str | None:
        if not all(isinstance(word, int | tuple) for word in stage.words):
            return "knows tokens by their ids alone"
        words = [[word] if isinstance(word, int) else list(word) for word in stage.words]
        self.fields.setdefault("bad_words_ids", []).extend(words)
        return None

    def _ban(self, stage: Any) -> str | None:
        if not all(isinstance(key, int | tuple) for key in stage.tokens):
            return "knows tokens by their ids alone"
        sequences = [list(key) for key in stage.tokens if isinstance(key, tuple)]
        singles = [key for key in stage.tokens if isinstance(key, int)]
        if sequences:
            self.fields.setdefault("bad_words_ids", []).extend(sequences)
        if singles:
            self.fields.setdefault("suppress_tokens", []).extend(singles)
        return None

    def _first_ban(self, stage: Any) -> str | None:
        (inner,) = (step.stage for step in stage.then.pipeline)
        if not all(isinstance(key, int) for key in inner.tokens):
            return "knows tokens by their ids alone"
        if stage.test != begins("forced_bos_token_id" in self.fields):
            return "has no conditions"
        return self.put("begin_suppress_tokens", list(inner.tokens))

    def _min_tokens(self, stage: Any) -> str | None:
        if stage.ids != self.eos:
            return "holds back the same tokens that end a row (eos), no others"
        return self.put("min_length" if stage.over == "all" else "min_new_tokens", stage.n)

    def _length_decay(self, stage: Any) -> str | None:
        if stage.ids != self.eos:
            return "raises the same tokens that end a row (eos), no others"
        return self.put("exponential_decay_length_penalty", [stage.start, stage.factor])

    def _temperature(self, stage: Any) -> str | None:
        if stage.value == 0:
            return "takes a temperature above 0: end in greedy"
        return self.put("temperature", stage.value)

    def _watermark(self, stage: Any) -> str | None:
        if stage.dialect != "hf":
            return 'it draws green lists of its own: write dialect="hf"'
        config = {
            "greenlist_ratio": stage.ratio, "bias": stage.bias, "hashing_key": stage.key,
            "seeding_scheme": stage.scheme, "context_width": stage.context,
        }  # fmt: skip
        return self.put("watermarking_config", config)

    def _synthid(self, stage: Any) -> str | None:
        config = {
            "keys": list(stage.keys), "ngram_len": stage.ngram, "context_history_size": stage.history,
            "sampling_table_seed": stage.table_seed, "sampling_table_size": stage.table_size,
            "skip_first_ngram_calls": stage.skip_first,
        }  # fmt: skip
        return self.put("watermarking_config", config)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _ends(self) -> None:
        outline, fields = self.outline, self.fields
        eos = outline.take("eos")
        if outline.stop is not None and not eos:
            outline.lose_end(outline.stop, "always ends a row at the model's end-of-sequence tokens too")
        self.eos = tuple(i for criterion in eos for i in criterion.ids)
        if self.eos:
            fields["eos_token_id"] = list(self.eos) if len(self.eos) > 1 else self.eos[0]
        new, length = outline.bound("max_tokens"), outline.bound("max_length")
        if new is not None:
            fields["max_new_tokens"] = new
        if length is not None and new is None:
            fields["max_length"] = length
        elif length is not None:
            outline.lose_end(outline.stop, f"heeds max_new_tokens alone, not max_length={length} beside it")
        elif new is None:
            outline.lose_end(
                outline.stop, f"ends after {DEFAULT_BOUND} tokens where there is no bound on length: add max_tokens(n)"
            )
        texts, include = outline.texts()
        if texts:
            fields["stop_strings"] = texts
        if False in include:
            outline.lose_end(outline.stop, "leaves a stop string in the text: write include=true")
        seconds = outline.bound("timeout", "seconds")
        if seconds is not None:
            fields["max_time"] = seconds


def begins(forced: bool) -> Expression:
    """Where begin_suppress_tokens works: one token later where a first token is forced behind a prompt of one."""
    if not forced:
        return reads("step", "==", 0)
    usual = Logic("and", (reads("step", "==", 0), reads("position", ">", 1)))
    return Logic("or", (usual, Logic("and", (reads("step", "==", 1), reads("position", "==", 2)))))


def _name(stage: Stage) -> str:
    """A stage's place in ORDER: some stand there more than once."""
    if stage.stage_name in ("repetition", "no_repeat_ngram") and getattr(stage, "over", "") == "prompt":
        return f"encoder {stage.stage_name}"
    if stage.stage_name == "when":
        inner = getattr(stage, "then").pipeline  # noqa: B009  # the type checker knows no combinator's fields
        only = len(inner) == 1 and inner[0].stage.stage_name == "ban" and getattr(stage, "orelse", None) is None
        return "first ban" if only else "when"
    return stage.stage_name


__all__ = ["DEFAULT_BOUND", "ORDER", "begins", "written"]
