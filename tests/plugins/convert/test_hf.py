"""transformers' GenerationConfig: every field accounted for, the distribution its own, and back again."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, SynthIDTextWatermarkingConfig, WatermarkingConfig

import logitmill as lm
from logitmill.plugins.convert import hf
from logitmill.plugins.convert.conversion import ConversionError

VOCAB, INF = 83, float("inf")
PROMPT, OUTPUT = [3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7]


def theirs(config: GenerationConfig, logits: Tensor, prompt: list[int], output: list[int]) -> Tensor:
    """Probabilities [R, V] from the processors that ``generate`` makes for this prompt."""
    config = copy.deepcopy(config)
    unbounded = config.max_length is None and config.max_new_tokens is None
    config.update(**config._get_default_generation_params(), defaults_only=True)
    if config.max_new_tokens is not None:
        config.max_length = config.max_new_tokens + len(prompt)
    elif unbounded:
        config.max_length += len(prompt)  # 20 tokens more
    if config.min_new_tokens is not None:
        config.min_length = config.min_new_tokens + len(prompt)
    eos = config.eos_token_id
    config._eos_token_tensor = None if eos is None else torch.tensor([eos] if isinstance(eos, int) else eos)
    text = SimpleNamespace(vocab_size=VOCAB)
    owner = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False, get_text_config=lambda: text))
    owner._merge_criteria_processor_list = lambda default, custom: default
    rows = torch.tensor([prompt] * len(logits))
    processors = GenerationMixin._get_logits_processor(  # type: ignore[arg-type]
        owner, config, input_ids_seq_length=len(prompt), encoder_input_ids=rows, device="cpu"
    )
    scores = processors(torch.tensor([prompt + output] * len(logits)), logits.clone())
    if not config.do_sample:
        scores = torch.full_like(scores, float("-inf")).scatter(-1, scores.argmax(-1, keepdim=True), 0.0)
    return scores.softmax(-1)


def ours(bench: Any, strategy: lm.Strategy, logits: Tensor, prompt: list[int], output: list[int]) -> Tensor:
    result: Tensor = bench.law(strategy, logits, prompt, output).dense().probs
    return result


def same(bench: Any, config: GenerationConfig, prompt: list[int] = PROMPT, output: list[int] = OUTPUT) -> None:
    strategy = lm.convert_from("hf", config).strategy
    for scale in (1.0, 5.0):
        logits = torch.randn(8, VOCAB, generator=torch.Generator().manual_seed(5)) * scale
        a, b = ours(bench, strategy, logits, prompt, output), theirs(config, logits, prompt, output)
        assert torch.equal(a > 0, b > 0)
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-7)


CONFIGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the hidden top-k of 50": {"do_sample": True},
    "usual": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.2},
    "n-grams of the prompt": {"do_sample": True, "encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.4},
    "cutoffs": {"do_sample": True, "top_k": 0, "epsilon_cutoff": 0.02, "eta_cutoff": 0.03},
    "top-h": {"do_sample": True, "top_k": 0, "top_h": 0.4},
    "bad words": {"do_sample": True, "bad_words_ids": [[7], [9, 7, 2], [8, 9, 7, 11], [7, 12], [2]], "eos_token_id": 2},
    "biases": {"do_sample": True, "sequence_bias": {(7, 5): -INF, (4,): 1.5, (9, 7, 6): 5.0, (8,): -INF}},
    "min length": {"do_sample": True, "min_length": 20, "eos_token_id": [2, 17], "top_k": 0},
    "min length reached": {"do_sample": True, "min_length": 14, "eos_token_id": [2, 17], "top_k": 0},
    "min new tokens": {"do_sample": True, "min_new_tokens": 7, "eos_token_id": [2, 17], "top_k": 0},
    "length decay": {"do_sample": True, "exponential_decay_length_penalty": (2, 1.3), "eos_token_id": 2, "top_k": 0},
    "suppressed": {"do_sample": True, "suppress_tokens": [1, 2, 3], "begin_suppress_tokens": [5, 6]},
    "last forced": {"do_sample": True, "max_new_tokens": 7, "forced_eos_token_id": 2},
    "last forced by length": {"do_sample": True, "max_length": 15, "forced_eos_token_id": 2},
    "last forced by default": {"do_sample": True, "forced_eos_token_id": 2},
    "what is forced comes though it is held back": {
        "do_sample": True, "max_new_tokens": 7, "forced_eos_token_id": 2, "eos_token_id": 2, "min_new_tokens": 30,
        "bad_words_ids": [[9, 7, 2]], "repetition_penalty": 3.0,
    },
    "watermark": {"do_sample": True, "watermarking_config": WatermarkingConfig(bias=2.5, context_width=2)},
    "watermark of its own": {
        "do_sample": False, "watermarking_config": WatermarkingConfig(bias=2.5, seeding_scheme="selfhash"),
    },
    "not sampling leaves the warpers out": {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2, "top_p": 0.1},
    "all of it": {
        "do_sample": True, "temperature": 0.8, "top_k": 30, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95,
        "epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3, "repetition_penalty": 1.15, "no_repeat_ngram_size": 3,
        "bad_words_ids": [[7], [9, 7, 2]], "min_length": 30, "eos_token_id": 2, "sequence_bias": {(4,): 1.5},
        "suppress_tokens": [60], "max_new_tokens": 50, "exponential_decay_length_penalty": (2, 1.1),
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", [pytest.param(fields, id=name) for name, fields in CONFIGS.items()])
@pytest.mark.parametrize("output", [[], OUTPUT], ids=["first", "later"])
def test_the_distribution_is_transformers_own(bench: Any, fields: dict[str, Any], output: list[int]) -> None:
    same(bench, GenerationConfig(**fields), output=output)


@pytest.mark.parametrize(("prompt", "output"), [([0], []), ([0], [1]), ([0, 1], []), ([0], [1, 2]), ([0, 1], [2])])
def test_a_first_token_forced_moves_what_is_suppressed_at_the_beginning(
    bench: Any, prompt: list[int], output: list[int]
) -> None:
    same(bench, GenerationConfig(do_sample=True, forced_bos_token_id=6, begin_suppress_tokens=[4]), prompt, output)


def configs() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a config, most of them left open."""
    token = st.integers(0, VOCAB - 1)
    sequences = st.lists(st.lists(token, min_size=1, max_size=3), min_size=1, max_size=3)
    share, cutoff = st.floats(0.05, 0.95), st.floats(1e-4, 0.2)
    several = st.lists(token, min_size=1, max_size=3, unique=True)
    return st.fixed_dictionaries(
        {"do_sample": st.booleans()},
        optional={
            "temperature": st.floats(0.2, 3), "top_k": st.integers(0, 100), "top_p": st.floats(0, 1), "min_p": share,
            "typical_p": share, "top_h": share, "epsilon_cutoff": cutoff, "eta_cutoff": cutoff,
            "repetition_penalty": st.floats(0.5, 2), "encoder_repetition_penalty": st.floats(0.5, 2),
            "no_repeat_ngram_size": st.integers(0, 4), "encoder_no_repeat_ngram_size": st.integers(0, 4),
            "bad_words_ids": sequences, "suppress_tokens": st.lists(token, min_size=1, max_size=4, unique=True),
            "begin_suppress_tokens": st.lists(token, min_size=1, max_size=4, unique=True),
            "min_length": st.integers(0, 30), "eos_token_id": st.one_of(token, several),
            "max_new_tokens": st.integers(1, 40),
            "sequence_bias": st.dictionaries(several.map(tuple), st.floats(-5, 5), min_size=1, max_size=3),
        },
    )  # fmt: skip


