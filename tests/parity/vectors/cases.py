"""What llama.cpp is asked: chains of its samplers, inputs, histories. One file of answers for each key of FILES.

A link is [name, argument, ...], the arguments those of llama_sampler_init_<name> without the size of the vocabulary.
Seeds of samplers that draw are 1; nothing that is compared depends on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from inputs import integers

Case = dict[str, Any]
GONE = "-inf"

NORMAL = [
    *(["normal", v, 10 + v, 2.0] for v in (1, 2, 3, 8, 33, 97, 300)),
    *(["normal", 33, seed, scale] for seed, scale in ((1, 0.25), (2, 1.0), (3, 5.0), (4, 9.0))),
    ["normal", 97, 5, 1.0],
]
TIES = [
    *(["grid", v, 20 + v, step] for v, step in ((5, 1.0), (33, 0.25), (97, 0.5))),
    *(["flat", v, value] for v, value in ((2, 0.0), (4, 3.5), (10, -7.0), (33, 100.0))),
    ["values", [1, 1, 0, 0, -1, -1]],
    ["values", [2, 2, 2, 1]],
]
SHAPED = [
    ["peak", 12, 3, 50.0],
    ["peak", 12, 0, 3.0],
    ["stairs", 16, 0.5],
    ["stairs", 7, 3.0],
    ["values", [-1, -2, -3.5, -100]],
    ["values", [-0.5]],
]
REMOVED = [["holes", 33, 7, 2.0], ["holes", 97, 8, 1.0], ["values", [GONE, 1.5, GONE]], ["values", [GONE, 1, 1, GONE]]]
FAR = [["values", [3e38, -3e38, 0, 3e38]], ["values", [-3e38, -3.1e38, -3.2e38]]]
HUGE = [["normal", 33, 30, 1e4], ["values", [1e4, 9999.5, 9999, -1e4]], *FAR]
#: no candidate's probability is exactly 0, in float32
POSITIVE = [*NORMAL, *TIES, *(s for s in SHAPED if s[-1] != [-1, -2, -3.5, -100])]
SOME = [*NORMAL, *TIES, *SHAPED, *REMOVED, *HUGE]
WIDE = [["normal", 32000, 40, 2.0], ["normal", 32000, 41, 1.0], ["grid", 32000, 42, 0.5]]
SMALL = [s for s in SOME if s not in FAR and (s[0] == "values" or s[1] <= 33)]


def each(links: Iterable[list[Any]], specs: Iterable[list[Any]], **more: Any) -> Iterator[Case]:
    """Each link alone on each input."""
    for link, spec in itertools.product(links, list(specs)):
        yield {"chain": [link], "logits": spec, **more}


def truncations() -> Iterator[Case]:
    yield from each([["top_k", k] for k in (-1, 0, 1, 2, 5, 40, 128, 200, 1000)], SOME)
    yield from each([["top_p", p, 1] for p in (0.0, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0)], SOME)
    yield from each([["top_p", 0.5, keep] for keep in (0, 3, 50)], SOME)
    yield from each([["min_p", p, 1] for p in (0.0, 0.01, 0.05, 0.3, 1.0)], SOME)
    yield from each([["min_p", 0.3, keep] for keep in (0, 3, 50)], SOME)
    near = [s for s in SOME if s not in FAR]
    yield from each([["top_n_sigma", n] for n in (-1.0, 0.0, 0.5, 1.0, 2.0, 10.0)], near)
    yield from each([["top_k", 40], ["top_k", 500], ["top_p", 0.9, 1], ["top_p", 0.2, 1]], WIDE)
    yield from each([["min_p", 0.05, 1], ["top_n_sigma", 2.0]], WIDE)


def typical() -> Iterator[Case]:
    """On candidates of positive probability: see quirks for the others."""
    yield from each([["typical", p, 1] for p in (0.0, 0.2, 0.5, 0.91, 0.99, 1.0)], POSITIVE)
    yield from each([["typical", 0.5, keep] for keep in (0, 3, 50)], POSITIVE)
    yield from each([["typical", p, 1] for p in (0.2, 0.9)], REMOVED, alive=True)
    yield from each([["typical", 0.5, 1]], WIDE)


def xtc() -> Iterator[Case]:
    acting = [["xtc", 1.0, t, 1, 1] for t in (0.01, 0.05, 0.1, 0.25, 0.5, 0.51, 1.0)]
    yield from each([*acting, ["xtc", 0.0, 0.1, 1, 1]], SOME)
    yield from each([["xtc", 1.0, 0.0, 1, 1]], [*NORMAL, *TIES, *SHAPED])
    yield from each([["xtc", 1.0, 0.02, keep, 1] for keep in (0, 5, 30)], SOME)
    yield from each([["xtc", 1.0, 0.0001, 1, 1]], WIDE)


def xtc_coin() -> Iterator[Case]:
    """Each seed's first step: the coin falls one way or the other."""
    yield from each([["xtc", 0.5, 0.05, 1, seed] for seed in range(48)], [["normal", 33, 12, 1.0]])


