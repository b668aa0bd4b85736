"""The codes of the language's warnings: what each warns of, and why it matters."""

CODES = {
    "cut-after-temperature": (
        "A min_p or top_p behind a temperature cuts the distribution that the temperature made. Above 1 that lets in "
        "tokens the model itself finds unlikely; llama.cpp, for one, cuts first."
    ),
    "before-greedy": (
        "Greedy takes the most likely token. A temperature or a truncation ahead of it keeps that token the most "
        "likely, so it changes nothing."
    ),
    "removes-nothing": "A truncation whose argument turns it off, or which an earlier one has already done.",
    "one-token-left": (
        "Behind a stage that leaves one token, such as top_k(1) or temperature(0), no other has anything to change."
    ),
    "cancelled": (
        "A stage that another undoes: temperatures whose product is 1, biases that add up to 0, a bias on tokens that "
        "are removed, a ban of everything that an allow keeps."
    ),
    "temperatures-multiply": (
        "Two temperatures in a row multiply: temperature(0.8), then temperature(0.5), is temperature(0.4). One was "
        "probably meant to replace the other."
    ),
    "mirostat-after-cut": (
        "Mirostat steers the surprise of what it draws by truncating itself; behind another truncation it cannot reach "
        "its target."
    ),
    "hidden-top-k": (
        "A pipeline in transformers' dialect without a top_k. transformers' generate applies top_k=50 unless told "
        "otherwise, so the same settings give another distribution there."
    ),
    "wrong-sign": (
        "A penalty on the wrong side of its neutral value: a repetition penalty below 1, a presence or frequency "
        "penalty below 0, a length decay below 1. It rewards what it is named for holding back."
    ),
    "clamped": (
        "A field written as an expression that leaves the field's range. The value is clamped, silently, at every "
        "such step."
    ),
    "constant-test": (
        "A condition that always holds or never does, whatever the model says, so that one of its blocks never runs, "
        "or a row ends at once or not by it."
    ),
    "two-seeds": (
        "Samplers with different seeds. A request has one seed: the first that the strategy names, and the others are "
        "not read."
    ),
    "stop-is-eos": (
        "A stop string that is an end-of-sequence token: 'eos' ends the row there already, and its text is not shown."
    ),
    "unreachable-stop": (
        "A stop test that cannot come true: its tokens are removed, no tokens make its string, or the string goes on "
        "behind a special token, which the text does not show."
    ),
    "region-never-opens": (
        "A region whose opening marker no token can write, or whose token is removed: only a prompt can open it."
    ),
    "min-above-max": (
        "min_tokens holds the end of sequence back for longer than the bound on the length lets the row run, so that "
        "no row ever ends by itself."
    ),
    "no-bound": (
        "Nothing bounds the length: a row that never meets its stop test runs until the cache or the model ends."
    ),
}

__all__ = ["CODES"]
