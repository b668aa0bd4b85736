"""A strategy in a peer's words: the same work, or an error."""

from __future__ import annotations

import pytest

from logitmill.core.errors import StrategyError, UsageError
from logitmill.plugins.bench.sampling import USUAL, pipeline, settings_for

SAMPLED = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}


def test_the_usual_strategies_in_each_peers_words():
    sampled, greedy = pipeline("sampled"), pipeline("greedy")
    assert SAMPLED.items() <= settings_for("hf", sampled).items()
    assert settings_for("hf", sampled)["do_sample"] is True
    assert settings_for("hf", greedy)["do_sample"] is False
    assert settings_for("vllm", sampled) == SAMPLED
    assert settings_for("vllm", greedy) == {"temperature": 0.0}
    assert settings_for("llamacpp", greedy) == {"samplers": [["greedy"]]}
    assert settings_for("llamacpp", sampled) == {
        "samplers": [["temperature", 0.8], ["top_k", 50], ["top_p", 0.95], ["dist"]]
    }


@pytest.mark.parametrize("peer", ["hf", "vllm", "llamacpp"])
def test_no_peer_is_told_how_long_a_row_is(peer: str):
    told = settings_for(peer, pipeline("min_p(0.1) | sample"))
    assert not {"max_new_tokens", "max_tokens", "n_predict", "ignore_eos"} & set(told)


def test_llamacpps_chain_is_in_the_strategys_order():
    assert settings_for("llamacpp", pipeline("min_p(0.1) | temperature(2) | xtc(0.5, 0.1) | sample"))["samplers"] == [
        ["min_p", 0.1], ["temperature", 2.0], ["xtc", 0.5, 0.1], ["dist"]
    ]  # fmt: skip


@pytest.mark.parametrize("peer", ["hf", "vllm", "llamacpp"])
def test_what_a_peer_has_not_is_an_error_that_names_it(peer: str):
    with pytest.raises(StrategyError, match=r"quadratic\(0\.3\): .* has no such stage") as caught:
        settings_for(peer, pipeline("quadratic(0.3) | sample"))
    assert caught.value.hint == "the two would not do the same work: leave it out, or measure without a peer"


def test_a_sampler_of_llamacpp_that_the_chain_here_lacks():
    strategy = pipeline("mirostat(3, 0.1)")
    with pytest.raises(StrategyError, match=r"mirostat is not measured here: the chain may have temperature, top_k"):
        settings_for("llamacpp", strategy)


def test_a_strategy_with_an_end_of_its_own():
    with pytest.raises(UsageError, match=r"--tokens.*leave out 'until \.\.\.'"):
        pipeline("greedy until eos")


def test_every_usual_name_is_a_strategy():
    assert [pipeline(name).to_text() for name in USUAL] == [pipeline(text).to_text() for text in USUAL.values()]