def temperatures() -> Iterator[Case]:
    yield from each([["temp", t] for t in (-1.0, 0.0, 0.1, 0.7, 1.0, 1.5, 5.0)], SMALL)
    triples = [(1.0, 0.5, 1.0), (0.5, 0.8, 2.0), (0.8, 0.0, 1.0), (1.0, 1.0, 0.5), (0.0, 0.5, 1.0), (1.0, 0.5, 0.0)]
    some = [s for s in SMALL if s not in REMOVED and s not in HUGE and s[-1] != 50.0]
    yield from each([["temp_ext", *t] for t in triples], some)
    yield from each([["temp_ext", 1.0, 0.5, 1.0]], REMOVED, alive=True)
    yield from each([["temp", 0.7], ["temp_ext", 1.0, 0.5, 1.0]], [["normal", 97, 5, 1.0], ["grid", 97, 117, 0.5]])


HISTORIES = [[], [2], [0, 1, 2, 2, 1, 0, 0], [1, *integers(40, 3, 33)], [*integers(100, 4, 33), [[2], 70], 1]]


def penalties() -> Iterator[Case]:
    values = [(1.3, 0.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.0, 0.5), (1.1, 0.2, 0.4), (0.7, -0.3, -0.2), (2.0, 0.0, -1.0)]
    specs = [["normal", 33, 43, 2.0], ["grid", 33, 53, 0.5], ["holes", 33, 7, 2.0], ["normal", 33, 30, 1e4]]
    for history, value, spec in itertools.product(HISTORIES, values, specs):
        yield {"chain": [["penalties", 64, *value]], "logits": spec, "history": history}
    for history, window in itertools.product(HISTORIES[1:], (-1, 0, 1, 3, 200)):
        yield {"chain": [["penalties", window, 1.3, 0.1, 0.2]], "logits": specs[0], "history": history}


def logit_bias() -> Iterator[Case]:
    tables = [[], [[0, 1.5]], [[2, -3.0], [1, 0.25]], [[1, 1.0], [1, 0.5], [0, -1e4]], [[2, 1e30]]]
    specs = [["normal", 33, 43, 2.0], ["holes", 33, 7, 2.0], ["values", [GONE, 1.5, GONE]], ["grid", 97, 9, 0.25]]
    yield from each([["logit_bias", table] for table in tables], specs)
    banning = [[[1, GONE], [2, -3.0]], [[0, GONE], [1, 2.0], [2, GONE]]]
    yield from each([["logit_bias", table] for table in banning], specs[::3])


