"""Stages against llama.cpp itself: its recorded answers (vectors/, written by ``make vectors``).

What is kept has to be the same, token by token. Among tied logits llama.cpp promises no order, so there the kept
logits are compared, sorted. Probabilities agree to the rounding of float32, which llama.cpp computes and sums in.
"""

from __future__ import annotations

import base64
import functools
import json
import runpy
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from logitmill.core.dist import Dist
from logitmill.core.model.find import packaged_gguf
from logitmill.core.model.gguf import read_gguf
from logitmill.core.model.gguf_tokenizer import gguf_tokenizer
from logitmill.core.planner import plan
from logitmill.core.session import Session
from logitmill.core.strategy import Strategy, as_strategy

INF = float("inf")
VECTORS = Path(__file__).with_name("vectors")
INPUTS = runpy.run_path(str(VECTORS / "inputs.py"))
LLAMA = {"dialect": "llamacpp"}
CLOSE = 2e-6  # of probabilities; llama.cpp's expf and sums are float32's
WIDE, CUT = 10_000, 1e-4  # tokens in all; the probability of one at a cut, which float32 sums over so many may move

Case = dict[str, Any]

#: what llama.cpp's links are here. Its min_keep of 0 and negative sizes are its ways to say "off"
STAGES: dict[str, Any] = {
    "top_k": lambda of, k: [of("top_k", max(k, 0))],
    "top_p": lambda of, p, keep: [of("top_p", p, max(keep, 1))],
    "min_p": lambda of, p, keep: [of("min_p", p, max(keep, 1))],
    "typical": lambda of, p, keep: [of("typical", p, max(keep, 1), **LLAMA)],
    "top_n_sigma": lambda of, n: [of("top_n_sigma", n)],
    "xtc": lambda of, p, threshold, keep, seed: [of("xtc", p, threshold, min_keep=max(keep, 1))],
    "temp": lambda of, t: [of("temperature", max(t, 0.0))],
    "temp_ext": lambda of, t, spread, power: [
        of("dynamic_temperature", value=t, range=spread, exponent=power, **LLAMA)
    ],
    "penalties": lambda of, window, repeat, frequency, presence: [
        of(name, value, window=None if window == 64 else max(window, 0), **LLAMA)  # 64 is the dialect's own
        for name, value in (("repetition", repeat), ("frequency", frequency), ("presence", presence))
    ],
    "logit_bias": lambda of, pairs: [
        of("bias", tuple((token, float(bias)) for token, bias in pairs if bias != "-inf")),
        of("ban", tokens=tuple(token for token, bias in pairs if bias == "-inf")),
    ],
    "dry": lambda of, multiplier, base, allowed, window, breakers: [
        of("dry", multiplier if base >= 1 else 0.0, max(base, 1.0), allowed, max(window, 0), tuple(breakers), **LLAMA)
    ],
    "dist": lambda of, seed: [of("sample")],
    "greedy": lambda of: [of("greedy")],
    "mirostat": lambda of, seed, tau, eta, m: [of("mirostat", tau, eta, 1, m=m, **LLAMA)],
    "mirostat_v2": lambda of, seed, tau, eta: [of("mirostat", tau, eta, **LLAMA)],
    "adaptive_p": lambda of, target, decay, seed: [of("adaptive_p", target, min(decay, 0.99))],
}
NAMES = {
    "temp": ("temperature",),
    "temp_ext": ("dynamic_temperature",),
    "logit_bias": ("bias",),
    "mirostat_v2": ("mirostat",),
    "dist": ("sample",),
    "penalties": ("repetition", "frequency", "presence"),
}
SINGLE = [
    "top_k", "top_p", "min_p", "top_n_sigma", "typical", "xtc", "temp", "temp_ext", "penalties", "logit_bias", "dry",
]  # fmt: skip


@functools.cache
def file(name: str) -> dict[str, Any]:
    return json.loads((VECTORS / f"llamacpp-{name}.json").read_text(encoding="utf-8"))


def recorded(name: str) -> list[Case]:
    return file(name)["cases"]


@functools.cache
def singles() -> dict[str, list[Case]]:
    """The cases of one sampler each, by its name."""
    files = ("truncations", "typical", "xtc", "temperatures", "penalties", "logit_bias", "dry")
    cases = sorted((case for name in files for case in recorded(name)), key=lambda case: case["chain"][0][0])
    return {name: list(some) for name, some in groupby(cases, lambda case: case["chain"][0][0])}