@settings(max_examples=40)
@given(configs(), st.integers(0, 6))
def test_whatever_the_fields(bench: Any, fields: dict[str, Any], generated: int) -> None:
    """Tokens may be lost to a cut that lies on a float32 boundary: none does in logits that are all different."""
    same(bench, GenerationConfig(**fields), output=OUTPUT[:generated])


@settings(max_examples=40)
@given(configs())
def test_there_and_back(fields: dict[str, Any]) -> None:
    strategy = lm.convert_from("hf", fields).strategy
    document = lm.convert_to("hf", strategy).document
    assert lm.convert_from("hf", document).strategy == strategy
    assert lm.convert_from("hf", hf.shown(document)).strategy == strategy
    assert lm.convert_from("hf", GenerationConfig(**document)).strategy == strategy


@pytest.mark.filterwarnings("ignore:Unfeasible length constraints")
def test_what_generate_really_draws_from(bench: Any) -> None:
    """A tiny Llama: the scores that generate returns are the strategy's law at each step."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.4, max_position_embeddings=128, eos_token_id=2, bos_token_id=1,
        )
    ).eval()  # fmt: skip
    prompt = torch.tensor([PROMPT])
    for name, fields in CONFIGS.items():
        fields = {"eos_token_id": 2, "pad_token_id": 0, **fields}
        config = GenerationConfig(**fields)
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), generation_config=config, output_logits=True,
            output_scores=True, return_dict_in_generate=True, max_new_tokens=fields.get("max_new_tokens", 4),
        )  # fmt: skip
        strategy = lm.convert_from("hf", {**fields, "max_new_tokens": fields.get("max_new_tokens", 4)}).strategy
        tokens = out.sequences[0, len(PROMPT) :].tolist()
        for step, (raw, scores) in enumerate(zip(out.logits, out.scores, strict=True)):
            law = ours(bench, strategy, raw, PROMPT, tokens[:step])
            if config.do_sample:
                torch.testing.assert_close(law, scores.softmax(-1), rtol=1e-5, atol=1e-6, msg=f"{name}, step {step}")
            else:
                assert law.argmax().item() == tokens[step], name


# -- every field -------------------------------------------------------------------------------------------------------


def test_every_field_of_the_installed_transformers_is_known() -> None:
    assert set(vars(GenerationConfig())) - hf.FIELDS.keys() == set()
    named = set(GenerationConfig._get_default_generation_params())
    assert named <= hf.FIELDS.keys()
    for name, value in GenerationConfig._get_default_generation_params().items():
        if hf.FIELDS[name].fate == "carried" and name not in ("max_length",):
            assert hf.FIELDS[name].default == value, name


#: for each field that is carried over: a value that has to make a difference
EACH = {
    "do_sample": False, "sequence_bias": {(4,): 1.5}, "encoder_repetition_penalty": 1.3, "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2, "encoder_no_repeat_ngram_size": 2, "bad_words_ids": [[4]], "min_length": 3,
    "min_new_tokens": 3, "forced_bos_token_id": 1, "forced_eos_token_id": 2,
    "exponential_decay_length_penalty": (3, 1.1), "suppress_tokens": [4], "begin_suppress_tokens": [4],
    "temperature": 0.5, "top_h": 0.4, "top_k": 10, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.5, "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.01, "watermarking_config": {"bias": 1.5}, "max_new_tokens": 9, "max_length": 9, "eos_token_id": 2,
    "stop_strings": "x", "max_time": 2.5,
}  # fmt: skip
#: for each field that is not: a value that would
CANNOT = {
    "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "constraints": [1], "force_words_ids": [[1]],
    "num_return_sequences": 3, "guidance_scale": 1.5, "penalty_alpha": 0.6, "dola_layers": "low", "token_healing": True,
    "remove_invalid_values": True, "is_assistant": True, "assistant_ensemble_weight": 0.5,
}  # fmt: skip


def test_each_field_has_a_value_here(every_field: Any) -> None:
    every_field(hf, EACH, CANNOT)


@pytest.mark.parametrize("field", EACH)
def test_what_is_carried_makes_a_difference(field: str) -> None:
    base = lm.convert_from("hf", {"do_sample": True}).strategy
    assert lm.convert_from("hf", {"do_sample": True, field: EACH[field]}).strategy != base


@pytest.mark.parametrize("field", CANNOT)
def test_what_is_not_carried_is_an_error_and_with_lossy_a_line(left_out: Any, field: str) -> None:
    left_out(
        "hf",
        {"do_sample": True, field: CANNOT[field]},
        field,
        lm.convert_from("hf", {"do_sample": True}).strategy.to_text(),
    )


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ConversionError, match=r"temprature=0.5: unknown to hf; did you mean 'temperature'\?"):
        lm.convert_from("hf", {"temprature": 0.5})
    assert [item.field for item in lm.convert_from("hf", {"temprature": 0.5}, lossy=True).left_out] == ["temprature"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0), ("temperature", "hot"), ("top_k", -1), ("top_p", -0.1), ("min_p", 2),
        ("repetition_penalty", 0), ("do_sample", "yes"), ("eos_token_id", "</s>"), ("bad_words_ids", [7]),
        ("sequence_bias", [1]), ("top_k", 1.5),
        ("exponential_decay_length_penalty", 3), ("stop_strings", [1]), ("max_new_tokens", 0), ("typical_p", True),
        ("watermarking_config", {"colour": "green"}), ("watermarking_config", 3), ("bad_words_ids", [["yes"]]),
        ("sequence_bias", [[["yes"], 1.0]]), ("sequence_bias", [[[], 1.0]]),
        ("exponential_decay_length_penalty", ["a", 2]), ("exponential_decay_length_penalty", [1.5, 2]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lossy", [False, True])
def test_what_transformers_would_refuse_is_refused(field: str, value: Any, lossy: bool) -> None:
    with pytest.raises(lm.StrategyError, match=field) as caught:
        lm.convert_from("hf", {"do_sample": True, field: value}, lossy=lossy)
    assert not isinstance(caught.value, ConversionError)


def test_an_object_a_dict_and_a_file_say_the_same() -> None:
    config = GenerationConfig(do_sample=True, temperature=0.7, sequence_bias={(4,): 1.5}, eos_token_id=2)
    wanted = lm.convert_from(
        "hf", {"do_sample": True, "temperature": 0.7, "sequence_bias": [[[4], 1.5]], "eos_token_id": 2}
    )
    assert lm.convert_from("hf", config) == wanted
    assert lm.convert_from("hf", config.to_diff_dict()) == wanted
    text = '{"do_sample": true, "temperature": 0.7, "sequence_bias": [[[4], 1.5]], "eos_token_id": 2}'
    assert lm.convert_from("hf", text) == wanted


def test_the_config_of_a_model_and_its_file(tmp_path: Any) -> None:
    from transformers import LlamaConfig

    config = GenerationConfig.from_model_config(LlamaConfig(eos_token_id=7))
    assert lm.convert_from("hf", config).strategy.to_text() == "greedy until eos(7) or max_tokens(20)"
    GenerationConfig(do_sample=True, top_k=5, eos_token_id=[7, 8], use_cache=False).save_pretrained(tmp_path)
    text = (tmp_path / "generation_config.json").read_text("utf-8")
    wanted = 'top_k(5, dialect="hf") | sample until eos(7, 8) or max_tokens(20)'
    assert lm.convert_from("hf", text).strategy.to_text() == wanted


def test_synthid_there_and_back() -> None:
    config = GenerationConfig(
        do_sample=True, watermarking_config=SynthIDTextWatermarkingConfig(ngram_len=4, keys=[3, 5, 7])
    )
    strategy = lm.convert_from("hf", config).strategy
    assert strategy.pipeline[-2].stage == lm.synthid([3, 5, 7], ngram=4)
    document = lm.convert_to("hf", strategy).document
    assert lm.convert_from("hf", document).strategy == strategy


def test_what_the_config_sets_for_nothing_is_told() -> None:
    read = lm.convert_from("hf", {"temperature": 0.7, "top_k": 50, "use_cache": False})
    assert read.strategy.to_text() == "greedy until eos or max_tokens(20)"
    assert [str(item) for item in read.unused] == ["temperature=0.7: do_sample is off"]
    both = lm.convert_from("hf", {"max_new_tokens": 5, "max_length": 9})
    assert [item.field for item in both.unused] == ["max_length"]


def test_what_ends_a_row() -> None:
    def ends(**fields: Any) -> str:
        return lm.convert_from("hf", fields).strategy.to_text().partition(" until ")[2]

    assert ends() == "eos or max_tokens(20)"
    assert ends(eos_token_id=[2, 3], max_new_tokens=5, max_length=50) == "eos(2, 3) or max_tokens(5)"
    assert ends(max_length=50) == "eos or max_length(50)"
    assert ends(stop_strings=["x", "y"], max_time=1.5) == (
        'eos or max_tokens(20) or stop("x", "y", include=true) or timeout(1.5)'
    )


# -- to transformers ---------------------------------------------------------------------------------------------------

WITH_BOUND = " until eos or max_tokens(9)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('top_k(40, dialect="hf") | repetition(1.1) | sample' + WITH_BOUND, "always runs repetition before top_k"),
        ("temperature(1.2 -> 0.6 over 64) | sample" + WITH_BOUND, "takes a number for value, and no schedule"),
        ("temperature(0.3 + 0.2*entropy) | sample" + WITH_BOUND, "no expression of signals"),
        ("when entropy < 0.4 { ban(3) } | sample" + WITH_BOUND, "no conditions"),
        ("mix(0.5: { top_p(0.9) }, 0.5: { min_p(0.1) }) | sample" + WITH_BOUND, "no mixture"),
        ("dry(0.8) | sample" + WITH_BOUND, "no such stage"),
        ("top_k(40) | sample" + WITH_BOUND, "ties with the k-th"),
        ("typical(0.9) | sample" + WITH_BOUND, "ties with the last"),
        ("repetition(1.1, window=64) | sample" + WITH_BOUND, "all of them"),
        ("temperature(0.5) | greedy" + WITH_BOUND, "greedy is the same without"),
        ("temperature(0) | sample" + WITH_BOUND, "above 0"),
        ("mirostat" + WITH_BOUND, "ends in nothing like it"),
        ("best_of(4) { sample }" + WITH_BOUND, "ends in nothing like it"),
        ("sample(seed=3)" + WITH_BOUND, "set_seed"),
        ("sample", "ends after 20 tokens"),
        ("sample until max_tokens(9)", "end-of-sequence tokens too"),
        ('sample until eos or max_tokens(9) or stop("x")', "include=true"),
        ("sample until eos or max_tokens(9) or loop", "no such criterion"),
        ("sample until eos or max_tokens(9) or entropy < 0.1", "no such test"),
        ('bias(["yes": 2.0]) | sample' + WITH_BOUND, "by their ids alone"),
        ("temperature(0.5) | temperature(0.5) | sample" + WITH_BOUND, "one temperature, and that is taken"),
        ("watermark | sample" + WITH_BOUND, 'dialect="hf"'),
    ],
)
def test_what_transformers_cannot_be_told_is_said(text: str, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_to("hf", text)
    assert says in str(caught.value)
    assert len(caught.value.left_out) == 1
    made = lm.convert_to("hf", text, lossy=True)
    assert made.left_out == caught.value.left_out
    lm.convert_from("hf", made.document)


def test_a_plain_strategy_goes_over() -> None:
    made = lm.convert_to("hf", "temperature(0.8) | top_p(0.95) | min_p(0.1) | sample until eos or max_tokens(64)")
    assert made.left_out == ()
    assert made.document == {
        "do_sample": True, "max_new_tokens": 64, "temperature": 0.8, "top_k": 0, "top_p": 0.95, "min_p": 0.1,
        "repetition_penalty": 1.0,
    }  # fmt: skip


def test_stages_that_commute_need_no_order() -> None:
    one = lm.convert_to("hf", "ban(3) | repetition(1.1) | min_tokens(4) | sample" + WITH_BOUND)
    other = lm.convert_to("hf", "min_tokens(4) | repetition(1.1) | ban(3) | sample" + WITH_BOUND)
    assert one == other


def test_a_fragment_is_an_error() -> None:
    with pytest.raises(lm.StrategyError, match="sampler"):
        lm.convert_to("hf", "temperature(0.8)")
