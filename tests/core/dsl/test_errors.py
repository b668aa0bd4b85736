"""Every mistake has a message of its own, at its place, held by a golden file: ``golden/errors/NAME.txt``."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from logitmill.core.dsl.kinds import check, whole
from logitmill.core.dsl.read import from_text
from logitmill.core.errors import StrategyError
from logitmill.core.strategy import Strategy

Golden = Callable[[str, str], None]

CASES = {
    # the grammar
    "empty": "",
    "only_a_comment": "# nothing yet\n",
    "unclosed_bracket": "temperature(0.8 | sample",
    "unclosed_brace": "when entropy < 1 { greedy",
    "unclosed_list": "ban([1, 2) | sample",
    "unclosed_inner": "mix(0.5: { top_p(0.9 }, 0.5: {}) | sample",
    "unclosed_string": 'sample until stop("a)\n',
    "stray_closer": "temperature(0.8)) | sample",
    "forgotten_pipe": "temperature(0.8) top_p(0.9) | sample",
    "forgotten_pipe_next_line": "temperature(0.8)\n  top_p(0.9) | sample",
    "forgotten_comma": "ban(1 2) | sample",
    "forgotten_or": "sample until eos max_tokens(3)",
    "pipe_at_end": "temperature(0.8) |",
    "pipe_at_start": "| sample",
    "double_pipe": "temperature(0.8) || sample",
    "pipe_in_until": "sample until eos | max_tokens(3)",
    "comma_between_stages": "temperature(0.8), sample",
    "equals_after_stage": "temperature=0.8 | sample",
    "let_without_version": "let main = sample",
    "stage_after_version": "dsl 1\nsample",
    "unknown_version": "dsl 2\nlet main = sample",
    "until_after_with": "sample with sample.seed=1 until eos",
    "keyword_as_stage": "temperature(0.8) | until | sample",
    "keyword_as_label": "temperature(0.8) as over | sample",
    "weight_without_block": "mix(0.5: 3) | sample",
    "chained_comparison": "when 0 < entropy < 1 { greedy } else { sample }",
    "missing_value": "temperature(value=) | sample",
    "schedule_without_length": "temperature(1 -> 2) | sample",
    "malformed_number": "temperature(0.8x) | sample",
    "number_without_digit": "temperature(.8) | sample",
    "number_without_digit_behind_another": "xtc(1,.1) | sample",
    "json": '{"dsl": 1, "main": ["sample"]}',
    "number_too_large": "top_k(99999999999999999999) | sample",
    "stray_character": "temperature(0.8) ; sample",
    "typographic_quote": "sample until stop(“a”)",
    "single_quote": "sample until stop('a')",
    "no_break_space": "temperature(0.8)\u00a0| sample",
    "letter_beyond_ascii": "temperatür(0.8) | sample",
    "unknown_escape": r'sample until stop("\d")',
    "short_escape": r'sample until stop("\u12")',
    "lone_surrogate": r'sample until stop("\ud83d")',
    "after_an_emoji": 'sample until stop("😀") or topp',
    "nested_too_deep": "temperature(" + "(" * 70 + "1" + ")" * 70 + ") | sample",
    # names and arguments
    "unknown_stage": "temperature(0.8) | topp(0.9) | sample",
    "unknown_stage_without_a_like": "qqq | sample",
    "unknown_signal": "when entropi < 1 { greedy } else { sample }",
    "unknown_criterion": "sample until eoss",
    "unknown_schedule": "temperature(1 -> 2 over 8 by cosinus) | sample",
    "unknown_argument": "top_p(0.9, min_kep=2) | sample",
    "unknown_argument_without_a_like": "top_p(0.9, q=2) | sample",
    "missing_argument": "top_p | sample",
    "missing_argument_of_a_criterion": "sample until max_tokens",
    "too_many_arguments": "min_p(0.9, 1, 2, 3) | sample",
    "argument_twice": "top_p(0.9, p=0.8) | sample",
    "out_of_range": "top_p(1.5) | sample",
    "out_of_range_below": "sample until max_tokens(0)",
    "out_of_range_schedule": "temperature(1 -> -1 over 8) | sample",
    "string_for_a_number": 'temperature("hot") | sample',
    "number_for_a_string": "sample until stop(3)",
    "number_for_a_string_in_a_list": 'sample until stop("a", 3)',
    "fraction_for_a_whole": "top_k(3.5) | sample",
    "truth_for_a_number": "temperature(true) | sample",
    "text_for_a_number": "temperature(tail) | sample",
    "name_for_a_number": "temperature(foo) | sample",
    "name_like_a_function": "temperature(mox(entropy, 1)) | sample",
    "nan": "temperature(nan) | sample",
    "minus_infinity": "temperature(-inf) | sample",
    "empty_marker": 'when within("", "x") { greedy } else { sample }',
    "list_for_a_marker": "thinking_budget(3, open=[1]) | sample",
    "marker_out_of_range": "thinking_budget(3, open=-1) | sample",
    "list_for_a_number": "temperature([1]) | sample",
    "block_for_a_number": "temperature({ greedy }) | sample",
    "schedule_for_a_plain_number": "sample until max_tokens(1 -> 2 over 3)",
    "expression_for_a_plain_number": "sample until max_tokens(entropy)",
    "no_such_choice": "repetition(1.1, dialect=llamacp) | sample",
    "wrong_map": 'bias(["a": "b"]) | sample',
    "empty_string": 'sample until stop("")',
    "division_by_zero": "temperature(1/0) | sample",
    "wrong_pattern": r'ban(r"(") | sample',
    "wrong_pattern_in_a_test": 'when tail ~ "(" { greedy } else { sample }',
    "arguments_of_a_function": "temperature(clamp(entropy, 1)) | sample",
    "no_weights": "top_p(0.5: { greedy }) | sample",
    "missing_weight": "mix({ top_p(0.9) }) | sample",
    "no_block": "top_p(0.9) { greedy } | sample",
    "missing_block": "best_of(4)",
    "compares_kinds": "when tail < 1 { greedy } else { sample }",
    "test_is_no_truth": "when entropy { greedy } else { sample }",
    "until_is_no_truth": "sample until eos and entropy",
    "schedule_over_signals": "temperature(1 -> entropy over 8) | sample",
    "schedule_over_nothing": "temperature(1 -> 2 over 0) | sample",
    # kinds
    "two_samplers": "temperature(0.8) | sample | greedy",
    "stage_after_sampler": "sample | top_p(0.9)",
    "stage_after_search": "best_of(4) { sample } | top_p(0.9)",
    "stage_after_when": "when entropy < 1 { greedy } else { sample } | sample",
    "no_sampler_in_a_search": "best_of(4) { temperature(0.8) }",
    "no_sampler_in_a_branch": "when entropy < 1 { greedy } else { top_p(0.9) }",
    "no_else": "when entropy < 1 { greedy } | sample",
    "sampler_in_mix": "mix(0.5: { sample }, 0.5: { greedy })",
    "search_in_a_search": "best_of(4) { best_of(2) { sample } }",
    "search_in_a_branch": "when entropy < 1 { best_of(2) { sample } } else { greedy }",
    "search_before_a_phase": "phases({ best_of(2) { sample } until max_tokens(2) }, { sample until eos })",
    "phases_in_a_branch": "when entropy < 1 { phases({ greedy until eos }, { sample }) } else { greedy }",
    "phases_in_mix": "mix(1: { phases({ top_p(0.9) until max_tokens(3) }, { top_k(3) }) }) | sample",
    "until_in_a_branch": "when entropy < 1 { greedy until eos } else { sample }",
    "criterion_in_a_pipeline": "eos | sample",
    "signal_in_a_pipeline": "entropy | sample",
    "processor_in_until": "sample until top_p(0.9)",
    "sampler_in_until": "sample until greedy",
    "criterion_in_a_condition": "when eos { greedy } else { sample }",
    # definitions, labels, patches
    "recursive_let": "dsl 1\nlet a = b | sample\nlet b = a\nlet main = a",
    "recursive_let_of_itself": "dsl 1\nlet main = main",
    "no_main": "dsl 1\nlet calm = temperature(0.3)",
    "let_needs_an_argument": "dsl 1\nlet a(k, p=0.9) = top_k(k) | top_p(p) | sample\nlet main = a(p=0.5)",
    "let_twice": "dsl 1\nlet a = sample\nlet a = greedy\nlet main = a",
    "unknown_let_argument": "dsl 1\nlet a(t=1) = temperature(t)\nlet main = a(u=2) | sample",
    "too_many_let_arguments": "dsl 1\nlet a(t=1) = temperature(t)\nlet main = a(1, 2) | sample",
    "let_with_two_untils": "dsl 1\nlet a = sample until eos\nlet main = a until max_tokens(3)",
    "label_of_several": "dsl 1\nlet a = top_k(3) | top_p(0.9)\nlet main = a as b | sample",
    "label_twice": "temperature(0.8) as a | temperature(0.9) as a | sample",
    "unknown_patch": "temperature(0.8) as heat | sample with heta.value=1",
    "unknown_patch_argument": "temperature(0.8) as heat | sample with heat.valu=1",
    "ambiguous_patch": "temperature(0.8) | temperature(0.9) | sample with temperature.value=1",
    "patch_out_of_range": "temperature(0.8) | sample with temperature.value=-1",
    "patch_without_a_field": "sample with seed=1",
    "unknown_pack": 'dsl 1\nuse "no_such_pack" as x\nlet main = sample',
    "file_from_text": 'dsl 1\nuse "./house.decode"\nlet main = sample',
    "too_many_stages": "dsl 1\nlet a0 = top_k(3)\n"
    + "".join(f"let a{i} = a{i - 1} | a{i - 1}\n" for i in range(1, 41))
    + "let main = a40 | sample",
    "too_many_written_stages": "top_k(3) | " * 3000 + "sample",
}


@pytest.mark.parametrize("name", CASES)
def test_text(name: str, golden: Golden) -> None:
    with pytest.raises(StrategyError) as caught:
        Strategy.parse(CASES[name])
    golden(f"{caught.value}\ncode: {caught.value.code}", f"errors/{name}.txt")


def test_each_mistake_has_words_of_its_own() -> None:
    said: dict[str, str] = {}
    for name, text in CASES.items():
        with pytest.raises(StrategyError) as caught:
            Strategy.parse(text)
        assert caught.value.where is not None or caught.value.code == "too-long", name
        said.setdefault(f"{caught.value.message} {caught.value.hint}", name)
    assert len(said) > 0.9 * len(CASES)


def test_no_sampler_where_a_whole_strategy_is_wanted(golden: Golden) -> None:
    with pytest.raises(StrategyError) as caught:
        whole(Strategy.parse("temperature(0.8) | top_p(0.9)"))
    golden(f"{caught.value}\ncode: {caught.value.code}", "errors/no_sampler.txt")
    whole(Strategy.parse("temperature(0.8) | sample"))


def test_the_first_mistake_in_the_text_is_the_one_told() -> None:
    text = r'temperature(-1) | topp(0.9) | stop("\q") | )'
    with pytest.raises(StrategyError) as caught:
        Strategy.parse(text)
    assert caught.value.column == text.index(r"\q") + 1
    with pytest.raises(StrategyError) as caught:
        Strategy.parse("temperature(-1) | topp(0.9) | greedy")
    assert caught.value.column == len("temperature(") + 1


DOCUMENTS = {
    "document_unknown_stage": {"dsl": 1, "main": {"pipeline": [{"temperature": 0.8}, {"topp": 0.9}, "sample"]}},
    "document_nan": {"dsl": 1, "main": {"pipeline": [{"temperature": math.nan}, "sample"]}},
    "document_out_of_range": {"dsl": 1, "main": {"pipeline": [{"stage": "top_p@1", "args": {"p": 1.5}}]}},
    "document_unknown_argument": {"dsl": 1, "main": {"pipeline": [{"top_p": {"q": 0.5}}]}},
    "document_unknown_revision": {"dsl": 1, "main": {"pipeline": [{"stage": "temperature@9", "args": {"value": 1}}]}},
    "document_unknown_key": {"dsl": 1, "main": {"pipelin": []}},
    "document_no_version": {"main": {"pipeline": []}},
    "document_version": {"dsl": 3, "main": {"pipeline": []}},
    "document_no_pipeline": {"dsl": 1, "main": {"until": "eos"}},
    "document_null": {"dsl": 1, "main": {"pipeline": [{"stage": "top_p@1", "args": {"p": None}}]}},
    "document_text_inside": {"dsl": 1, "main": {"pipeline": ["sample"], "until": "eos orr max_tokens(3)"}},
    "document_inner": {"dsl": 1, "main": [{"when": "entropy < 1", "then": ["greedy"], "else": [{"topp": 1}]}]},
    "document_until": {
        "dsl": 1,
        "main": {"pipeline": ["sample"], "until": {"any": [{"stop": "eos@1"}, {"stop": "eoss@1"}]}},
    },
    "document_two_names": {"dsl": 1, "main": [{"top_p": 0.5, "top_k": 3}]},
    "document_is_no_mapping": [1],
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document(name: str, golden: Golden) -> None:
    with pytest.raises(StrategyError) as caught:
        Strategy.from_dict(DOCUMENTS[name])  # type: ignore[arg-type]  # one of them is no mapping
    golden(f"{caught.value}\ncode: {caught.value.code}", f"errors/{name}.txt")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["sample", "greedy"], "two samplers"),
        (["sample", "top_k(3)"], "after the sampler"),
        (["best_of(2) { sample }", "top_k(3)"], "after the search"),
        (["when entropy < 1 { greedy } else { sample }", "sample"], "that ends in samplers"),
        (["top_k(3) as a", "top_p(0.9) as a"], "given twice"),
    ],
)
def test_the_same_rules_hold_for_what_is_built_in_python(parts: list[str], message: str) -> None:
    steps = [step for part in parts for step in from_text(part).pipeline]
    with pytest.raises(StrategyError, match=message):
        check(Strategy(tuple(steps)))


def test_what_parses_keeps_the_rules(documented: dict[str, str]) -> None:
    for name in ("classic", "greedy", "entropy", "within", "rules", "mix"):
        check(Strategy.parse(documented[name]))
    check(Strategy.parse("phases({ sample until eos }, { best_of(2) { sample until eos } until max_tokens(3) })"))