def given(case: Case) -> Tensor:
    """float32 [1, V]."""
    return torch.frombuffer(bytearray(INPUTS["logits"](case["logits"])), dtype=torch.float32)[None]


def floats(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)


def kept(answer: Case, size: int) -> list[int]:
    """The ids left, ascending."""
    found = answer["kept"]
    if isinstance(found, list):
        return found
    if found == "all":
        return list(range(size))
    bits = base64.b64decode(found)
    return [i for i in range(size) if bits[i // 8] >> (7 - i % 8) & 1]


def logits_after(answer: Case, before: Tensor) -> Tensor:
    """float32 [1, V]: llama.cpp's logits after the chain, -inf where it removed a token."""
    left = kept(answer, before.shape[1])
    logits = before.clone()
    if answer["kept"] != "all":
        logits.fill_(-INF)[0, left] = before[0, left]
    if "changed" in answer:
        logits[0, left if answer["changed"] == "kept" else answer["changed"]] = floats(answer["to"])
    return logits


def law_after(answer: Case, size: int) -> Tensor:
    """float32 [V]: what llama.cpp drew from; where it only selected a token, that token."""
    law = torch.zeros(size)
    law[kept(answer, size) if "p" in answer else answer["token"]] = floats(answer["p"]) if "p" in answer else 1.0
    return law


def strategy(bench: Any, case: Case) -> Strategy:
    stages = [stage for name, *arguments in case["chain"] for stage in STAGES[name](bench.stage, *arguments)]
    return functools.reduce(lambda left, right: left | right, stages[1:], as_strategy(stages[0]))


def ours(bench: Any, case: Case, **more: Any) -> Tensor:
    """float32 [1, V]: our logits after the chain; those of its law, where it draws."""
    history = INPUTS["history"](case.get("history", []))
    split = len(history) // 3  # what is prompt and what was generated does not matter to llama.cpp
    return bench.law(strategy(bench, case), given(case), history[:split], history[split:], **more).dense().logits


def at_a_cut(mine: Tensor, theirs: Tensor, before: Tensor) -> bool:
    """Whether, in a wide vocabulary, they differ in a few tokens that weigh nothing."""
    probs, differ = before.double().softmax(-1), (mine > -INF) != (theirs > -INF)
    return before.shape[1] >= WIDE and 0 < int(differ.sum()) <= 4 and float(probs[differ].max()) < CUT


def same_logits(mine: Tensor, theirs: Tensor) -> bool:
    """What is left, sorted by logit: so that among ties it does not matter which."""
    left, others = (x[x > -INF].sort().values for x in (mine, theirs))
    return torch.equal(left, others)


def same_but_for_rounding(mine: Tensor, theirs: Tensor) -> bool:
    """From the best logit down, to a few roundings of the largest: one token left may have any logit."""
    largest = float(theirs[theirs > -INF].abs().max())
    mine, theirs = mine - mine.max(), theirs - theirs.max()
    return torch.allclose(mine[mine > -INF], theirs[theirs > -INF], rtol=1e-6, atol=1e-6 * max(largest, 1.0))


def apart(mine: Tensor, theirs: Tensor) -> float:
    """The largest difference of probabilities, ties put in order."""
    return float((mine.softmax(-1).sort().values - theirs.softmax(-1).sort().values).abs().max())


@pytest.mark.parametrize("name", SINGLE)
def test_one_sampler(bench: Any, parity: Any, name: str) -> None:
    """Truncations keep the same logits to the last bit; in one case in a hundred a wide one may differ at its cut."""
    worst, cuts, cases = 0.0, 0, singles()[name]
    for case in cases:
        before = given(case)
        mine, theirs = ours(bench, case), logits_after(case, before)
        if name in ("top_p", "typical") and at_a_cut(mine, theirs, before):
            cuts += 1
        elif "changed" not in case:
            assert same_logits(mine, theirs), case
        else:
            assert torch.equal(mine > -INF, theirs > -INF), case
            assert same_but_for_rounding(mine, theirs), case
            worst = max(worst, apart(mine, theirs))
    assert worst < CLOSE
    assert cuts <= len(cases) // 100
    for stage in NAMES.get(name, (name,)):
        parity.note(stage, "llama.cpp", worst, len(cases))


def test_xtc_acts_or_does_not(bench: Any) -> None:
    """llama.cpp's coin is its own; each answer is one of ours, and both come (one alone: 2 in 2^48)."""
    (spared,), (acted,) = (
        ours(bench, {**recorded("xtc_coin")[0], "chain": [["xtc", p, 0.05, 1, 1]]}) for p in (0.0, 1.0)
    )
    seen = [logits_after(case, given(case)) for case in recorded("xtc_coin")]
    assert all(torch.equal(one[0], spared) or torch.equal(one[0], acted) for one in seen)
    assert len({tuple(one[0].tolist()) for one in seen}) == 2


@pytest.mark.parametrize("as_written", [True, False])
def test_chains(bench: Any, parity: Any, as_written: bool) -> None:
    """llama.cpp's default order and others, stage by stage and as planned: what is drawn from at the end."""
    for case in recorded("chains"):
        mine, theirs = ours(bench, case, as_written=as_written), law_after(case, given(case).shape[1])
        assert int((mine > -INF).sum()) == (len(kept(case, len(theirs))) if "p" in case else 1), case
        difference = float((mine.softmax(-1)[0].sort().values - theirs.sort().values).abs().max())
        assert difference < CLOSE, case
        assert case["chain"][-1] != ["greedy"] or int(mine.argmax()) == case["token"], case
        for name, *_ in case["chain"]:
            for stage in NAMES.get(name, (name,)):
                parity.note(stage, "llama.cpp", difference)


@pytest.mark.parametrize("case", recorded("trajectories"), ids=lambda case: str(case["chain"]))
def test_trajectories(bench: Any, parity: Any, case: Case) -> None:
    """Each step's distribution, after the tokens that llama.cpp drew and accepted."""
    session, built, output = None, plan(strategy(bench, case)), []
    for step in case["steps"]:
        dist = Dist(given(step))
        ctx = bench.context(dist, (), output)
        session = session or Session.opened(built, ctx)
        proposal = session.propose(dist, ctx)
        difference = float((proposal.law().dense().probs[0] - law_after(step, dist.columns)).abs().max())
        assert difference < CLOSE, len(output)
        assert (proposal.law().dense().probs[0] > 0).nonzero()[:, 0].tolist() == kept(step, dist.columns)
        output.append(step["token"])
        session.commit(proposal, torch.tensor([output[-1:]]), bench.context(dist, (), output))
        for stage in NAMES.get(case["chain"][-1][0], (case["chain"][-1][0],)):
            parity.note(stage, "llama.cpp", difference)


@pytest.fixture(scope="module")
def smollm2() -> Any:
    """The tokenizer of the GGUF whose vocabulary llama.cpp was given."""
    path = packaged_gguf()
    assert path is not None
    return gguf_tokenizer(path, read_gguf(path))[0]


def test_dry_with_texts_as_breakers(bench: Any, parity: Any, smollm2: Any) -> None:
    """A row for each text, one chain after another."""
    cases = recorded("dry_texts")
    assert all(smollm2.encode(case["text"], add_special_tokens=False) == case["history"] for case in cases)
    for chain, rows in groupby(cases, lambda case: case["chain"]):
        some = list(rows)
        before = torch.cat([given(case) for case in some])
        law = bench.law(strategy(bench, some[0]), before, [case["history"] for case in some], tokenizer=smollm2)
        theirs = torch.cat([logits_after(case, given(case)) for case in some])
        torch.testing.assert_close(law.dense().logits, theirs, rtol=3e-7, atol=0.0, msg=str(chain))
        parity.note("dry", "llama.cpp", float((law.dense().probs - theirs.softmax(-1)).abs().max()), len(some))


@pytest.mark.parametrize("why", sorted({case["why"] for case in recorded("quirks")}))
def test_where_llamacpp_is_not_followed(bench: Any, why: str) -> None:
    """The reason is in the vector. Ours is a distribution there; that theirs differs shows the exception is needed."""
    cases = [case for case in recorded("quirks") if case["why"] == why]
    different = 0
    for case in cases:
        mine, theirs = ours(bench, case), logits_after(case, given(case))
        assert abs(float(mine.double().softmax(-1).sum()) - 1.0) < 1e-9, case
        different += not torch.equal(mine > -INF, theirs > -INF) or not apart(mine, theirs) < CLOSE
    assert different


def test_one_version_answered_everything() -> None:
    """The one that constraints.txt pins: a raised pin wants `make vectors`."""
    answered = {
        file(path.stem.removeprefix("llamacpp-"))["peer"]["llama-cpp-python"] for path in VECTORS.glob("*.json")
    }
    pinned = (VECTORS.parents[2] / "constraints.txt").read_text(encoding="utf-8")
    assert [f"llama-cpp-python=={version}\n" in pinned for version in answered] == [True]
    assert set(SINGLE) == singles().keys()
    assert all(len(cases) >= 20 for cases in singles().values())
