"""Stages that look at the sequence against transformers' processors, in process: to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

INF = float("inf")
VOCAB = 23
SPLITS = (0, 1, 4, 9, 12)  # where a sequence of twelve tokens is cut into prompt and output

_random = torch.Generator().manual_seed(11)
TOKENS = [*torch.randint(0, 5, (5, 12), generator=_random).tolist(), [1, 2] * 6, [3] * 12, list(range(12))]
_normal = torch.randn(len(TOKENS), VOCAB, generator=_random)
LOGITS = {
    "smooth": _normal * 3,
    "far": _normal * 1e4,
    "removed": (_normal * 3).masked_fill(torch.arange(VOCAB) % 3 == 2, -INF),
    "ties": (_normal * 2).round(),
    "half": (_normal * 3).half().float(),
    "zero": torch.zeros(len(TOKENS), VOCAB),
}
any_logits = pytest.mark.parametrize("logits", list(LOGITS.values()), ids=list(LOGITS))


def compare(parity: Any, stage: str, ours: Tensor, theirs: Tensor) -> None:
    """Equal bit for bit, but for rows of which transformers leaves nothing: there our best token stays."""
    left = (theirs > -INF).any(-1)
    assert left.any()
    assert torch.equal(ours[left], theirs[left])
    assert ((ours[~left] > -INF).sum(-1) == 1).all()
    difference = (ours[left].softmax(-1) - theirs[left].softmax(-1)).abs().max().item()
    parity.note(stage, "transformers", difference, cases=int(left.sum()))


def cut(at: int) -> tuple[list[list[int]], list[list[int]]]:
    return [row[:at] for row in TOKENS], [row[at:] for row in TOKENS]


def ids(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64)


@any_logits
@pytest.mark.parametrize("at", SPLITS)
def test_repetition_of_the_output_alone(bench: Any, parity: Any, logits: Tensor, at: int) -> None:
    for penalty in (0.5, 1.3):
        theirs = hf.RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=at)(ids(TOKENS), logits)
        ours = bench.apply(bench.stage("repetition", penalty, over="output"), logits, *cut(at))
        compare(parity, "repetition", ours, theirs)


@any_logits
@pytest.mark.parametrize("at", SPLITS[1:])
def test_encoder_repetition_is_the_inverse_over_the_prompt(bench: Any, parity: Any, logits: Tensor, at: int) -> None:
    prompt, output = cut(at)
    for penalty in (0.5, 1.0, 1.3):
        theirs = hf.EncoderRepetitionPenaltyLogitsProcessor(penalty, ids(prompt))(ids(TOKENS), logits)
        ours = bench.apply(bench.stage("repetition", 1 / penalty, over="prompt"), logits, prompt, output)
        compare(parity, "repetition", ours, theirs)


@any_logits
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_encoder_no_repeat_ngram(bench: Any, parity: Any, logits: Tensor, n: int) -> None:
    """The n-grams of the prompt alone; the tokens before the next one may be of the output."""
    for at in SPLITS[1:]:
        prompt, output = cut(at)
        theirs = hf.EncoderNoRepeatNGramLogitsProcessor(n, ids(prompt))(ids(TOKENS), logits)
        ours = bench.apply(bench.stage("no_repeat_ngram", n, over="prompt"), logits, prompt, output)
        compare(parity, "no_repeat_ngram", ours, theirs)


WORDS = [[7], [1, 2], [2, 1], [3, 3, 3], [4, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [5, 9], [1], [8, 8]]


@any_logits
@pytest.mark.parametrize("eos", [None, 1, [7, 1], [3]])
def test_bad_words(bench: Any, parity: Any, logits: Tensor, eos: Any) -> None:
    """A word that is just an end-of-sequence token is passed over; one that ends in it is not."""
    ends = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    for tokens in (TOKENS, [row[:1] for row in TOKENS]):
        theirs = hf.NoBadWordsLogitsProcessor(WORDS, eos_token_id=eos)(ids(tokens), logits)
        ours = bench.apply(bench.stage("bad_words", *WORDS), logits, tokens, eos=ends)
        compare(parity, "bad_words", ours, theirs)


def test_bad_words_of_nothing_but_the_end(bench: Any, parity: Any) -> None:
    logits = LOGITS["smooth"]
    theirs = hf.NoBadWordsLogitsProcessor([[2]], eos_token_id=2)(ids(TOKENS), logits)
    assert torch.equal(theirs, logits)
    compare(parity, "bad_words", bench.apply(bench.stage("bad_words", [2]), logits, TOKENS, eos=(2,)), theirs)


def same_law(parity: Any, stage: str, ours: Tensor, theirs: Tensor) -> None:
    """transformers gives a forced token the logit 0 and we leave its own: the same distribution."""
    assert torch.equal(ours > -INF, theirs > -INF)
    assert torch.equal(ours.softmax(-1), theirs.softmax(-1))
    parity.note(stage, "transformers", (ours.softmax(-1) - theirs.softmax(-1)).abs().max().item(), cases=len(ours))


def test_forced_first_token(bench: Any, parity: Any) -> None:
    """After a sequence of one token, and at no other place."""
    logits = LOGITS["smooth"]
    for length in (1, 2, 5):
        tokens = [row[:length] for row in TOKENS]
        theirs = hf.ForcedBOSTokenLogitsProcessor(5)(ids(tokens), logits)
        for prompt, output in ((tokens, []), ([[]] * len(tokens), tokens)):
            ours = bench.apply(bench.stage("force", 5, at=1, over="all"), logits, prompt, output)
            same_law(parity, "force", ours, theirs)


@pytest.mark.parametrize("length", [3, 8, 12, 13, 14])
def test_forced_last_token(bench: Any, parity: Any, length: int) -> None:
    logits = LOGITS["ties"]
    theirs = hf.ForcedEOSTokenLogitsProcessor(length, 7)(ids(TOKENS), logits)
    ours = bench.apply(bench.stage("force", 7, at=length - 1, over="all"), logits, *cut(4))
    same_law(parity, "force", ours, theirs)


@any_logits
@pytest.mark.parametrize(("start", "factor"), [(0, 1.02), (2, 1.5), (2, 0.9), (7, 2.0), (8, 1.1), (99, 2.0)])
def test_length_decay(bench: Any, parity: Any, logits: Tensor, start: int, factor: float) -> None:
    for at in (0, 4, 11, 12):
        for eos in ([5], [5, 9, 2]):
            theirs = hf.ExponentialDecayLengthPenalty((start, factor), eos, at)(ids(TOKENS), logits)
            ours = bench.apply(bench.stage("length_decay", start, factor), logits, *cut(at), eos=tuple(eos))
            compare(parity, "length_decay", ours, theirs)


@any_logits
@pytest.mark.parametrize("length", [0, 1, 11, 12, 13, 40])
def test_min_length_counts_the_prompt(bench: Any, parity: Any, logits: Tensor, length: int) -> None:
    for at in SPLITS:
        theirs = hf.MinLengthLogitsProcessor(length, [2, 9])(ids(TOKENS), logits)
        ours = bench.apply(bench.stage("min_tokens", length, over="all"), logits, *cut(at), eos=(2, 9))
        compare(parity, "min_tokens", ours, theirs)


@any_logits
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40])
def test_min_new_tokens(bench: Any, parity: Any, logits: Tensor, length: int) -> None:
    theirs = hf.MinNewTokensLengthLogitsProcessor(4, length, [2, 9])(ids(TOKENS), logits)
    ours = bench.apply(bench.stage("min_tokens", length), logits, *cut(4), eos=(2, 9))
    compare(parity, "min_tokens", ours, theirs)


@any_logits
@pytest.mark.parametrize("at", [1, 4, 11, 12])
def test_tokens_held_back_at_the_beginning_alone(bench: Any, parity: Any, logits: Tensor, at: int) -> None:
    """No stage of its own: a ban under a condition."""
    theirs = hf.SuppressTokensAtBeginLogitsProcessor([3, 4, 8], begin_index=at)(ids(TOKENS), logits)
    for split in (at, at - 1):
        prompt, output = cut(split)
        ours = bench.law(f"when step == {at - split} {{ ban(3, 4, 8) }}", logits, prompt, output).dense().logits
        compare(parity, "ban", ours, theirs)
