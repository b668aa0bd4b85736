"""llama.cpp: the chain restated in plain Python over lists, the command line and the server's JSON, and back again."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import logitmill as lm
from logitmill.plugins.convert import llamacpp
from logitmill.plugins.convert.conversion import ConversionError
from logitmill.plugins.convert.llamacpp_options import OPTIONS, escaped, unescaped

VOCAB, INF = 41, float("inf")
PROMPT, OUTPUT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [8, 9, 7, 9, 3, 1, 4, 1, 5]
DEFAULTS = {
    "top_k": 40, "top_p": 0.95, "min_p": 0.05, "typical_p": 1.0, "top_n_sigma": -1.0, "temperature": 0.8,
    "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1, "repeat_last_n": 64,
    "repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "dry_multiplier": 0.0, "dry_base": 1.75,
    "dry_allowed_length": 2, "dry_penalty_last_n": 64, "mirostat": 0, "mirostat_tau": 5.0, "adaptive_target": -1.0,
    "logit_bias": [], "min_keep": 0,
    "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
}  # fmt: skip

Candidates = list[tuple[int, float]]  # (token, logit), as llama_token_data_array


def softmax(cands: Candidates) -> list[float]:
    top = max(logit for _, logit in cands)
    weights = [math.exp(logit - top) for _, logit in cands]
    return [weight / math.fsum(weights) for weight in weights]


def descending(cands: Candidates) -> Candidates:
    return sorted(cands, key=lambda cand: (-cand[1], cand[0]))


def penalties(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    counts = Counter(tokens[-f["repeat_last_n"] :] if f["repeat_last_n"] else [])
    made = []
    for token, logit in cands:
        if counts[token]:
            logit = logit * f["repeat_penalty"] if logit <= 0 else logit / f["repeat_penalty"]
            logit -= counts[token] * f["frequency_penalty"] + f["presence_penalty"]
        made.append((token, logit))
    return made


def dry(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    """Without breakers: for each earlier place, how long the end of the text repeats what stands before it."""
    if f["dry_multiplier"] == 0 or f["dry_penalty_last_n"] == 0:
        return cands
    seen = tokens[-f["dry_penalty_last_n"] :]
    longest: dict[int, int] = {}
    for place in range(len(seen) - 1):
        length = 0
        while length <= place and seen[place - length] == seen[len(seen) - 1 - length]:
            length += 1
        if length >= f["dry_allowed_length"]:
            longest[seen[place + 1]] = max(longest.get(seen[place + 1], 0), length)
    cost = {t: f["dry_multiplier"] * f["dry_base"] ** (n - f["dry_allowed_length"]) for t, n in longest.items()}
    return [(token, logit - cost.get(token, 0.0)) for token, logit in cands]


def top_n_sigma(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    if f["top_n_sigma"] <= 0 or len(cands) < 2:
        return cands
    live = [logit for _, logit in cands if logit > -INF]
    mean = math.fsum(live) / len(live)
    sigma = math.sqrt(math.fsum((logit - mean) ** 2 for logit in live) / len(live))
    return [(t, logit if logit >= max(live) - f["top_n_sigma"] * sigma else -INF) for t, logit in cands]


def top_k(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    return descending(cands)[: f["top_k"]] if f["top_k"] > 0 else cands


def typ_p(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    if f["typical_p"] >= 1:
        return cands
    cands = [cand for cand in cands if cand[1] > -INF]
    probs = softmax(cands)
    entropy = -math.fsum(p * math.log(p) for p in probs if p > 0)
    order = sorted(range(len(cands)), key=lambda i: (abs(-math.log(probs[i]) - entropy), cands[i][0]))
    mass, kept = 0.0, []
    for i in order:
        kept.append(cands[i])
        mass += probs[i]
        if mass > f["typical_p"]:
            break
    return kept


def top_p(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    if f["top_p"] >= 1:
        return cands
    cands = descending(cands)
    mass = 0.0
    for i, p in enumerate(softmax(cands)):
        mass += p
        if mass >= f["top_p"] and i + 1 >= f["min_keep"]:
            return cands[: i + 1]
    return cands


def min_p(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    if f["min_p"] <= 0:
        return cands
    cands = descending(cands)
    least = cands[0][1] + math.log(f["min_p"])
    return [cand for i, cand in enumerate(cands) if cand[1] >= least or i < f["min_keep"]]


def xtc(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    """At a probability of 1 or 0, so that it always acts or never."""
    if f["xtc_probability"] <= 0 or f["xtc_threshold"] > 0.5 or len(cands) < 2:
        return cands
    cands = descending(cands)
    gone = max(sum(p >= f["xtc_threshold"] for p in softmax(cands)) - 1, 0)
    return cands[gone:] if len(cands) - gone >= f["min_keep"] else cands


def temperature(cands: Candidates, f: dict[str, Any], tokens: list[int]) -> Candidates:
    value = f["temperature"]
    if f["dynatemp_range"] > 0:
        if len(cands) < 2:
            return cands
        low, high = max(0.0, value - f["dynatemp_range"]), value + f["dynatemp_range"]
        entropy = -math.fsum(p * math.log(p) for p in softmax(cands) if p > 0)
        value = low + (high - low) * (entropy / math.log(len(cands))) ** f["dynatemp_exponent"]
    if value <= 0:
        best = descending(cands)[0]
        return [(token, logit if (token, logit) == best else -INF) for token, logit in cands]
    return [(token, logit / value) for token, logit in cands]


STEPS = {step.__name__: step for step in (penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature)}


def chain(fields: dict[str, Any], logits: list[float], tokens: list[int]) -> list[float]:
    """The probabilities llama.cpp draws from, for each token of the vocabulary."""
    f = DEFAULTS | fields
    bias = Counter[int]()
    for token, amount in f["logit_bias"]:
        bias[token] += amount  # type: ignore[assignment]
    cands = [(token, logit + bias[token]) for token, logit in enumerate(logits)]
    if f["mirostat"] == 0:
        for name in f["samplers"]:
            cands = STEPS[name](cands, f, tokens) if name in STEPS else cands
        if "adaptive_p" in f["samplers"] and f["adaptive_target"] >= 0:
            cands = [
                (token, -INF if logit == -INF else 5 - 10 * d * d / (1 + d))
                for (token, logit), p in zip(cands, softmax(cands), strict=True)
                for d in [abs(p - min(f["adaptive_target"], 1.0)) / 0.3]
            ]
    else:
        cands = descending(temperature(cands, f | {"dynatemp_range": 0.0}, tokens))
        if f["mirostat"] == 2:
            within = [
                c
                for c, p in zip(cands, softmax(cands), strict=True)
                if p > 0 and -math.log2(p) <= 2 * f["mirostat_tau"]
            ]
            cands = within or cands[:1]
    law = [0.0] * VOCAB
    for (token, _), p in zip(cands, softmax(cands), strict=True):
        law[token] = p
    return law


def same(fields: dict[str, Any], document: Any = None, output: list[int] = OUTPUT) -> None:
    strategy = lm.convert_from("llamacpp", fields if document is None else document).strategy
    for scale in (1.0, 6.0):
        logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(11)) * scale
        ours = strategy.distribution(logits, PROMPT, output)
        theirs = torch.tensor([chain(fields, row, PROMPT + output) for row in logits.double().tolist()])
        assert torch.equal(ours > 0, theirs.float() > 0)
        torch.testing.assert_close(ours, theirs.float(), rtol=2e-5, atol=1e-7)


CASES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "temperature alone": {"samplers": ["temperature"], "temperature": 0.7},
    "cold": {"temperature": 0.0},
    "temperature first": {"samplers": ["temperature", "top_k", "top_p"], "temperature": 2.0},
    "penalties": {"repeat_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": -0.3, "repeat_last_n": 7},
    "no penalties without a window": {"repeat_penalty": 1.3, "repeat_last_n": 0},
    "dry": {"dry_multiplier": 0.8, "dry_sequence_breakers": [":"], "dry_penalty_last_n": 18},
    "sigma": {"top_n_sigma": 1.2, "top_k": 0},
    "typical": {"typical_p": 0.6, "top_k": 0, "min_p": 0.0},
    "dynamic": {"dynatemp_range": 0.4, "dynatemp_exponent": 1.7},
    "dynamic from below 0": {"dynatemp_range": 1.5, "temperature": 0.5},
    "xtc always": {"xtc_probability": 1.0, "xtc_threshold": 0.05, "min_p": 0.0},
    "xtc of half": {"xtc_probability": 1.0, "xtc_threshold": 0.51},
    "biases": {"logit_bias": [[5, 2.5], [7, -1.5], [5, -1.0]], "top_k": 12},
    "bans": {"logit_bias": [[5, -INF], [7, -INF]]},
    "mirostat 2": {"mirostat": 2, "mirostat_tau": 1.5, "temperature": 1.3, "top_k": 3, "dynatemp_range": 0.3},
    "adaptive-p": {"samplers": ["adaptive_p", "min_p"], "adaptive_target": 0.3},
    "adaptive-p off": {"samplers": ["min_p", "adaptive_p"], "min_p": 0.2},
    "adaptive-p above 1": {"samplers": ["min_p", "adaptive_p"], "adaptive_target": 1.0},
    "no sampler": {"samplers": []},
    "at least so many": {"samplers": ["top_p", "temperature"], "top_p": 0.1, "min_keep": 4},
    "at least so many of each": {
        "samplers": ["min_p", "xtc"], "min_p": 0.9, "xtc_probability": 1.0, "xtc_threshold": 0.01, "min_keep": 6,
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", [pytest.param(fields, id=name) for name, fields in CASES.items()])
def test_the_distribution_is_that_of_the_chain(fields: dict[str, Any]) -> None:
    if "dry_sequence_breakers" in fields:  # a breaker is a text, and there is no tokenizer here to read it
        strategy = lm.convert_from("llamacpp", fields).strategy
        assert strategy.pipeline[0].stage == lm.dry(0.8, window=18, breakers=(":",), dialect="llamacpp")
        return
    same(fields)


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a request that the restated chain knows."""
    names = st.lists(st.sampled_from([*STEPS, "adaptive_p"]), unique=True, max_size=10)
    share = st.floats(0.05, 0.95)
    return st.fixed_dictionaries(
        {},
        optional={
            "samplers": names, "top_k": st.integers(-1, 50), "top_p": share, "min_p": share, "typical_p": share,
            "temperature": st.floats(0.3, 2), "dynatemp_range": st.sampled_from([0.0, 0.2]),
            "xtc_probability": st.sampled_from([0.0, 1.0]), "xtc_threshold": st.floats(0.05, 0.6),
            "repeat_last_n": st.integers(0, 30), "repeat_penalty": st.floats(0.7, 1.5),
            "frequency_penalty": st.floats(-1, 1), "presence_penalty": st.floats(-1, 1),
            "dry_multiplier": st.sampled_from([0.0, 0.7]), "dry_allowed_length": st.integers(1, 4),
            "dry_penalty_last_n": st.integers(0, 30), "adaptive_target": st.sampled_from([-1.0, 0.2, 0.6]),
            "logit_bias": st.lists(st.tuples(st.integers(0, VOCAB - 1), st.floats(-3, 3)).map(list), max_size=3),
            "mirostat": st.sampled_from([0, 0, 0, 2]), "mirostat_tau": st.floats(0.5, 4),
        },
    )  # fmt: skip


