"""Detectors find what the stages leave, and nothing where there is nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import logitmill as lm
from logitmill import RequestError, detect_synthid, detect_watermark
from logitmill.samplers.detection import DETECTORS, detect
from logitmill.samplers.synthid import Synthid
from logitmill.samplers.watermark import Watermark

VOCAB = 257


def written(make_engine: Any, strategy: str, seed: int = 3, tokens: int = 120) -> list[int]:
    """What the tiny model writes under a strategy."""
    out = make_engine().generate("Once", f"{strategy} | sample until max_tokens({tokens})", seed=seed)
    assert out.error is None
    return list(out.tokens)


@pytest.mark.parametrize(
    "text",
    [
        "watermark(0.25, 4.0)",
        "watermark(0.5, 4.0, context=2, key=99)",
        'watermark(0.25, 4.0, dialect="hf")',
        'watermark(0.25, 6.0, scheme="selfhash", context=2, dialect="hf")',
    ],
)
def test_a_watermark_is_found_and_only_under_its_key(make_engine: Any, text: str) -> None:
    stage: Any = lm.Strategy.parse(text).pipeline[0].stage
    tokens = written(make_engine, f"temperature(2.0) | {text}")
    mine = detect_watermark(tokens, stage, vocab_size=VOCAB)
    other = detect_watermark(tokens, stage.__class__(**{**dict(stage), "key": stage.key + 1}), vocab_size=VOCAB)
    assert mine.p_value < 1e-6
    assert mine.found > 1.5 * mine.expected
    assert other.p_value > 1e-4
    assert detect(tokens, stage, vocab_size=VOCAB) == mine


def test_synthid_is_found_and_only_under_its_keys(make_engine: Any) -> None:
    keys = (654, 400, 836, 123, 340, 443, 597, 160, 57)
    stage = Synthid(keys)
    tokens = written(make_engine, f"temperature(2.0) | synthid([{', '.join(map(str, keys))}])", tokens=200)
    for method in ("mean", "weighted"):
        assert detect_synthid(tokens, stage, method=method).p_value < 1e-6
        assert detect_synthid(tokens, Synthid(tuple(k + 1 for k in keys)), method=method).p_value > 1e-4


def test_p_values_of_unmarked_text_are_what_they_say() -> None:
    """Of 400 random texts 20 are expected below 0.05; above 45 (5.7 standard deviations) comes once in 1e-7 runs."""
    random = torch.Generator().manual_seed(1)
    texts = torch.randint(0, 5000, (400, 120), generator=random).tolist()
    for stage in (Watermark(), Watermark(0.5, context=3), Synthid((3, 14, 15))):
        low = sum(detect(text, stage, vocab_size=5000).p_value < 0.05 for text in texts)
        assert 2 <= low <= 45


def test_the_numbers_by_hand() -> None:
    """Everything green in ten places at 1/4: z = 7.5 / sqrt(10 * 3/16), p = 4 ** -10."""
    from logitmill.samplers.watermark import green

    stage, text = Watermark(), [0]
    while len(text) < 11:
        candidates = torch.arange(1, 200)[None]
        hits = green(stage, torch.tensor([[[text[-1]]]]), candidates)[0]
        text.append(next(int(t) for t in candidates[0][hits] if int(t) not in text))
    found = detect_watermark(text, stage)
    assert (found.scored, found.found, found.expected) == (10, 1.0, 0.25)
    assert found.z == pytest.approx(7.5 / math.sqrt(10 * 3 / 16))
    assert found.p_value == pytest.approx(4.0**-10)
    twice = detect_watermark(text + text, stage)
    assert twice.scored == 11  # ten n-grams again, and the one at the seam
    assert detect_watermark(text + text, stage, repeats=True).scored == 21


def test_what_cannot_be_looked_at_is_said() -> None:
    with pytest.raises(RequestError, match="a text of 1 tokens has no place to look at: 2 tokens are the least"):
        detect_watermark([5])
    with pytest.raises(RequestError, match="pass vocab_size="):
        detect_watermark([5, 6], Watermark(dialect="hf"))
    with pytest.raises(RequestError, match="token id 9 is outside the vocabulary of 8"):
        detect_watermark([5, 9], Watermark(dialect="hf"), vocab_size=8)
    with pytest.raises(RequestError, match="one list of them, got 'a'"):
        detect_watermark(["a", 3])  # type: ignore[list-item]
    with pytest.raises(RequestError, match="token id 9 is outside the vocabulary of 8"):
        detect([5, 9], Watermark(), vocab_size=8)
    for text in (None, "abc", 5):
        with pytest.raises(RequestError, match=f"got {type(text).__name__}"):
            detect_synthid(text, Synthid((1,)))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="outside the vocabulary"):
        detect_watermark([2**70, 3])
    for stage in (lm.top_k(2), "watermark", lm.Strategy.parse("watermark")):
        with pytest.raises(RequestError, match="a watermark stage is wanted, as it was written in the strategy"):
            detect_watermark([1, 2, 3], stage)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="5 tokens are the least"):
        detect_synthid([1, 2, 3], Synthid((1,)))
    with pytest.raises(RequestError, match="without keys"):
        detect_synthid([1, 2, 3, 4, 5], Synthid(()))
    with pytest.raises(RequestError, match="leaves no watermark: there are watermark, synthid"):
        detect([1, 2], lm.top_k(3))
    assert set(DETECTORS) == {"watermark", "synthid"}


def test_the_end_of_sequence_and_what_follows_are_left_out() -> None:
    tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    assert detect_synthid([*tokens, 0, 8, 8, 7, 7, 6], Synthid((1, 2)), eos=[0]) == detect_synthid(
        tokens, Synthid((1, 2))
    )
