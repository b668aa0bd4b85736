"""What is measured: a model's rows in one or several quantizations, batch by batch and strategy by strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, UsageError
from ...core.model.quantize import settle_device
from ...core.model.spec import DTYPE_ALIASES, DTYPES, ModelSpec, check_spec
from .launch import PEERS, link_to
from .sampling import USUAL, pipeline, settings_for
from .turns import EngineSide, PeerSide, Rows, Side, Spread, in_turn

if TYPE_CHECKING:
    from ...core.engine import Engine
    from ...core.model.find import Found

PROMPT = 32  # tokens before the new ones
TEXT = (
    "The old lighthouse keeper counted the ships that passed each night and wrote their names into a long green book. "
)


@dataclass(frozen=True)
class Work:
    """What to measure. ``weights``: quantizations and dtypes as ``logitmill.load`` takes them, each by its name; a
    dtype, or "none", is not quantized, and a quantization computes in ``dtype``. ``strategies`` are texts without
    ``until`` or names in ``USUAL``, ``tokens`` are new tokens a row, ``threads`` None: as many as torch takes.

    ``peer``: a key of ``PEERS``. ``peer_python``: the interpreter that has it. ``peer_model``: what it loads, where
    that is another file than what is loaded here.
    """

    model: str | None = None
    weights: tuple[str, ...] = ("nf4",)
    strategies: tuple[str, ...] = tuple(USUAL)
    batches: tuple[int, ...] = (1, 8)
    tokens: int = 128
    turns: int = 5
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    peer: str | None = None
    peer_python: str | None = None
    peer_model: str | None = None


@dataclass(frozen=True)
class Line:
    """One row of a table: speeds in tokens a second, all rows together."""

    model: str
    weights: str
    strategy: str
    batch: int
    speed: Spread
    peer: str | None = None
    peer_weights: str | None = None
    peer_speed: Spread | None = None
    ratio: Spread | None = None
    #: "n of m": how far the greedy tokens of the two are the same
    same_tokens: str | None = None

    @property
    def setting(self) -> str:
        """Weights, batch and strategy in words."""
        return f"{self.weights}, batch {self.batch}, {self.strategy}"


def measure(work: Work, say: Callable[[str], None] = lambda words: None) -> Iterator[Line]:
    """One line after another, as they are measured. ``say`` is told what is under way, and what an engine notes.

    Raises PeerError, ModelError, UsageError or StrategyError, what can be known beforehand before a model is loaded.
    """
    for weights in work.weights:
        quantize, dtype = loading(weights, work.dtype)
        spec = ModelSpec(model=work.model, quantize=quantize, device=work.device, dtype=dtype)
        check_spec(spec)
        if work.device != "auto":
            settle_device(spec)
    strategies = {text: pipeline(text) for text in work.strategies}
    told = {text: settings_for(work.peer, whole) if work.peer else {} for text, whole in strategies.items()}
    with ExitStack() as stack:
        link = stack.enter_context(link_to(work.peer, work.peer_python)) if work.peer else None
        _check_length(work)
        peer_files = {} if work.peer is None else {"model": work.peer_model or model_for(work.peer, work.model)}
        set_threads(work.threads)
        opened: dict[str, Any] = {}
        facts: dict[str, str] = {}
        for weights in work.weights:
            say(f"loading {work.model or 'the default model'}, weights {weights} ...")
            quantize, dtype = loading(weights, work.dtype)
            with _loaded(work, quantize, dtype) as engine:
                for note in engine.notes:
                    say(f"note: {note}")
                if link is not None:
                    settings = {**peer_files, **_alike(work, engine, quantize)}
                    if settings != opened:
                        say(f"loading it in {PEERS[work.peer or ''].title} ...")
                        opened, facts = settings, link.ask("open", **settings)
                for batch in work.batches:
                    prompts = prompts_of(engine.tokenizer, batch)
                    for text, whole in strategies.items():
                        say(f"{weights_of(engine)}, batch {batch}, {text} ...")
                        sides: list[Side] = [EngineSide(engine, whole)]
                        sides += [PeerSide(link.ask, told[text])] if link is not None else []
                        yield line_of(engine, text, sides, prompts, work.tokens, work.turns, facts)


def line_of(
    engine: Engine, strategy: str, sides: list[Side], prompts: Rows, tokens: int, turns: int, peer: dict[str, str]
) -> Line:
    """The line of the sides run in turn: the engine, and the peer whose ``name`` and ``weights`` are given."""
    done = in_turn(sides, prompts, tokens, turns)
    model, weights = str(engine.describe()["model"]), weights_of(engine)
    if len(sides) == 1:
        return Line(model, weights, strategy, len(prompts), done.speed(0))
    return Line(
        model, weights, strategy, len(prompts), done.speed(0),
        peer["name"], peer["weights"], done.speed(1), done.ratio(), done.agreement() if strategy == "greedy" else None,
    )  # fmt: skip


def weights_of(engine: Engine) -> str:
    """How the weights are held: "nf4 in bfloat16", "float32"."""
    facts = engine.describe()
    return f"{facts['quantize']} in {facts['dtype']}" if facts["quantize"] else str(facts["dtype"])


def prompts_of(tokenizer: Any, batch: int) -> Rows:
    """``batch`` prompts of ``PROMPT`` tokens, none like another, so that no side has to pad."""
    ids = tokenizer(TEXT * (1 + (PROMPT + batch) // 8), add_special_tokens=False)["input_ids"]
    return [ids[row : row + PROMPT] for row in range(batch)]


def model_for(peer: str, model: str | None) -> str:
    """The file or folder that the peer loads where logitmill is told ``model``. Raises ModelError."""
    found, folder = _found(model)
    if peer == "llamacpp":
        if not found.path.is_file():
            raise ModelError(
                f"llama.cpp reads GGUF files, and {found.name} is a folder of transformers: "
                "give its GGUF with --peer-model"
            )
        return str(found.path)
    return str(folder)


def _found(model: str | None) -> tuple[Found, Path]:
    """The model, and the folder that is loaded: a GGUF file's conversion. Raises ModelError."""
    from ...core.model.convert import converted
    from ...core.model.find import find_model

    found = find_model(ModelSpec(model=model, quantize=None))
    return found, converted(found.path, found.name) if found.path.is_file() else found.path