@settings(max_examples=60)
@given(requests(), st.integers(0, len(OUTPUT)))
def test_whatever_the_fields(fields: dict[str, Any], generated: int) -> None:
    same(fields, output=OUTPUT[:generated])


@settings(max_examples=80)
@given(
    requests(),
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(-1, 2**32 - 1), "n_predict": st.sampled_from([-1, 1, 99]),
            "ignore_eos": st.booleans(),
            "stop": st.lists(st.text(min_size=1, max_size=5), max_size=2), "top_n_sigma": st.floats(-1, 2),
            "mirostat": st.sampled_from([0, 1, 2]), "mirostat_eta": st.floats(0, 1),
            "adaptive_decay": st.floats(0, 0.99),
            "dry_sequence_breakers": st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3),
        },
    ),
)  # fmt: skip
def test_there_and_back(fields: dict[str, Any], more: dict[str, Any]) -> None:
    strategy = lm.convert_from("llamacpp", fields | more, lossy=True).strategy
    line = lm.convert_to("llamacpp", strategy).document
    assert lm.convert_from("llamacpp", line, lossy=True).strategy == strategy
    assert lm.convert_from("llamacpp", shlex.split(line), lossy=True).strategy == strategy


# -- every field -------------------------------------------------------------------------------------------------------

