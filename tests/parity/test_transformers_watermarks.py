"""Watermarks against transformers' processors and detectors, in process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.generation import logits_process as hf
from transformers.generation.watermarking import WatermarkDetector

from logitmill import detect_watermark
from logitmill.samplers.detection import detect_synthid
from logitmill.samplers.synthid import Synthid, all_g_values
from logitmill.samplers.watermark import Watermark

VOCAB, ROWS = 211, 5
KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57]


def random_rows(seed: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(ROWS, VOCAB, generator=random) * 3
    return logits, torch.randint(0, VOCAB, (ROWS, tokens), generator=random)


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
@pytest.mark.parametrize(
    ("ratio", "bias", "key", "context"), [(0.25, 2.0, 15485863, 1), (0.6, -0.5, 7, 3), (0.1, 9.0, 2**40, 2)]
)
def test_green_lists(bench: Any, parity: Any, scheme: str, ratio: float, bias: float, key: int, context: int) -> None:
    peer = hf.WatermarkLogitsProcessor(VOCAB, "cpu", ratio, bias, key, scheme, context)
    stage = bench.stage("watermark", ratio, bias, key, context, scheme, "hf")
    for seed in range(4):
        logits, tokens = random_rows(seed, 6)
        theirs = peer(tokens, logits)
        assert not torch.equal(theirs, logits)
        ours = bench.apply(stage, logits, tokens[:, :2].tolist(), tokens[:, 2:].tolist())
        assert torch.equal(ours, theirs)
        parity.note("watermark", "transformers", 0.0, ROWS)


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
def test_counts_of_the_detector(parity: Any, scheme: str) -> None:
    config = {"greenlist_ratio": 0.3, "bias": 2.0, "hashing_key": 11, "seeding_scheme": scheme, "context_width": 2}
    model = SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False, vocab_size=VOCAB)
    stage = Watermark(0.3, 2.0, 11, 2, scheme, "hf")
    # lefthash: the detector hands over the whole context and its last token seeds, as in generation
    _, tokens = random_rows(9, 40)
    tokens[0, 20:] = tokens[0, :20]
    for repeats in (False, True):
        theirs = WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=not repeats)(tokens, return_dict=True)
        for row in range(ROWS):
            ours = detect_watermark(tokens[row], stage, vocab_size=VOCAB, repeats=repeats)
            assert ours.scored == theirs.num_tokens_scored[row]
            assert ours.found == pytest.approx(theirs.green_fraction[row])
            assert ours.z == pytest.approx(theirs.z_score[row])
        parity.note("watermark", "transformers", 0.0, ROWS)


@pytest.mark.parametrize("skip_first", [False, True])
@pytest.mark.parametrize(("ngram", "history", "vocab"), [(5, 1024, VOCAB), (3, 1024, 4), (2, 3, 5), (4, 2, 3)])
def test_tournament(bench: Any, parity: Any, skip_first: bool, ngram: int, history: int, vocab: int) -> None:
    """Step by step over an output, as transformers' own state moves: small vocabularies repeat their contexts."""
    peer = hf.SynthIDTextWatermarkLogitsProcessor(ngram, KEYS, 2**16, 3, history, torch.device("cpu"), skip_first)
    stage = Synthid(tuple(KEYS), ngram, history, 3, 2**16, skip_first)
    random = torch.Generator().manual_seed(ngram)
    prompt = torch.randint(0, vocab, (ROWS, 4), generator=random)
    output = torch.randint(0, vocab, (ROWS, 24), generator=random)
    plain, worst = 0, 0.0
    for step in range(24):
        logits = torch.randn(ROWS, vocab, generator=random)
        theirs = peer(torch.cat([prompt, output[:, :step]], -1), logits)
        ours = bench.apply(stage, logits, prompt.tolist(), output[:, :step].tolist())
        plain += int((theirs == logits).all(-1).sum())
        assert torch.equal((ours == logits).all(-1), (theirs == logits).all(-1))
        difference = (ours.softmax(-1) - theirs.softmax(-1)).abs().max()
        assert difference < 1e-6
        worst = max(worst, float(difference))
    assert (plain > 0) == (skip_first or vocab < 10)
    parity.note("synthid", "transformers", worst, 24 * ROWS)


def test_g_values_and_repeated_contexts(parity: Any) -> None:
    peer = hf.SynthIDTextWatermarkLogitsProcessor(4, KEYS, 2**16, 0, 6, torch.device("cpu"))
    stage = Synthid(tuple(KEYS), 4, 6)
    tokens = torch.randint(0, 3, (ROWS, 50), generator=torch.Generator().manual_seed(1))
    g, fresh = peer.compute_g_values(tokens), peer.compute_context_repetition_mask(tokens)
    for row in range(ROWS):
        assert torch.equal(all_g_values(stage, tokens[row].tolist()), g[row])
        found = detect_synthid(tokens[row], stage, method="mean")
        assert found.scored == int(fresh[row].sum())
        assert found.found == pytest.approx(float(g[row][fresh[row]].double().mean()))
    parity.note("synthid", "transformers", 0.0, ROWS)