LOOPS = [
    [],
    [1, 2, 3],
    [1, 2, 3, 1, 2],
    [1, 2, 3, 1, 2, 3, 1, 2],
    [[[5], 30]],
    [[[1, 2], 20]],
    [[[1, 2, 3, 4], 12], 1, 2],
    [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6],
    [[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2], 11, [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 1]],
    [7, 8, 9, 1, 7, 8, 9, 2, 6, 7, 8, 9],
    [4, 7, 8, 9, 4, 7, 8, 9, 4, 5, 6, 4, 7, 8],
    [*integers(60, 5, 3)],
    [*integers(90, 6, 2)],
    [*integers(200, 7, 4)],
    [*integers(300, 8, 12)],
]
BREAKERS = [[], [3], [1, 9], [[1, 2]], [[4, 7, 8], 5], [[2, 3], [2], [9, 1, 7]], [[8, 9], [7, 8, 9]]]


def dry() -> Iterator[Case]:
    flat = ["flat", 13, 0.0]
    for history, breakers in itertools.product(LOOPS, BREAKERS):
        yield {"chain": [["dry", 0.8, 1.75, 2, 64, breakers]], "logits": flat, "history": history}
    for history, allowed in itertools.product(LOOPS, (0, 1, 3, 5, 40)):
        yield {"chain": [["dry", 0.8, 1.75, allowed, 64, [3]]], "logits": flat, "history": history}
    for history, window in itertools.product(LOOPS, (-1, 0, 1, 2, 5, 17, 1000)):
        yield {"chain": [["dry", 0.8, 1.75, 2, window, []]], "logits": flat, "history": history}
    values = [(0.0, 1.75), (5.0, 1.0), (1.0, 0.5), (0.1, 3.0), (1.0, 1.0000001)]
    for history, value in itertools.product(LOOPS[3:], values):
        yield {"chain": [["dry", *value, 2, 64, [9]]], "logits": ["holes", 13, 60, 3.0], "history": history}
    for times, base in itertools.product((70, 200), (1.75, 4.0, 10.0)):  # the exponent's cap, and floats' end
        yield {"chain": [["dry", 0.5, base, 2, 1000, []]], "logits": flat, "history": [[[5], times]]}
    yield {"chain": [["dry", 0.8, 1.75, 2, 1000, [3, [1, 2]]]], "logits": ["normal", 300, 61, 2.0],
           "history": [*integers(250, 9, 5), [[6, 7, 8], 30]]}  # fmt: skip


#: pieces that a chain in any order may have
PARTS: dict[str, list[Any]] = {
    "penalties": ["penalties", 64, 1.1, 0.1, 0.1],
    "dry": ["dry", 0.8, 1.75, 2, 64, [3]],
    "top_n_sigma": ["top_n_sigma", 2.0],
    "top_k": ["top_k", 20],
    "typical": ["typical", 0.95, 0],
    "top_p": ["top_p", 0.95, 0],
    "min_p": ["min_p", 0.05, 0],
    "xtc": ["xtc", 1.0, 0.1, 0, 1],
    "temp": ["temp", 0.8],
    "temp_ext": ["temp_ext", 1.0, 0.5, 1.0],
}
ORDERS = [
    "penalties dry top_k typical top_p min_p xtc temp",  # llama.cpp's own order, without top_n_sigma: see quirks
    "penalties dry top_n_sigma top_k top_p min_p xtc temp_ext",
    "temp top_k top_p",
    "top_k top_p min_p temp",
    "min_p temp",
    "temp min_p",
    "temp_ext min_p top_p",
    "top_p typical xtc",
    "xtc min_p temp penalties dry",
    "top_n_sigma min_p temp",
    "temp top_n_sigma",
    "dry penalties temp_ext typical",
    "temp temp min_p top_k",
]