#: for each field that is carried over: a value that has to make a difference, beside what it needs to matter
EACH: dict[str, tuple[Any, dict[str, Any]]] = {
    "samplers": (["top_k"], {}), "logit_bias": ([[5, 1.0]], {}), "ignore_eos": (True, {}), "repeat_penalty": (1.2, {}),
    "frequency_penalty": (0.2, {}), "presence_penalty": (0.2, {}), "repeat_last_n": (9, {"repeat_penalty": 1.2}),
    "dry_multiplier": (0.8, {}), "dry_base": (2, {"dry_multiplier": 0.8}), "min_keep": (3, {}),
    "dry_allowed_length": (3, {"dry_multiplier": 0.8}), "dry_penalty_last_n": (9, {"dry_multiplier": 0.8}),
    "dry_sequence_breakers": (["x"], {"dry_multiplier": 0.8}), "top_n_sigma": (1.0, {}), "top_k": (5, {}),
    "typical_p": (0.5, {}), "top_p": (0.5, {}), "min_p": (0.2, {}), "xtc_probability": (0.5, {}),
    "xtc_threshold": (0.2, {"xtc_probability": 0.5}), "temperature": (0.5, {}), "dynatemp_range": (0.2, {}),
    "dynatemp_exponent": (2, {"dynatemp_range": 0.2}), "mirostat": (2, {}), "mirostat_tau": (3, {"mirostat": 1}),
    "mirostat_eta": (0.2, {"mirostat": 1}), "adaptive_target": (0.3, {"samplers": ["adaptive_p"]}),
    "adaptive_decay": (0.5, {"samplers": ["adaptive_p"], "adaptive_target": 0.3}), "seed": (3, {}),
    "n_predict": (9, {}), "stop": ("x", {}),
}  # fmt: skip
CANNOT = {
    "grammar": "root ::= x", "json_schema": {"type": "object"}, "grammar_lazy": True, "grammar_triggers": [{}],
    "n_cmpl": 2, "t_max_predict_ms": 100, "n_indent": 4, "reasoning_budget": 9, "reasoning_budget_tokens": 9,
    "reasoning_effort": "high",
}  # fmt: skip


