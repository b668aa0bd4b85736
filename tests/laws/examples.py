"""Values at which the laws try the built-in stages, edges included; what is not here is tried at its own ``examples``.

Keys are registered names; a value is (positional arguments, named ones).
"""

from __future__ import annotations

from typing import Any

VOCAB = 40
VLLM, TEXTGEN = {"dialect": "vllm"}, {"dialect": "textgen"}
LLAMA, HF = {"dialect": "llamacpp"}, {"dialect": "hf"}

#: values to try the built-in stages at; a stage that is not here is tried at what its fields' defaults and bounds allow
PROCESSORS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "temperature": [((t,), {}) for t in (0.0, 1e-30, 0.3, 1.0, 7.0)] + [((0.3,), HF)],
    "dynamic_temperature": [((0.2, 1.5), {}), ((0.0, 2.0, 3.0), {}), ((), {"value": 1.0, "range": 0.5, **LLAMA})],
    "top_k": [((k,), {}) for k in (0, 1, 5, 39, 40, 1000)] + [((5,), HF), ((1000,), HF)],
    "top_p": [((p,), {}) for p in (0.0, 0.3, 0.9, 1.0)] + [((0.3,), {"min_keep": 4}), ((0.9,), HF), ((0.0,), HF)],
    "min_p": [((p,), {}) for p in (0.0, 0.1, 1.0)] + [((0.1,), HF)],
    "typical": [((0.0,), {}), ((0.5,), {}), ((1.0,), {}), ((0.5,), HF), ((0.5,), LLAMA)],
    "top_n_sigma": [((n,), {}) for n in (-1.0, 0.5, 1.0, 30.0)],
    "xtc": [((0.5, 0.05), {}), ((1.0, 0.05), {"protect": (3, 4)}), ((1.0, 0.0), {}), ((0.5, 0.9), {})],
    "repetition": [((1.3,), {}), ((0.7,), {"over": "output"}), ((1.3,), {"window": 3}), ((1.3,), LLAMA)],
    "presence": [((0.5,), {}), ((-0.5,), {"over": "all"}), ((0.5,), {"window": 3}), ((0.5,), LLAMA)],
    "frequency": [((0.5,), {}), ((-0.5,), {"over": "all"}), ((0.5,), {"window": 3}), ((0.5,), LLAMA)],
    "bias": [(({3: -2.0, 7: 1.5},), {}), ((((5, 2.0), ((1, 2), -3.0), ((4, 5, 6), 1.0)),), {}), (((),), {})],
    "ban": [((3, 7), {}), ((5, [1, 2], [4, 5, 6]), {}), (([*range(VOCAB)],), {}), (([],), {})],
    "allow": [((3, 7, 9, 11), {}), ((7, [1, 2]), {}), (([*range(VOCAB)],), {})],
    "min_tokens": [((0,), {}), ((4,), {}), ((99,), {"ids": (3, 4)})],
    "no_repeat_ngram": [((n,), {}) for n in (0, 1, 2, 3)],
}

SIGNALS: dict[str, tuple[Any, ...]] = {"within": (5, 6)}
CRITERIA: dict[str, tuple[Any, ...]] = {
    "max_tokens": (2,),
    "max_length": (4,),
    "timeout": (1.0,),
    "stop": ("cat",),
    "stop_regex": ("c.t",),
    "stop_ids": (3,),
}
