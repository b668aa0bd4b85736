"""Programs as hypothesis makes them, and the programs that the language is documented by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

DOCUMENTED = {
    "classic": "temperature(0.8) | top_k(50) | top_p(0.95) | sample(seed=1)",
    "greedy": r'greedy until eos or max_tokens(64) or stop("\n\n")',
    "schedule": "temperature(1.2 -> 0.6 over 64 by cosine) | min_p(0.05) | sample",
    "entropy": "when entropy < 0.4 { greedy } "
    "else { temperature(clamp(0.3 + 0.2*entropy, 0.3, 1.2)) | top_p(0.95) | sample }",
    "within": 'when within("<think>", "</think>") { temperature(1.0) | top_p(0.98) } '
    "else { temperature(0.4) | min_p(0.1) } | sample",
    "rules": r'repetition(1.1, window=256) | when tail ~ r"\d$" { ban(r"[A-Za-z]") } '
    '| bias([" however": -2.0, 128009: -5]) | temperature(0.7) as heat | sample',
    "mix": "mix(0.7: { temperature(0.7) | top_p(0.9) }, 0.3: { temperature(1.4) | min_p(0.1) }) | sample(seed=7)",
    "speculative": 'speculative(draft="tiny", k=5) { temperature(0.8) | top_p(0.95) | sample } '
    r'until eos or (stop("\n\n") and not within("```", "```")) or timeout(30)',
    "phases": 'phases({ temperature(1.0) | sample until text("</think>") or max_tokens(2048) },\n'
    '       { best_of(4, by=mean_logprob) { contrast(amateur="tiny", alpha=0.1) | temperature(0.6) | sample } until eos })',
    "beam": 'beam(4, length_penalty=0.8) { json_schema("./invoice.json") } until eos or max_tokens(512)',
    "file": """dsl 1
use "acme_samplers" as acme
use "./house.decode"
let creative(t=0.9, p=0.95) = acme.quadratic(0.2) | temperature(t) | top_p(p) | sample
let main = creative(t=1.1) until eos or max_tokens(512) with sample.seed=3
""",
}


@pytest.fixture(scope="session")
def documented() -> dict[str, str]:
    """Every program of the language's description."""
    return DOCUMENTED


# Programs by the grammar, of registered stages, whatever they mean.

numbers = st.sampled_from(["0.5", "1", "0.25", "1e-3", "0.999", "1.5"])
whole = st.sampled_from(["1", "2", "40", "7"])
strings = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).map(
    lambda text: '"' + "".join(_escaped(char) for char in text) + '"'
)


def _escaped(char: str) -> str:
    if char in '"\\' or ord(char) < 32:
        return f"\\u{ord(char):04x}"
    return char


patterns = st.sampled_from([r'r"\d+$"', r'r"[A-Z]"', '"a|b"', r'r"\\"'])

signals = st.one_of(
    st.sampled_from(["entropy", "varentropy", "max_p", "margin", "step", "position", "raw.entropy", "raw.max_p"]),
    numbers,
)


def _wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, st.sampled_from("+-*"), inner)
    return st.one_of(
        pair.map(lambda p: f"{p[0]} {p[1]} {p[2]}"),
        pair.map(lambda p: f"({p[0]} {p[1]} {p[2]})*2"),
        inner.map(lambda x: f"-({x})"),
        st.tuples(inner, inner).map(lambda p: f"min({p[0]}, {p[1]})"),
        inner.map(lambda x: f"clamp({x}, 0.1, 2)"),
        inner.map(lambda x: f"exp(-1*({x})/100)"),
    )


expressions = st.recursive(signals, _wider, max_leaves=5)
comparisons = st.one_of(
    st.tuples(expressions, st.sampled_from("< <= > >= == !=".split()), expressions).map(" ".join),
    expressions.map(lambda x: f"{x} in [1, 2.5]"),
    patterns.map(lambda p: f"tail ~ {p}"),
    st.tuples(strings, strings).map(lambda p: f"within({p[0]}, {p[1]})"),
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, st.sampled_from(["and", "or"]), inner)
    return st.one_of(
        pair.map(lambda p: f"{p[0]} {p[1]} {p[2]}"),
        pair.map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        inner.map(lambda x: f"not ({x})"),
    )


