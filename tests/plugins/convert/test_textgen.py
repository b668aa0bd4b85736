"""text-generation-webui presets: its samplers restated, sorted as it sorts them, and back again."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from transformers.generation import logits_process as hf

import logitmill as lm
from logitmill.plugins.convert import textgen
from logitmill.plugins.convert.conversion import ConversionError

VOCAB, INF = 41, float("inf")
PROMPT, OUTPUT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [8, 9, 7, 9, 3, 1, 4, 1, 5]
NAMES = textgen.DEFAULT_PRIORITY


def recent(p: dict[str, Any], tokens: list[int]) -> Tensor:
    """How often each token is among the last ``repetition_penalty_range``; a range of 0 is all of them."""
    return torch.bincount(torch.tensor(tokens[-p.get("repetition_penalty_range", 1024) :]), minlength=VOCAB)


def made(p: dict[str, Any], tokens: list[int]) -> dict[str, Any]:
    """The samplers that a preset switches on, in the order in which they are made: name -> logits [V] to logits [V]."""
    ids = torch.tensor([tokens])

    def of(processor: Any) -> Any:
        return lambda x: processor(ids, x[None])[0]

    def repetition(x: Tensor) -> Tensor:
        lowered = torch.where(x < 0, x * p["repetition_penalty"], x / p["repetition_penalty"])
        return torch.where(recent(p, tokens) > 0, lowered, x)

    def dynamic(x: Tensor) -> Tensor:
        probs, left = x.softmax(-1), (x > -INF).sum()
        entropy = -torch.where(probs > 0, probs * probs.log(), 0.0).sum()
        share = entropy / left.log() if left > 1 else torch.tensor(1.0)
        low, high = p.get("dynatemp_low", 1), p.get("dynatemp_high", 1)
        return x / (low + (high - low) * share ** p.get("dynatemp_exponent", 1))

    def quadratic(x: Tensor) -> Tensor:
        d, factor, curve = x - x.max(), p["smoothing_factor"], p.get("smoothing_curve", 1)
        bent = -(3 - curve) / 2 * factor * d**2 + (curve - 1) / 2 * factor * d**3 + x.max()
        return torch.where(x > -INF, bent, x)

    def tail_free(x: Tensor) -> Tensor:
        ranked, order = x.sort(descending=True)
        bends = ranked.softmax(-1).diff().diff().abs()
        gone = (bends / bends.sum()).cumsum(-1) > p["tfs"]
        gone = torch.cat([torch.tensor([False]), gone, torch.tensor([True])])
        return x.masked_fill(torch.empty(VOCAB, dtype=torch.bool).scatter(0, order, gone), -INF)

    def top_a(x: Tensor) -> Tensor:
        probs = x.softmax(-1)
        return x.masked_fill(probs < p["top_a"] * probs.max() ** 2, -INF)

    def sigma(x: Tensor) -> Tensor:
        return x.masked_fill(x < x.max() - p["top_n_sigma"] * torch.where(x > -INF, x, 0.0).std(), -INF)

    def xtc(x: Tensor) -> Tensor:
        """Always, and with nothing protected: there is no tokenizer here."""
        ranked, order = x.sort(descending=True)
        gone = torch.zeros(VOCAB, dtype=torch.bool)
        gone[:-1] = ranked.softmax(-1)[1:] >= p.get("xtc_threshold", 0.1)
        return x.masked_fill(torch.empty_like(gone).scatter(0, order, gone), -INF)

    def mirostat(x: Tensor) -> Tensor:
        """Its first draw: mu is 2 tau."""
        ranked = x.sort(descending=True).values
        over = (-ranked.softmax(-1).log2() > 2 * p.get("mirostat_tau", 5)).nonzero()
        keep = max(int(over[0]), 1) if len(over) else VOCAB
        return x.masked_fill(x < ranked[keep - 1], -INF)

    def adaptive(x: Tensor) -> Tensor:
        d = (x.softmax(-1) - p["adaptive_target"]).abs() / 0.3
        return torch.where(x > -INF, 5 - 10 * d * d / (1 + d), x)

    value = p.get
    found: dict[str, Any] = {}
    if value("encoder_repetition_penalty", 1) != 1:
        prompt = torch.tensor([PROMPT])
        found["encoder_repetition_penalty"] = of(
            hf.EncoderRepetitionPenaltyLogitsProcessor(p["encoder_repetition_penalty"], prompt)
        )
    if value("no_repeat_ngram_size", 0):
        found["no_repeat_ngram"] = of(hf.NoRepeatNGramLogitsProcessor(p["no_repeat_ngram_size"]))
    if value("do_sample", True):
        if value("temperature", 1) != 1:
            found["temperature"] = lambda x: x / p["temperature"]
        if value("top_k", 0):
            found["top_k"] = of(hf.TopKLogitsWarper(p["top_k"]))
        if value("top_p", 1) < 1:
            found["top_p"] = of(hf.TopPLogitsWarper(p["top_p"]))
        if value("min_p", 0):
            found["min_p"] = of(hf.MinPLogitsWarper(p["min_p"]))
        if value("typical_p", 1) < 1:
            found["typical_p"] = of(hf.TypicalLogitsWarper(p["typical_p"]))
        if value("epsilon_cutoff", 0):
            found["epsilon_cutoff"] = of(hf.EpsilonLogitsWarper(p["epsilon_cutoff"] * 1e-4))
        if value("eta_cutoff", 0):
            found["eta_cutoff"] = of(hf.EtaLogitsWarper(p["eta_cutoff"] * 1e-4, device="cpu"))
    if value("repetition_penalty", 1) != 1:
        found["repetition_penalty"] = repetition
    if value("presence_penalty", 0):
        found["presence_penalty"] = lambda x: x - p["presence_penalty"] * (recent(p, tokens) > 0)
    if value("frequency_penalty", 0):
        found["frequency_penalty"] = lambda x: x - p["frequency_penalty"] * recent(p, tokens)
    for name, field, off, function in (
        ("tfs", "tfs", 1, tail_free), ("top_a", "top_a", 0, top_a), ("top_n_sigma", "top_n_sigma", 0, sigma),
        ("adaptive_p", "adaptive_target", 0, adaptive), ("xtc", "xtc_probability", 0, xtc),
        ("dynamic_temperature", "dynamic_temperature", False, dynamic),
        ("quadratic_sampling", "smoothing_factor", 0, quadratic), ("mirostat", "mirostat_mode", 0, mirostat),
    ):  # fmt: skip
        if value(field, off) != off:
            found[name] = function  # noqa: PERF403  # as those above
    return found


def theirs(p: dict[str, Any], logits: Tensor, tokens: list[int]) -> Tensor:
    """Probabilities [V] by the preset ``p``; after mirostat or adaptive_p one token is left, and the rest is idle."""
    priority = list(p.get("sampler_priority", NAMES))
    if p.get("temperature_last"):
        for name in ("temperature", "dynamic_temperature", "quadratic_sampling"):
            priority = [other for other in priority if other != name] + [name]
    samplers = made(p, tokens)
    for name in sorted(samplers, key=lambda name: priority.index(name) if name in priority else -1):
        logits = samplers[name](logits.clone())
        if (logits == -INF).all():  # an error there
            return torch.full((VOCAB,), torch.nan)
        if name in ("mirostat", "adaptive_p"):
            return logits.softmax(-1)
    if p.get("do_sample", True):
        return logits.softmax(-1)
    return torch.nn.functional.one_hot(logits.argmax(), VOCAB).float()


def presets() -> st.SearchStrategy[dict[str, Any]]:
    """Presets that the restated samplers know, most fields left out."""
    share = st.floats(0.05, 0.95)
    return st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0.3, 2), "dynamic_temperature": st.booleans(), "dynatemp_low": st.floats(0.3, 1),
            "dynatemp_high": st.floats(1, 2), "dynatemp_exponent": st.floats(0.5, 2),
            "smoothing_factor": st.sampled_from([0, 0.1, 0.4]),
            "smoothing_curve": st.floats(1, 2), "top_p": share, "top_k": st.integers(0, 50), "min_p": share,
            "typical_p": share, "epsilon_cutoff": st.floats(0.5, 300), "eta_cutoff": st.floats(0.5, 300), "tfs": share,
            "top_a": st.floats(0, 1), "top_n_sigma": st.floats(0, 3), "repetition_penalty": st.floats(0.7, 1.5),
            "presence_penalty": st.floats(-1, 1), "frequency_penalty": st.floats(-1, 1),
            "repetition_penalty_range": st.integers(0, 30), "encoder_repetition_penalty": st.floats(0.7, 1.5),
            "no_repeat_ngram_size": st.integers(0, 4), "do_sample": st.booleans(), "temperature_last": st.booleans(),
            "xtc_probability": st.sampled_from([0, 1]), "xtc_threshold": st.floats(0.05, 0.6),
            "sampler_priority": st.tuples(st.permutations(NAMES), st.integers(0, 21)).map(lambda it: it[0][: it[1]]),
        },
    )  # fmt: skip


def same(preset: dict[str, Any], output: list[int] = OUTPUT) -> None:
    if not preset.get("sampler_priority", True):
        preset = preset | {"sampler_priority": NAMES}  # an empty one counts as none
    strategy = lm.convert_from("textgen", preset).strategy
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(9)) * 3
    ours = strategy.distribution(logits, PROMPT, output)
    wanted = torch.stack([theirs(preset, row, PROMPT + output) for row in logits])
    left = ~wanted.isnan().any(-1)
    ours, wanted = ours[left], wanted[left]
    assert torch.equal(ours > 0, wanted > 0)
    torch.testing.assert_close(ours, wanted, rtol=5e-5, atol=1e-6)


CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the shipped ones": {"min_p": 0.02},
    "deterministic": {"do_sample": False, "top_k": 1, "repetition_penalty": 1.5},
    "priority": {"sampler_priority": ["top_k", "temperature"], "top_k": 5, "temperature": 0.3, "min_p": 0.2},
    "temperature last": {"temperature_last": True, "temperature": 2.0, "min_p": 0.1, "smoothing_factor": 0.2},
    "dynamic": {"dynamic_temperature": True, "dynatemp_low": 0.3, "dynatemp_high": 1.7, "dynatemp_exponent": 2},
    "penalties": {
        "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2, "repetition_penalty_range": 6,
    },
    "penalties over all": {"repetition_penalty": 1.3, "frequency_penalty": 0.2, "repetition_penalty_range": 0},
    "cutoffs": {"epsilon_cutoff": 300, "eta_cutoff": 400},
    "sigma behind a cut": {"top_k": 9, "top_n_sigma": 1.1, "sampler_priority": ["top_k", "top_n_sigma"]},
    "mirostat": {"mirostat_mode": 2, "mirostat_tau": 1.2, "top_k": 20, "xtc_probability": 1},
    "adaptive-p": {"adaptive_target": 0.3, "min_p": 0.05},
    "xtc": {"xtc_probability": 1, "xtc_threshold": 0.05},
}  # fmt: skip


@pytest.mark.parametrize("preset", [pytest.param(preset, id=name) for name, preset in CASES.items()])
def test_the_distribution_is_that_of_the_samplers(preset: dict[str, Any]) -> None:
    same(preset)


@settings(max_examples=60)
@given(presets(), st.integers(0, len(OUTPUT)))
def test_whatever_the_fields(preset: dict[str, Any], generated: int) -> None:
    """xtc may have to choose among equals where a stage made logits equal; none does."""
    same(preset, OUTPUT[:generated])


@settings(max_examples=80)
@given(
    presets(),
    st.fixed_dictionaries(
        {},
        optional={
            "dry_multiplier": st.floats(0, 2), "dry_base": st.floats(1, 2), "dry_allowed_length": st.integers(1, 4),
            "dry_sequence_breakers": st.sampled_from(['"\\n", ":"', '["x"]', "", ["a", "\n"]]),
            "mirostat_mode": st.sampled_from([0, 2]), "mirostat_tau": st.floats(1, 6), "mirostat_eta": st.floats(0, 1),
            "adaptive_target": st.floats(0, 1), "adaptive_decay": st.floats(0, 0.99),
        },
    ),
)  # fmt: skip
def test_there_and_back(preset: dict[str, Any], more: dict[str, Any]) -> None:
    strategy = lm.convert_from("textgen", preset | more, lossy=True).strategy
    document = lm.convert_to("textgen", strategy).document
    assert lm.convert_from("textgen", document).strategy == strategy
    assert lm.convert_from("textgen", textgen.shown(document)).strategy == strategy


def text_of(preset: Any) -> str:
    return lm.convert_from("textgen", preset).strategy.to_text()


def test_yaml_as_it_is_written() -> None:
    assert text_of("min_p: 0.02\nxtc_probability: 0.5\n") == (
        'min_p(0.02, dialect="hf") | xtc(0.5, dialect="textgen") | sample'
    )
    assert text_of("do_sample: false\ntop_k: 1") == "greedy"
    assert text_of("") == text_of("{}") == text_of("# nothing\n") == "sample"
    assert text_of('dry_multiplier: 0.8\ndry_sequence_breakers: \'"\\n", ":"\'') == (
        r'dry(0.8, window=1024, breakers=["\n", ":"], dialect="textgen") | sample'
    )


def test_what_is_left_idle_is_told() -> None:
    read = lm.convert_from("textgen", {"do_sample": False, "temperature": 0.7})
    assert [str(item) for item in read.unused] == ["temperature=0.7: do_sample is off"]
    read = lm.convert_from("textgen", {"mirostat_mode": 2, "xtc_probability": 0.5})
    assert [item.field for item in read.unused] == ["xtc_probability"]


CANNOT = {"guidance_scale": 1.5, "penalty_alpha": 0.6, "num_beams": 2, "min_length": 5}
#: for each field that is carried over: a value that has to make a difference, beside what it needs to matter
EACH: dict[str, tuple[Any, dict[str, Any]]] = {
    "temperature": (0.5, {}), "dynamic_temperature": (True, {"dynatemp_high": 2}),
    "dynatemp_low": (0.5, {"dynamic_temperature": True}), "dynatemp_high": (2, {"dynamic_temperature": True}),
    "dynatemp_exponent": (2, {"dynamic_temperature": True, "dynatemp_high": 2}), "smoothing_factor": (0.3, {}),
    "smoothing_curve": (2, {"smoothing_factor": 0.3}), "top_k": (5, {}), "top_p": (0.5, {}), "min_p": (0.1, {}),
    "top_n_sigma": (1, {}), "typical_p": (0.5, {}), "xtc_threshold": (0.2, {"xtc_probability": 0.5}),
    "xtc_probability": (0.5, {}), "epsilon_cutoff": (3, {}), "eta_cutoff": (3, {}), "tfs": (0.9, {}),
    "top_a": (0.2, {}),
    "adaptive_target": (0.3, {}), "adaptive_decay": (0.5, {"adaptive_target": 0.3}), "dry_multiplier": (0.8, {}),
    "dry_allowed_length": (3, {"dry_multiplier": 0.8}), "dry_base": (2, {"dry_multiplier": 0.8}),
    "dry_sequence_breakers": ('"x"', {"dry_multiplier": 0.8}), "repetition_penalty": (1.2, {}),
    "frequency_penalty": (0.2, {}), "presence_penalty": (0.2, {}),
    "repetition_penalty_range": (64, {"repetition_penalty": 1.2}), "encoder_repetition_penalty": (1.2, {}),
    "no_repeat_ngram_size": (3, {}), "mirostat_mode": (2, {}), "mirostat_tau": (3, {"mirostat_mode": 2}),
    "mirostat_eta": (0.3, {"mirostat_mode": 2}), "do_sample": (False, {}),
    "temperature_last": (True, {"temperature": 0.5, "min_p": 0.1}),
    "sampler_priority": ("min_p\ntemperature", {"temperature": 0.5, "min_p": 0.1}),
}  # fmt: skip


def test_each_field_has_a_value_here(every_field: Any) -> None:
    every_field(textgen, EACH, CANNOT)


@pytest.mark.parametrize("field", EACH)
def test_what_is_carried_makes_a_difference(field: str) -> None:
    value, base = EACH[field]
    assert text_of(base | {field: value}) != text_of(base)


@pytest.mark.parametrize("field", CANNOT)
def test_what_is_not_carried_is_an_error_and_with_lossy_a_line(left_out: Any, field: str) -> None:
    left_out("textgen", {field: CANNOT[field]}, field, "sample")


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ({"mirostat_mode": 1}, "2 alone"), ({"skew": 1}, "unknown"),
        ({"mirostat_mode": 2, "no_repeat_ngram_size": 3}, "behind the draw"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_said(preset: Any, says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        lm.convert_from("textgen", preset)


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ({"temperature": 0}, "do_sample: false"), ("- 1", "a mapping"), ("a: [", "YAML"),
        ({"top_k": "x"}, "a whole number"), (5, "YAML"),
        ({"sampler_priority": "top_q"}, "'top_q' is none"), ({"repetition_penalty_range": -1}, "0 or more"),
        ({"dry_multiplier": 1, "dry_sequence_breakers": "x"}, "quoted texts"), ({"do_sample": 1}, "true or false"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_an_error(preset: Any, says: str) -> None:
    with pytest.raises(lm.StrategyError, match=says) as caught:
        lm.convert_from("textgen", preset, lossy=True)
    assert not isinstance(caught.value, ConversionError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top_k(40) | sample", "ties with the k-th"),
        ("top_n_sigma(1.0) | sample", "sigma over all tokens"),
        ("xtc(0.5) | sample", "newline or the end of sequence"),
        ("tail_free(0.9) | sample", "one token more"),
        ("presence(0.5) | sample", "write over=all"),
        ("repetition(1.1, window=64) | frequency(0.5, over=all, window=32) | sample", "one range"),
        ("temperature(0.5) | greedy", "greedy is the same without"),
        ("temperature(0.5) | min_p(0.1) | temperature(0.7) | sample", "that is taken"),
        ("bias([5: 1.0]) | sample", "no such stage"),
        ("mirostat(variant=1)", "variant 2 alone"),
        ("sample(seed=3)", "no seed in a preset"),
        ("sample until eos or max_tokens(9)", "no such criterion"),
        ("min_p(0.1, min_keep=3) | sample", "min_keep"),
    ],
)
def test_what_a_preset_cannot_be_told_is_said(text: str, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_to("textgen", text)
    assert says in str(caught.value)
    assert len(caught.value.left_out) == 1
    lm.convert_from("textgen", lm.convert_to("textgen", text, lossy=True).document)
