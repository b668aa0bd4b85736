"""Engine: a loaded model, and the ways to ask it for text.

An engine is one thread's; ``serve`` gives the face many tasks share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from .asking import ask_of, each, encode, is_chat, is_one, seeds_of, token_ids
from .completion import Completion
from .dsl.faults import placed
from .errors import LogitmillError, ModelError, RequestError, StrategyError
from .loader import plugins
from .loop import Loop
from .patch import patched
from .planner import Plan, plan
from .progress import Progress
from .request import Request
from .strategy import Strategy
from .stream import Running, Stream
from .tokens import TokenText
from .vocab import Vocab

if TYPE_CHECKING:
    from .model.runner import Runner
    from .model.spec import LoadedModel
    from .serving import Served


#: constants of so many stages are kept from call to call
MOST_PREPARED = 256


class Engine:
    """Text from a model under a strategy. Made by ``logitmill.load``."""

    def __init__(
        self, loaded: LoadedModel, runner: Runner, *, batch_invariant: bool = False, reference: bool = False
    ) -> None:
        self.loaded, self.runner = loaded, runner
        self.batch_invariant, self.reference = batch_invariant, reference
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.vocab = Vocab(runner.vocab_size, loaded.tokenizer, loaded.eos_ids, runner.device)
        self._observers = {hook: plugins().observers(hook) for hook in ("on_request", "on_step", "on_finish")}
        self._default: Strategy | None = None
        self.notes: list[str] = [*loaded.notes, *([runner.note] if runner.note else [])]
        self.loop = self._new_loop()

    def _new_loop(self) -> Loop:
        return Loop(
            self.runner,
            self.vocab,
            lambda skip_special: TokenText(self.tokenizer, skip_special),
            batch_invariant=self.batch_invariant,
            notify=self._notify,
        )

    def _notify(self, hook: str, event: Any) -> None:
        if self._observers[hook]:
            plugins().notify(self._observers[hook], event)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def max_length(self) -> int:
        """Positions a row can have, prompt included."""
        return self.runner.max_length

    @property
    def max_rows(self) -> int:
        """Rows decoded at a time; more requests queue."""
        return self.runner.rows

    @property
    def default_strategy(self) -> Strategy:
        """The model's own GenerationConfig as a strategy: what runs when none is given, and only then."""
        if self._default is None:
            from .loader import registry
            from .model.generation import strategy_of

            self._default, notes = strategy_of(self.loaded.generation_config, registry())
            self.notes += notes
        return self._default

    def describe(self) -> dict[str, Any]:
        """Plain facts about the engine."""
        return {
            "model": self.loaded.name,
            "source": self.loaded.source,
            "quantize": self.loaded.quantize,
            "dtype": str(self.loaded.dtype).removeprefix("torch."),
            "device": str(self.loaded.device),
            "vocab_size": self.vocab.size,
            "max_length": self.max_length,
            "max_rows": self.max_rows,
            "slotted": self.runner.slotted,
            "batch_invariant": self.batch_invariant,
            "reference": self.reference,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        facts = self.describe()
        return (
            f"Engine({facts['model']!r}, quantize={facts['quantize']!r}, dtype={facts['dtype']}, "
            f"device={facts['device']}, max_rows={self.max_rows}, max_length={self.max_length})"
        )

    # -- asking --------------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Any,
        strategy: Any = None,
        seed: Any = None,
        n: int = 1,
        logprobs: Any = None,
        trace: bool = False,
        overrides: Any = None,
        echo: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Complete one prompt (text or token ids: a Completion) or many (a list: a list of Completion, in order).

        ``strategy``, ``seed`` and ``overrides`` are one for all prompts or a list of one for each. One seed for many
        prompts gives prompt i ``fold(seed, i)``. With ``n`` > 1 each prompt gives a list of n Completions.
        ``logprobs``: how many alternatives to list of the model's own distribution (0: the chosen token alone), or a
        dict {"raw": k, "final": k}. ``progress``: a bar on stderr from 2 s on (None: where stderr is a terminal).

        A strategy or an argument that is wrong raises at once. What fails while decoding ends its own request:
        ``completion.error``, ``completion.raise_for_error()``.
        """
        one = is_one(prompts)
        many = [prompts] if one else list(prompts)
        requests = self._requests(many, strategy, seed, n, logprobs, overrides, trace=trace, echo=echo)
        results = self._run(requests, progress)
        if n == 1:
            return results[0] if one else results
        grouped = [results[i * n : (i + 1) * n] for i in range(len(many))]
        return grouped[0] if one else grouped

    def chat(
        self, messages: Sequence[Mapping[str, Any]], strategy: Any = None, seed: int | None = None, n: int = 1,
        logprobs: Any = None, trace: bool = False, overrides: Any = None, progress: bool | None = None,
    ) -> Any:  # fmt: skip
        """Answer a conversation ([{"role": "user", "content": "Hi"}, ...]) in the model's own chat template.

        What the cache still holds of the conversation is not computed again, unless the engine is batch_invariant.
        """
        requests = self._requests(
            [self.templated(messages)], strategy, seed, n, logprobs, overrides, trace=trace, reuse=True
        )
        results = self._run(requests, progress)
        return results[0] if n == 1 else results

    def stream(
        self, prompt: Any, strategy: Any = None, seed: int | None = None, logprobs: Any = None, trace: bool = False,
        overrides: Any = None, echo: bool = False,
    ) -> Stream:  # fmt: skip
        """Events of one completion as they come. ``prompt``: text, token ids, or chat messages."""
        chat = is_chat(prompt)
        prompts = [self.templated(prompt) if chat else prompt]
        [request] = self._requests(prompts, strategy, seed, 1, logprobs, overrides, trace=trace, echo=echo, reuse=chat)
        return Stream(self.loop, request)

    def score(self, prompt: Any, continuation: Any) -> list[float]:
        """The model's own logprob (nats) of each token of ``continuation`` behind ``prompt``: text or token ids."""
        if self.loop.served:
            raise RequestError("this engine is being served, and its model is at work in another thread")
        before = encode(prompt, self.tokenizer, self.vocab.size)
        after = (
            self.vocab.encode(continuation)
            if isinstance(continuation, str)
            else token_ids(continuation, self.vocab.size)
        )
        tokens = [*before, *after]
        if len(tokens) > self.max_length:
            raise RequestError(f"prompt and continuation have {len(tokens)} tokens, the cache holds {self.max_length}")
        scores, done = [], 0
        for piece in self.runner.logits_in_chunks(tokens):
            logprobs = torch.log_softmax(piece.float(), -1)
            for i in range(len(piece)):
                place = done + i + 1
                if len(before) <= place < len(tokens):
                    scores.append(logprobs[i, tokens[place]])
            done += len(piece)
        return [float(value) for value in torch.stack(scores).tolist()] if scores else []

    def serve(self, max_waiting: int = 1024) -> Served:
        """``async with engine.serve() as served:`` the face that many tasks share."""
        from .serving import Served

        return Served(self, max_waiting)

    def cancel(self) -> None:
        """End every request in flight at the next step, with what there is. Safe in a signal handler."""
        for request in [*self.loop.queue, *(row.request for row in self.loop.batch.rows)]:
            request.cancel()

    def close(self) -> None:
        """Let go of whatever is in flight."""
        self.loop.abandon()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- requests ------------------------------------------------------------------------------------------------------

    def templated(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a conversation with the generation prompt.

        Raises ModelError where the tokenizer has no template.
        """
        from .model.spec import require_chat_template

        require_chat_template(self.loaded)
        if not is_chat(messages):
            raise RequestError('messages are a list of {"role": ..., "content": ...}, the first of them the oldest')
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program of the model's author and may raise anything
            raise RequestError(f"the chat template refused these messages: {error}") from error
        return self.vocab.encode(str(text))

    def compiled(self, strategy: Any, overrides: Any = None, *, trace: bool = False) -> tuple[Strategy, Plan]:
        """(the strategy as given, its plan) of a Strategy, its text or its dict. Raises StrategyError."""
        given = self.default_strategy if strategy is None else Strategy.of(strategy)
        whole = patched(given, overrides)
        built = plan(whole, as_written=self.reference or trace)
        if trace and not self.reference:  # every stage in its place and told of, each by its fast way
            built = replace(built, as_written=False)
        self._prepare(built)
        whole.to_text()  # results name their strategy: one that no text can say is refused now
        return (whole if overrides else given), built

    def _prepare(self, built: Plan) -> None:
        """Constants of every stage, now: what this tokenizer cannot resolve is the strategy's fault, not a row's."""
        try:
            built.rows  # noqa: B018  # asks every search how many rows it wants: now, not in the middle of the loop
        except Exception as error:  # a stranger's search may raise anything
            raise StrategyError(f"a search cannot say how many rows it needs: {error!r}", code="prepare") from error
        prepared = self.loop.batch.prepared
        if len(prepared) > MOST_PREPARED and not self.loop.busy:
            prepared.clear()  # strategies of requests that are over
        for stage in built.stages:
            if stage not in prepared:
                try:
                    prepared[stage] = stage.prepare(self.vocab)
                except StrategyError as error:
                    raise placed(error, built.strategy.place_of(stage)) from None
                except LogitmillError:
                    raise
                except Exception as error:  # a stranger's stage may raise anything
                    reason = f"{type(error).__name__}: {error}"
                    raise StrategyError(
                        f"{stage.stage_name!r} cannot be prepared for this model: {reason}",
                        built.strategy.place_of(stage),
                        code="prepare",
                    ) from error

    def _requests(
        self, prompts: Sequence[Any], strategy: Any, seed: Any, n: int, logprobs: Any, overrides: Any,
        *, trace: bool = False, echo: bool = False, reuse: bool = False,
    ) -> list[Request]:  # fmt: skip
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise RequestError(f"n is how many completions each prompt gets, at least 1, got {n!r}")
        count = len(prompts)
        strategies = each(strategy, count, "strategies", list | tuple)
        patches = each(overrides, count, "overrides", list | tuple)
        ask = ask_of(logprobs)
        built: dict[int, tuple[Strategy, Plan]] = {}
        plans = []
        for s, o in zip(strategies, patches, strict=True):
            key = id(s) if o is None else -1
            if key == -1 or key not in built:
                built[key] = self.compiled(s, o, trace=trace)
            plans.append(built[key])
        seeds = seeds_of(seed, plans, count, n)
        requests = []
        for i, (prompt, (given, ready)) in enumerate(zip(prompts, plans, strict=True)):
            tokens = encode(prompt, self.tokenizer, self.vocab.size)
            shown = (
                (
                    prompt
                    if isinstance(prompt, str)
                    else str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
                )
                if echo
                else ""
            )
            requests += [
                Request(tokens, ready, given, seeds[i * n + j], i * n + j, ask, trace, shown, reuse) for j in range(n)
            ]
        return requests

    # -- running -------------------------------------------------------------------------------------------------------

    def _run(self, requests: Sequence[Request], progress: bool | None) -> list[Completion]:
        """Who may take longest is first in the queue, so that no row is left to run on by itself at its end."""
        results: dict[int, Completion] = {}
        queue = sorted(requests, key=self._most_tokens, reverse=True)
        with Progress(len(requests), progress) as bar, Running(self.loop, queue):
            while len(results) < len(requests):
                for event in self.loop.step():
                    bar.token(event)
                    if event.completion is not None:
                        results[event.index] = event.completion
                        bar.done()
        return [results[request.index] for request in requests]

    def _most_tokens(self, request: Request) -> int:
        """New tokens that a request gets at most, as far as its strategy and its room tell."""
        room = self.max_length - len(request.prompt)
        try:
            most = request.plan.most_tokens(len(request.prompt))
            return room if most is None else min(most, room)
        except Exception:  # a stranger's criterion may raise anything, and this is about order alone
            return room


def load(
    model: Any = None,
    quantize: str | None = "nf4",
    device: str = "auto",
    dtype: Any = "auto",
    max_rows: int = 8,
    max_length: int | None = None,
    batch_invariant: bool = False,
    reference: bool = False,
    revision: str | None = None,
    *,
    compile: bool = False,  # noqa: A002  # the word that torch.compile made usual
    double_quant: bool = False,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    device_map: Any = None,
    max_memory: Any = None,
) -> Engine:
    """Load a model: a hub id, a folder or a GGUF file; None for the default, SmolLM2-135M-Instruct.

    ``quantize``: None; "nf4", "fp4" (``double_quant`` quantizes their scales too) or "int8", by bitsandbytes, on CUDA
    and CPU; "int4" or "int8-packed", by torch's own kernels on a CPU, where "int4" is the fastest, and a GGUF file of
    Q4_0, Q4_1 or Q8_0 keeps its own values. ``device``: "auto", "cpu", "cuda", "cuda:1"; accelerate places the layers.
    ``dtype``: "auto" or a torch dtype. ``max_rows``: rows decoded at a time. ``max_length``: positions of a row
    (default: the least of the model's, 4,096 and what memory allows). ``batch_invariant``: a request gives the same
    tokens alone and in any company, bit for bit. ``reference``: stages as written on the model's modules as loaded,
    nothing planned, repacked or replaced. ``compile``: compile the decoder step with torch.compile while loading, for
    a minute or so. Raises ModelError, which says what to do.
    """
    from .model.load import load_model
    from .model.progress import compile_kernels
    from .model.proven import proven, remember
    from .model.spec import ModelSpec

    spec = ModelSpec(
        model=model, quantize=quantize, double_quant=double_quant, device=device, dtype=dtype, revision=revision,
        trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, device_map=device_map, max_memory=max_memory,
        repack=not reference, **({"int8_threshold": 0.0} if batch_invariant else {}),
    )  # fmt: skip
    if isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1:
        raise ModelError(f"max_rows is how many rows are decoded at a time, at least 1, got {max_rows!r}")
    compile_kernels(device)
    made = plugins().load_model(spec)
    loaded, runner = made if made is not None else (load_model(spec), None)
    from .model.runner import compiled, make_runner  # only now: loading has its own way of importing transformers

    if runner is None:
        known = not batch_invariant and proven(loaded)
        runner = make_runner(
            loaded.model,
            rows=max_rows,
            max_length=max_length,
            batch_invariant=batch_invariant,
            probe=not known,
            lean=not reference,
        )
        if runner.slotted and not known and getattr(runner, "as_made", True):
            remember(loaded)
    notes = [f"compile=True changes nothing here: {reason}"] if compile and (reason := compiled(runner)) else []
    engine = Engine(loaded, runner, batch_invariant=batch_invariant, reference=reference)
    engine.notes += notes
    plugins().configure(engine.describe())
    return engine