def test_each_field_has_a_value_here(every_field: Any) -> None:
    every_field(llamacpp, EACH, CANNOT)


@pytest.mark.parametrize("field", EACH)
def test_what_is_carried_makes_a_difference(field: str) -> None:
    value, base = EACH[field]
    assert text_of(base | {field: value}) != text_of(base)


@pytest.mark.parametrize("field", CANNOT)
def test_what_is_not_carried_is_an_error_and_with_lossy_a_line(left_out: Any, field: str) -> None:
    left_out("llamacpp", {field: CANNOT[field]}, field, text_of(""))


# -- the command line --------------------------------------------------------------------------------------------------


def text_of(line: Any, lossy: bool = False) -> str:
    return lm.convert_from("llamacpp", line, lossy=lossy).strategy.to_text()


def test_the_defaults_are_written_out() -> None:
    assert text_of("") == "top_k(40) | top_p(0.95) | min_p(0.05) | temperature(0.8) | sample until eos"
    assert text_of("llama-cli -m model.gguf -ngl 99 -c 4096 -p 'Once upon'") == text_of("")
    assert text_of("./build/bin/llama-server --host 0.0.0.0") == text_of("")


@pytest.mark.parametrize(
    "line",
    [
        "--samplers 'top_k;temperature' --top-k 5 --temp 0.5",
        "--sampler-seq kt --top-k 5 --temp 0.5",
        "--sampling-seq kt --top-k 5 --temperature 0.5",
        "--samplers 'top-k;temp' --top_k 5 --temp 0.5",
        "--samplers 'TopK;Temperature' --top-k 5 --temp 0.5 --top-p 0.1",
        "--temp 0.9 --samplers 'top_k;temperature' --temp 0.5 --top-k 5",
        {"samplers": "kt", "top_k": 5, "temperature": 0.5},
        '{"samplers": ["top_k", "temperature"], "top_k": 5, "temperature": 0.5, "top_p": 0.1}',
    ],
)
def test_the_order_by_names_and_by_letters(line: Any) -> None:
    assert text_of(line) == "top_k(5) | temperature(0.5) | sample until eos"


