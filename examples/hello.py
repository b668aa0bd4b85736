"""The default model under three strategies: text in, text out."""

import logitmill as lm

engine = lm.load()  # SmolLM2-135M-Instruct, its weights in nf4

creative = "temperature(1.1) | min_p(0.08) | sample until eos or max_tokens(40)"
strategies = [
    "greedy until eos or max_tokens(40)",
    creative,
    "when entropy < 2 { greedy } else { top_k(20) | sample } until max_tokens(40)",
]
for text in strategies:
    out = engine.generate("The three primary colors are", strategy=text, seed=7)
    print(f"{text}\n  {out.text.strip()}\n  {out!r}\n")
