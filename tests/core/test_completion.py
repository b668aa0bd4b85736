"""What comes out: fields that agree with each other, plain data, and forms that people look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from logitmill.core.errors import RequestError

Make = Callable[..., Any]
ASKED = {"logprobs": {"raw": 2, "final": 2}, "trace": True}
STRATEGIES = [
    "temperature(0.8) | top_k(9) | sample until max_tokens(6)",
    "best_of(2) { temperature(0.8) | sample } until max_tokens(4)",
    "when entropy > 2 { greedy } else { mix(0.5: { top_k(3) }, 0.5: { temperature(2) }) | sample } until step >= 5",
    "phases({ sample until max_tokens(2) }, { greedy until max_tokens(2) })",
]


@pytest.fixture(scope="module")
def shared(make_engine: Make) -> Any:
    return make_engine(max_length=60)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plain_data_is_json_and_complete(shared: Any, strategy: str) -> None:
    result = shared.generate("ab<c>", strategy, seed=3, **ASKED)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["text"] == result.text
    assert document["tokens"] == list(result.tokens)
    assert document["usage"] == {"prompt_tokens": 5, "completion_tokens": len(result.tokens), "reused_tokens": 0}
    assert result.usage.total_tokens == 5 + len(result.tokens)
    assert (
        len(document["logprobs"]["raw"])
        == len(document["logprobs"]["final"])
        == len(document["trace"])
        == len(result.tokens)
    )
    assert [item["token"] for item in document["logprobs"]["raw"]] == list(result.tokens)
    assert (document["seed"], document["error"], document["finish_reason"]) == (3, None, result.finish_reason)
    again = shared.generate("ab<c>", document["strategy"], seed=document["seed"])
    assert (again.tokens, again.strategy_hash) == (result.tokens, document["strategy_hash"])
    timings = result.timings
    assert timings.prefill_s > 0
    assert timings.decode_s > 0
    assert timings.tokens_per_second > 0
    assert timings.queued_s >= 0


def test_an_error_is_data_too(shared: Any) -> None:
    result = shared.generate("x" * 80, "greedy until max_tokens(3)")
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["finish_reason"] == "error"
    assert "the prompt has 80 tokens" in document["error"]
    assert "error=" in repr(result)
    assert "the prompt has 80 tokens" in result._repr_html_()
    with pytest.raises(RequestError):
        result.raise_for_error()
    fine = shared.generate("x", "greedy until max_tokens(3)")
    assert fine.raise_for_error() is fine


def test_what_people_look_at(shared: Any) -> None:
    result = shared.generate("abc", "greedy until max_tokens(40)", logprobs=0)
    assert str(result) == result.text
    assert repr(result).startswith("Completion(")
    assert len(repr(result)) < 600
    assert "finish_reason='length'" in repr(result)
    page = result._repr_html_()
    assert page.count('<span title="token ') == 40
    assert "greedy until max_tokens(40)" in page
    escaped = shared.generate("<b>&", "greedy until max_tokens(2)", echo=True)
    assert "<b>" not in escaped._repr_html_()
    assert "&lt;b&gt;&amp;" in escaped._repr_html_()


def test_special_tokens_are_not_in_the_text(shared: Any) -> None:
    eos = shared.vocab.eos_ids[0]
    result = shared.generate("abc", f"allow({eos}) | greedy until max_tokens(3)")
    assert (result.tokens, result.text) == ((eos,) * 3, "")