conditions = st.recursive(comparisons, _joined, max_leaves=4)
criteria = st.one_of(
    st.sampled_from(["eos", "max_tokens(5)", "max_length(n=9)", "timeout(2.5)", "stop_ids(3, 5)", r'stop_regex(r"\d")']),
    st.lists(strings, min_size=1, max_size=3).map(lambda items: f"stop({', '.join(items)})"),
    comparisons,
)
tests = st.recursive(criteria, _joined, max_leaves=5)

ramps = st.tuples(numbers, numbers, whole, st.sampled_from(["", " by cosine", " by linear", " by exp"])).map(
    lambda p: f"{p[0]} -> {p[1]} over {p[2]}{p[3]}"
)
heats = st.one_of(numbers, ramps, expressions)
processors = st.one_of(
    heats.map(lambda v: f"temperature({v})"),
    whole.map(lambda k: f"top_k({k})"),
    st.sampled_from(["top_p(0.9)", "top_p(p=0.5, min_keep=2)", "min_p(0.05 -> 0.1 over 9)", "top_n_sigma(1.0)", "typical(0.9)"]),
    st.tuples(patterns, strings, whole).map(lambda p: f"ban({p[0]}, {p[1]}, {p[2]}, [1, 2])"),
    st.tuples(strings, numbers, whole).map(lambda p: f"bias([{p[0]}: -{p[1]}, {p[2]}: {p[1]}])"),
    st.sampled_from(["repetition(1.1, window=256)", "presence(0.4)", "frequency(0.2)", "no_repeat_ngram(3)", "{} | top_k(3)"]).filter(
        lambda text: not text.startswith("{")
    ),
)


def _blocked(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    fragment = st.lists(inner, max_size=2).map(" | ".join)
    return st.one_of(
        st.tuples(conditions, fragment).map(lambda p: f"when {p[0]} {{ {p[1]} }}"),
        st.tuples(conditions, fragment, fragment).map(lambda p: f"when {p[0]} {{ {p[1]} }} else {{ {p[2]} }}"),
        st.tuples(conditions, fragment, conditions, fragment).map(
            lambda p: f"when {p[0]} {{ {p[1]} }} else when {p[2]} {{ {p[3]} }}"
        ),
        st.tuples(fragment, fragment).map(lambda p: f"mix(0.7: {{ {p[0]} }}, 0.3: {{ {p[1]} }})"),
    )


stages = st.recursive(processors, _blocked, max_leaves=4)
samplers = st.sampled_from(["greedy", "sample", "sample(seed=3)", "when entropy < 1 { greedy } else { sample }"])
wholes = st.tuples(st.lists(stages, max_size=3), samplers).map(lambda p: " | ".join([*p[0], p[1]]))


def _searched(text: str) -> str:
    return f"best_of(3, by=mean_logprob) {{ {text} }}"


endings = st.one_of(st.just(""), tests.map(lambda test: f" until {test}"))
patches = st.sampled_from(["", " with heat.value=0.3", " with heat.value=1 -> 0.5 over 8"])
programs = st.one_of(
    st.tuples(wholes, endings).map("".join),
    st.tuples(stages, endings).map("".join),
    st.tuples(stages, wholes, endings, patches).map(lambda p: f"{p[0]} | temperature(1.1) as heat | {p[1]}{p[2]}{p[3]}"),
    st.tuples(wholes, endings).map(lambda p: _searched(p[0]) + p[1]),
    st.tuples(wholes, tests, wholes, endings).map(lambda p: f"phases({{ {p[0]} until {p[1]} }}, {{ {p[2]} }}){p[3]}"),
)


@pytest.fixture(scope="session")
def draw_program() -> Callable[[st.DataObject], str]:
    """Draws a legal strategy, as text."""
    return lambda data: data.draw(programs)