def test_samplers_that_llamacpp_leaves_out_are_left_out() -> None:
    read = lm.convert_from("llamacpp", "--samplers 'tfs_z;top_k;temperature' --top-k 5 --temp 0.5", lossy=True)
    assert read.strategy.to_text() == "top_k(5) | temperature(0.5) | sample until eos"
    assert [item.field for item in read.left_out] == ["samplers"]


@pytest.mark.parametrize(
    "line", ["-fa --temp 0.5", "-fa on --temp 0.5", "--temp 0.5 -fa", "--flash-attn --color -ngl 99 --temp 0.5"]
)
def test_an_option_that_once_had_no_value_swallows_no_other(line: str) -> None:
    assert text_of(line) == text_of("--temp 0.5")
    assert text_of(line + " --ignore-eos") == text_of("--temp 0.5 --ignore-eos")


def test_options_that_have_more_than_a_number() -> None:
    read = text_of(
        r'-l 5+1.5 -l 7-2 --logit-bias 9-inf --ignore-eos -n 64 -r "\nUser:" -s 7 --samplers temperature --temp 1'
    )
    assert read == (
        "bias([5: 1.5, 7: -2.0]) | ban(9) | min_tokens(2147483647) | sample(seed=7) "
        r'until max_tokens(64) or stop("\nUser:")'
    )
    dry = "--samplers dry --dry-multiplier 0.8 --dry-sequence-breaker"
    assert text_of(rf'{dry} "\n"') == r'dry(0.8, window=64, breakers=["\n"], dialect="llamacpp") | sample until eos'
    assert "breakers=[]" in text_of(f"{dry} x {dry.rpartition(' ')[2]} none")
    assert r"breakers=[\"\\n\"]".replace('\\"', '"') in text_of(rf'--no-escape {dry} "\n"')


@given(st.text())
def test_escapes_come_back(text: str) -> None:
    assert unescaped(escaped(text)) == text


def test_every_option_has_its_field() -> None:
    assert {option.field for option in OPTIONS.values()} - {"sampler_seq"} <= llamacpp.FIELDS.keys()