def chains() -> Iterator[Case]:
    """Whole chains with the draw at their end: p is what llama.cpp draws from."""
    default = [["penalties", 64, 1.0, 0.0, 0.0], ["dry", 0.0, 1.75, 2, 64, []], ["top_n_sigma", -1.0], ["top_k", 40],
               ["typical", 1.0, 0], ["top_p", 0.95, 0], ["min_p", 0.05, 0], ["xtc", 0.0, 0.1, 0, 1],
               ["temp_ext", 0.8, 0.0, 1.0], ["dist", 1]]  # fmt: skip
    wide = [*WIDE[:2], ["normal", 300, 50, 2.0], ["grid", 97, 51, 0.25], ["peak", 12, 3, 50.0], ["holes", 97, 52, 2.0]]
    yield from ({"chain": default, "logits": spec} for spec in wide)
    for order, seed in itertools.product(ORDERS, range(6)):
        links = [PARTS[name] for name in order.split()]
        history = integers(50, 70 + seed, 6)
        yield {"chain": [*links, ["dist", 1]], "logits": ["normal", 97, 80 + seed, 2.0], "history": history}
    for links in ([["dist", 1]], [["temp", 0.5], ["dist", 1]], [["greedy"]], [["temp", 0.0], ["dist", 1]]):
        yield from ({"chain": links, "logits": spec} for spec in SMALL)
    odd = [["flat", 33, 0.0], ["flat", 2, 1.0], ["values", [-0.5]], ["values", [2, 0]], ["peak", 12, 3, 50.0],
           ["grid", 33, 53, 0.25], ["stairs", 16, 0.5], ["stairs", 7, 3.0], ["normal", 97, 5, 1.0]]  # fmt: skip
    for tau, m in ((5.0, 100), (0.0, 100), (0.5, 100), (12.0, 100), (20.0, 100), (64.0, 100), (3.0, 2), (3.0, 5)):
        yield from each([["mirostat", 1, tau, 0.1, m]], odd)
        yield from each([["mirostat_v2", 1, tau, 0.1]], odd)
    for target in (-1.0, 0.0, 0.3, 1.0, 1.7):
        yield from each([["adaptive_p", target, 0.9, 1]], odd)
    biased = [["logit_bias", [[3, 4.0], [5, -2.0]]], ["top_k", 5], ["temp", 1.3], ["dist", 1]]
    yield from ({"chain": biased, "logits": ["normal", 33, seed, 2.0]} for seed in range(90, 94))


def trajectories() -> Iterator[Case]:
    """Samplers with a state: each step's distribution, and the token that was drawn from it and accepted."""
    pairs = [(5.0, 0.1), (3.0, 0.1), (2.0, 0.5), (1.0, 1.0), (8.0, 0.02)]
    for (tau, eta), (v, scale) in itertools.product(pairs, ((33, 2.0), (97, 1.0))):
        for link in (["mirostat_v2", 1, tau, eta], ["mirostat", 1, tau, eta, 100]):
            yield {"chain": [link], "steps": [["normal", v, 200 + step, scale] for step in range(12)]}
    yield {"chain": [["temp", 0.7], ["mirostat_v2", 1, 3.0, 0.2]],
           "steps": [["normal", 97, 230 + step, 2.0] for step in range(12)]}  # fmt: skip
    yield {"chain": [["temp", 0.7], ["mirostat", 1, 3.0, 0.2, 100]],
           "steps": [["normal", 97, 230 + step, 2.0] for step in range(12)]}  # fmt: skip
    adaptive = [(0.5, 0.9), (0.1, 0.5), (0.0, 0.9), (1.0, 0.9), (0.3, 0.0), (0.3, 0.99), (-1.0, 0.9), (0.9, 2.0)]
    for target, decay in adaptive:
        yield {"chain": [["adaptive_p", target, decay, 1]],
               "steps": [["normal", 33, 240 + step, 2.0] for step in range(12)]}  # fmt: skip
        yield {"chain": [["min_p", 0.05, 0], ["adaptive_p", target, decay, 1]],
               "steps": [["normal", 97, 260 + step, 2.0] for step in range(10)]}  # fmt: skip
    yield {"chain": [["adaptive_p", 0.4, 0.8, 1]], "steps": [["grid", 8, 280 + step, 0.5] for step in range(8)]}
    yield {"chain": [["adaptive_p", 0.4, 0.8, 1]], "steps": [["holes", 33, 290 + step, 2.0] for step in range(8)]}