def _check_length(work: Work) -> None:
    """Raise UsageError where a row is longer than the model was made for, before its weights are read."""
    from ...core.model.checkpoint import read_config
    from ...core.model.limits import stated_length

    config = read_config(_found(work.model)[1])
    stated = stated_length((config.get("text_config") or config).get)
    if stated is not None and PROMPT + work.tokens > stated:
        raise UsageError(
            f"--tokens {work.tokens} behind prompts of {PROMPT} is more than the {stated} positions this model was "
            f"made for: use at most --tokens {stated - PROMPT}"
        )


def loading(weights: str, dtype: str) -> tuple[str | None, str]:
    """(quantize, dtype) for ``logitmill.load``."""
    plain = DTYPE_ALIASES.get(weights, weights)
    if plain in DTYPES:
        return None, plain
    return (None if weights == "none" else weights), dtype


def _loaded(work: Work, quantize: str | None, dtype: str) -> Engine:
    from ...core.engine import load

    return load(
        work.model, quantize=quantize, device=work.device, dtype=dtype,
        max_rows=max(work.batches), max_length=PROMPT + work.tokens,
    )  # fmt: skip


def _alike(work: Work, engine: Engine, quantize: str | None) -> dict[str, Any]:
    """The peer's settings that make its work the engine's: room, threads, device, and what is computed in."""
    import torch

    facts = engine.describe()
    return {
        "dtype": facts["dtype"],
        "quantize": quantize if work.peer == "hf" else None,
        "threads": torch.get_num_threads(),
        "rows": max(work.batches),
        "length": PROMPT + work.tokens,
        "device": facts["device"],
    }


def set_threads(threads: int | None) -> None:
    """So many for torch; None leaves it as it is."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


__all__ = [
    "PROMPT",
    "Line",
    "Work",
    "line_of",
    "loading",
    "measure",
    "model_for",
    "prompts_of",
    "set_threads",
    "weights_of",
]