def test_what_llamacpp_itself_does_not_use_is_told() -> None:
    read = lm.convert_from("llamacpp", "--samplers temperature --top-k 5 --mirostat 0")
    assert [str(item) for item in read.unused] == ["top_k=5: samplers leave top_k out"]
    read = lm.convert_from("llamacpp", "--mirostat 2 --top-k 5 --temp 1")
    assert [item.field for item in read.unused] == ["top_k"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--grammar 'root ::= x'", "the grammar"),
        ("--reasoning-budget 100", "thinking_budget"),
        ({"n_cmpl": 3}, "ask for n="),
        ({"t_max_predict_ms": 500}, "add timeout"),
        ({"logit_bias": {"yes": 2.0}}, "name their ids"),
        ({"n_predict": 0}, "one token at least"),
        ("--samplers 'infill;top_k'", "infill"),
        ("--samplers 'top_k;nucleous'", "'nucleous' is none of penalties, dry,"),
        ("--sampler-seq kfq", "'f' is none of e, d,"),
        ("-ins --temp 0.7", "  -ins: unknown to llamacpp"),
        ("--tfs 0.9", "  --tfs '0.9': unknown to llamacpp"),
        ("--samplers 'top_n_sigma;temperature' --top-nsigma 1 --dynatemp-range 0.5", "counts tokens in N"),
        ("--topk 5", "did you mean"),
        ({"temprature": 5}, "did you mean 'temperature'"),
    ],
)
def test_what_cannot_be_carried_is_said(line: Any, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_from("llamacpp", line)
    assert says in str(caught.value)
    assert lm.convert_from("llamacpp", line, lossy=True).left_out == caught.value.left_out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--temp hot", "a number is wanted"), ("--top-k 1.5", "a whole number"), ("--temp", "no value behind it"),
        ("-l 5", "TOKEN_ID"), ("--temp=0.7", "a word of its own: --temp 0.7"),
        ("make coffee", "no program of llama.cpp"), ("--temp 0.7 stray", "'stray' is no option"),
        ("--temp 0.7 stray", "it stands behind --temp"),
        ("--temp '0.7", "command line"),
        ({"mirostat": 3}, "0, 1 or 2"), ({"repeat_last_n": -2}, "0 or more"), ({"top_p": "x"}, "a number"),
        (5, "options"), ("-l 5-x", "TOKEN_ID"), ("-l x-5", "TOKEN_ID"), ("-l 5+-1", "TOKEN_ID"),
        ('{"top_k": 5, "top_k": 6}', "stands twice"), ("--repeat-penalty 0", "repeat_penalty"),
        ('{"top_k": 5', "not JSON"), ({"logit_bias": {"5": True}}, "logit_bias"), ({"stop": [1]}, "stop"),
        ("--xtc-probability 2", "xtc_probability"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("lossy", [False, True])
def test_what_is_no_value_is_an_error(line: Any, says: str, lossy: bool) -> None:
    with pytest.raises(lm.StrategyError) as caught:
        lm.convert_from("llamacpp", line, lossy=lossy)
    assert says in str(caught.value)
    assert not isinstance(caught.value, ConversionError)


# -- to llama.cpp ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sample", "--samplers temperature --temp 1"),
        ("greedy until eos or max_tokens(5)", "--samplers temperature --temp 0 --predict 5"),
        (
            "min_p(0.1) | temperature(1.5) | sample(seed=3)",
            "--samplers 'min_p;temperature' --min-p 0.1 --temp 1.5 --seed 3",
        ),
        (
            "dynamic_temperature(0.5, 1.5) | sample",
            "--samplers temperature --temp 1 --dynatemp-range 0.5 --dynatemp-exp 1",
        ),
    ],
)
def test_plain_strategies_go_over(text: str, line: str) -> None:
    assert lm.convert_to("llamacpp", text).document == line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top_k(40) | bias([5: 1.0]) | sample", "always adds biases first"),
        ('top_k(40, dialect="hf") | sample', "keeps exactly k"),
        ("typical(0.9) | sample", "until the mass is exceeded"),
        ("repetition(1.1) | sample", "give"),
        ("presence(0.5) | repetition(1.1, window=64) | sample", "write over=all"),
        ("top_p(0.9, min_keep=3) | sample", "min_keep"),
        ("xtc(0.5, protect=[3]) | sample", "protects no token"),
        ("temperature(0.5) | greedy", "one temperature"),
        ("temperature(0.5) | top_k(4) | temperature(0.7) | sample", "one set of values for temperature"),
        ("top_a(0.2) | sample", "no such stage"),
        ("dry(0.8) | sample", "give dry a window"),
        ("top_k(4) | mirostat", "no such stage"),
        ("gumbel", "ends in nothing like it"),
        ("sample until max_tokens(9)", "end of sequence too"),
        ("sample until eos or timeout(9)", "no such criterion"),
        ('sample until eos or stop("x", include=true)', "never leaves a stop string"),
        ("dynamic_temperature(1.5, 0.5) | sample", "as far above"),
    ],
)
def test_what_llamacpp_cannot_be_told_is_said(text: str, says: str) -> None:
    with pytest.raises(ConversionError) as caught:
        lm.convert_to("llamacpp", text)
    assert says in str(caught.value) or "write over=all and a window" in str(caught.value)
    lm.convert_from("llamacpp", lm.convert_to("llamacpp", text, lossy=True).document)
