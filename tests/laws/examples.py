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
    "temperature": [((t,), {}) for t in (0.0, 1e-30, 0.3, 1.0, 7.0)]
    + [((0.3,), HF), *(((t,), VLLM) for t in (0.0, 1e-6, 1e-5, 0.3))],
    "dynamic_temperature": [((0.2, 1.5), {}), ((0.0, 2.0, 3.0), {}), ((), {"value": 1.0, "range": 0.5, **LLAMA})],
    "top_k": [((k,), {}) for k in (0, 1, 5, 39, 40, 1000)]
    + [((k,), d) for d, ks in ((HF, (5, 1000)), (VLLM, (0, 5, 1000))) for k in ks],
    "top_p": [((p,), {}) for p in (0.0, 0.3, 0.9, 1.0)] + [((0.3,), {"min_keep": 4}), ((0.9,), HF), ((0.0,), HF)],
    "min_p": [((p,), {}) for p in (0.0, 0.1, 1.0)] + [((0.1,), HF), ((0.5, 4), {}), ((0.5, 99), HF)],
    "typical": [((0.0,), {}), ((0.5,), {}), ((1.0,), {}), ((0.5,), HF), ((0.5,), LLAMA), ((0.1, 4), {})],
    "top_n_sigma": [((n,), d) for n in (-1.0, 0.5, 1.0, 30.0) for d in ({}, TEXTGEN)],
    "epsilon": [((e,), {}) for e in (0.0, 0.01, 0.3, 1.0)] + [((0.01,), HF), ((0.3,), HF)],
    "eta": [((e,), {}) for e in (0.0, 0.01, 0.3, 1.0)] + [((0.01,), HF), ((0.3,), HF)],
    "top_a": [((a,), {}) for a in (0.0, 0.2, 1.0)],
    "tail_free": [((z,), d) for z in (0.0, 0.5, 0.95, 1.0) for d in ({}, TEXTGEN)],
    "top_h": [((a,), {}) for a in (0.0, 0.4, 0.9, 1.0)] + [((a,), HF) for a in (0.4, 1.0)],
    "quadratic": [((0.2,), {}), ((0.0,), {}), ((0.5, 2.5), {}), ((0.5, 9.0), {}), ((1e30,), {})],
    "xtc": [
        ((0.5, 0.05), {}),
        ((1.0, 0.05), {"protect": (3, 4)}),
        ((1.0, 0.0), {}),
        ((0.5, 0.9), {}),
        ((1.0, 0.0), {"protect": (3, 4), **TEXTGEN}),
        ((1.0, 0.05), {"min_keep": 30}),
    ],
    "repetition": [
        ((1.3,), {}),
        ((0.7,), {"over": "output"}),
        ((1.3,), {"window": 3}),
        ((1.3,), LLAMA),
        ((0.7,), {"over": "prompt"}),
        ((1.3,), {"over": "prompt", "window": 2}),
    ],
    "presence": [
        ((0.5,), {}),
        ((-0.5,), {"over": "all"}),
        ((0.5,), {"window": 3}),
        ((0.5,), LLAMA),
        ((0.5,), TEXTGEN),
        ((0.5,), {"over": "prompt", "window": 2}),
    ],
    "frequency": [
        ((0.5,), {}),
        ((-0.5,), {"over": "all"}),
        ((0.5,), {"window": 3}),
        ((0.5,), LLAMA),
        ((0.5,), TEXTGEN),
        ((0.5,), {"over": "prompt", "window": 2}),
    ],
    "bias": [(({3: -2.0, 7: 1.5},), {}), ((((5, 2.0), ((1, 2), -3.0), ((4, 5, 6), 1.0)),), {}), (((),), {})],
    "ban": [((3, 7), {}), ((5, [1, 2], [4, 5, 6]), {}), (([*range(VOCAB)],), {}), (([],), {})],
    "allow": [((3, 7, 9, 11), {}), ((7, [1, 2]), {}), (([*range(VOCAB)],), {})],
    "min_tokens": [((0,), {}), ((4,), {}), ((99,), {"ids": (3, 4)}), ((6,), {"over": "all"})],
    "watermark": [
        ((), {}),
        ((0.5, -1.5), {"context": 3}),
        ((0.25, 0.0), {}),
        ((0.25, 2.0), HF),
        ((0.5, 2.0), {"scheme": "selfhash", "context": 2, **HF}),
    ],
    "synthid": [(((1, 22, 333),), {}), (((1, 22, 333),), {"ngram": 2, "skip_first": True}), (((),), {})],
    "no_repeat_ngram": [((n,), {}) for n in (0, 1, 2, 3)] + [((2,), {"over": o}) for o in ("prompt", "output")],
    "dry": [((0.5, 1.75, n), {"breakers": (4,)}) for n in (0, 1, 2)]
    + [((1e30, 8.0, 1), {"breakers": ()}), ((0.5, 1.0, 1), {"window": 5}), ((0.0,), {})]
    + [((0.5, 2.0, n), {"breakers": (4, (1, 2)), **d}) for n in (0, 1) for d in (LLAMA, TEXTGEN)],
    "bad_words": [((3, 7), {}), ((5, [1, 2], [4, 5, 6]), {"spaces": False}), (([],), {}), (([*range(VOCAB)],), {})],
    "force": [((3,), {}), ((3, [4, 5], 6), {"at": 1}), ((7,), {"at": 2, "over": "all"}), (([],), {})],
    "length_decay": [((0, 1.5), {}), ((2, 0.5), {"ids": (3, 4)}), ((1, 1e30), {}), ((99, 2.0), {}), ((0, 1.0), {})],
    "thinking_budget": [((0, 1, 2), {}), ((2, 1, 2), {}), ((1, 3, 3), {}), ((99, 1, 2), {})],
}

SAMPLERS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "mirostat": [((tau, eta), {"variant": v}) for tau, eta in ((0.0, 0.1), (2.0, 1.0), (5.0, 0.1)) for v in (1, 2)]
    + [((2.0, 0.3, 1), LLAMA), ((2.0, 0.3, 1), {"m": 2})],
    "adaptive_p": [((t, d), {}) for t, d in ((-1.0, 0.9), (0.0, 0.0), (0.1, 0.5), (1.0, 0.99))],
}

SIGNALS: dict[str, tuple[Any, ...]] = {"within": (5, 6), "repetition_rate": (2, 5)}
CRITERIA: dict[str, tuple[Any, ...]] = {
    "max_tokens": (2,),
    "max_length": (4,),
    "timeout": (1.0,),
    "stop": ("cat",),
    "stop_regex": ("c.t",),
    "stop_ids": (3,),
    "text": ("cat", "<|end|>"),
    "loop": (2, 2),
    "confidence": (0.5,),
    "entropy_below": (2.0,),
    "budget": (2, 5, 6),
}
