"""The built-in processors, samplers, combinators, searches, signals and schedules, registered as any plugin's are.

Only names here: a stage's module is imported when a strategy names it.
"""

from __future__ import annotations

from ..core.hookspecs import hookimpl
from ..core.registry import Register

api = 1

_ROOM = __name__.rpartition(".")[0]


def _all(register: Register, module: str, *classes: str) -> None:
    for name in classes:
        register(f"{_ROOM}.{module}:{name}")


@hookimpl
def register_logits_processors(register: Register) -> None:
    """What turns logits into logits."""
    _all(register, "temperature", "Temperature", "DynamicTemperature")
    _all(register, "top_k", "TopK")
    _all(register, "top_p", "TopP")
    _all(register, "min_p", "MinP")
    _all(register, "typical", "Typical")
    _all(register, "top_n_sigma", "TopNSigma")
    _all(register, "epsilon", "Epsilon")
    _all(register, "eta", "Eta")
    _all(register, "top_a", "TopA")
    _all(register, "tail_free", "TailFree")
    _all(register, "top_h", "TopH")
    _all(register, "p_less", "PLess")
    _all(register, "quadratic", "Quadratic")
    _all(register, "xtc", "Xtc")
    _all(register, "penalties", "Repetition", "Presence", "Frequency")
    _all(register, "token_rules", "Bias", "Ban", "Allow")
    _all(register, "min_tokens", "MinTokens")
    _all(register, "no_repeat_ngram", "NoRepeatNgram")
    _all(register, "dry", "Dry")
    _all(register, "bad_words", "BadWords")
    _all(register, "force", "Force")
    _all(register, "length_decay", "LengthDecay")
    _all(register, "thinking_budget", "ThinkingBudget")
    _all(register, "watermark", "Watermark")
    _all(register, "synthid", "Synthid")


@hookimpl
def register_samplers(register: Register) -> None:
    """What a token is drawn from, and the draw."""
    _all(register, "greedy", "Greedy")
    _all(register, "sample", "Sample")
    _all(register, "gumbel", "Gumbel")
    _all(register, "mirostat", "Mirostat")
    _all(register, "adaptive_p", "AdaptiveP")


@hookimpl
def register_combinators(register: Register) -> None:
    """Pipelines of pipelines."""
    _all(register, "combinators", "Mix", "Product", "When", "Phases")


@hookimpl
def register_searches(register: Register) -> None:
    """Several rows for one request."""
    _all(register, "best_of", "BestOf")


@hookimpl
def register_signals(register: Register) -> None:
    """What conditions, schedules and expressions read."""
    _all(register, "signals", "Entropy", "Varentropy", "MaxP", "Margin", "Kept", "Mass")
    _all(register, "signals_sequence", "Step", "Position", "Last", "Tail", "Within", "RepetitionRate")
    _all(register, "signals_scores", "MeanLogprob", "SumLogprob")


@hookimpl
def register_schedules(register: Register) -> None:
    """The shapes of ramps."""
    _all(register, "schedules", "Linear", "Cosine", "Exp", "Step")