BREAKING_TEXTS = [
    [],
    ["\n", ":", '"', "*"],  # llama.cpp's default
    [". "],
    ["\n\n", "User:"],
    ["the", "ing and"],
    ["é", "→"],
    ["a breaker of more than forty characters, which is where it is cut"],
]
TEXTS = [
    "The cat sat on the mat. The cat sat on the mat. The cat sat on the",
    "User: hello there, my friend\n\nUser: hello there, my friend\n\nUser: hello there, my",
    'He said: "yes, and yes, and yes". He said: "yes, and yes, and',
    "* one thing and another thing\n* one thing and another thing\n* one thing and",
    "walking and talking and walking and talking and walking and",
    "café crème → café crème → café crème → café",
    "no no no no no no no no no no",
]


def dry_texts() -> Iterator[Case]:
    """With a vocabulary: breakers as texts. ``text`` becomes a history by that vocabulary's tokenizer."""
    for breakers, text in itertools.product(BREAKING_TEXTS, TEXTS):
        yield {"chain": [["dry", 0.8, 1.75, 2, 64, breakers]], "text": text}
    for text in TEXTS:
        yield {"chain": [["dry", 1.5, 2.0, 1, 12, ["\n", ":", '"', "*"]]], "text": text}


PAIRS = [(0.1, 0.73), (0.3, -0.91), (1.7, 0.2), (-0.6, 2.3), (0.9, 0.11), (3.3, 1.1)]


def quirks() -> Iterator[Case]:
    """Where llama.cpp's answer is not a definition to follow, each with its reason."""
    zero = "typical: a probability of 0 makes the entropy 0 * log 0, which is not a number"
    yield from each([["typical", p, 1] for p in (0.2, 0.9)], [*REMOVED[:2], *HUGE, ["peak", 12, 3, 200.0]], why=zero)
    sums = "top_p, typical: a float32 sum of tied probabilities meets the threshold a token too late, or too soon"
    yield from each([["top_p", 0.95, 1]], [["flat", 40, 0.0]], why=sums)
    yield from each([["typical", 0.9, 1]], [["flat", 10, -7.0]], why=sums)
    left = "xtc: at a threshold of 0 a removed token that is still in the array counts as the least likely top choice"
    yield from each([["xtc", 1.0, 0.0, 1, 1]], REMOVED, why=left)
    held = "xtc: min_keep counts the removed tokens that are still in the array"
    yield from each([["xtc", 1.0, 0.05, 3, 1]], [["values", [GONE, 1, 0.5, 0, GONE]]], why=held)
    two = "top_n_sigma: the lower of two tokens lies 2 sigma below the other, and float32 may say more"
    yield from each([["top_n_sigma", 2.0]], [["values", [a, b]] for a, b in PAIRS], why=two)
    counted = "temp_ext: N counts the removed tokens that are still in the array"
    yield from each([["temp_ext", 1.0, 0.5, 1.0]], REMOVED, why=counted)
    end = "temp, penalties: a logit past the end of float32 is infinite, and what is drawn from not a number"
    yield from each([["temp", 0.1], ["temp_ext", 0.5, 0.2, 1.0]], FAR, why=end)
    yield from each([["temp_ext", 0.5, 0.8, 2.0]], [["peak", 12, 3, 50.0]], why=end)
    yield from each([["penalties", 64, 0.7, 0.0, 0.0]], FAR[:1], history=[0, 1], why=end)
    squares = "top_n_sigma: a square past the end of float32 makes sigma infinite, and nothing is removed"
    yield from each([["top_n_sigma", 1.0]], FAR, why=squares)


FILES = {
    "truncations": truncations,
    "typical": typical,
    "xtc": xtc,
    "xtc_coin": xtc_coin,
    "temperatures": temperatures,
    "penalties": penalties,
    "logit_bias": logit_bias,
    "dry": dry,
    "chains": chains,
    "trajectories": trajectories,
    "quirks": quirks,
}
