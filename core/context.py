"""Context: what a stage may look at while it works on R rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .dist import Dist
from .errors import StrategyError
from .history import History
from .rng import Noise
from .transfer import index_on, to_device
from .vocab import Vocab

if TYPE_CHECKING:
    from .stage import Stage


_T = TypeVar("_T")


class Context:
    """A view of R rows of a History, with the model's own distribution and this stage's noise.

    Every per-row tensor is [R, 1]. Nothing here may be changed by a stage.
    """

    def __init__(
        self,
        history: History,
        vocab: Vocab,
        raw: Dist,
        noise: Noise,
        *,
        index: Sequence[int] | None = None,
        starts: Tensor | None = None,
        scores: Tensor | None = None,
        elapsed: Sequence[float] | None = None,
        companions: Mapping[str, Tensor] | None = None,
        prepared: dict[Any, Any] | None = None,
    ) -> None:
        self.history, self.vocab, self.raw = history, vocab, raw
        self._noise, self._starts, self._scores, self._elapsed = noise, starts, scores, elapsed
        self._index = None if index is None or list(index) == list(range(history.rows)) else list(index)
        self._take = None if self._index is None else index_on(history.device, self._index)
        self._companions = companions or {}
        self._prepared: dict[Any, Any] = {} if prepared is None else prepared
        self._worked_out: dict[Any, Any] = {}  # shared by the views of these rows at this step
        self._given: Dist | None = None  # at a commit: the Dist that the stage at work was given
        self._node: Any = None  # the plan's node whose stage is at work: gives noise its key and prepare its slot
        self._stages: Sequence[Stage] = ()

    # -- the core's side -----------------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Context:
        """The context of some of its rows."""
        if list(rows) == list(range(self.rows)):
            return self
        index = [self.host_index[i] for i in rows]
        take = index_on(self.history.device, rows)
        return Context(
            self.history,
            self.vocab,
            self.raw.select(take),
            self._noise.select(rows),
            index=index,
            starts=None if self._starts is None else self._starts[take],
            scores=None if self._scores is None else self._scores[take],
            elapsed=None if self._elapsed is None else [self._elapsed[i] for i in rows],
            companions={name: logits[take] for name, logits in self._companions.items()},
            prepared=self._prepared,
        )

    def starting(self, starts: Tensor) -> Context:
        """The same rows, with their output beginning at ``starts`` (int64 [R, 1]): how a phase sees itself."""
        twin = self._twin()
        twin._starts, twin._worked_out = starts, {}
        return twin

    def scored(self, scores: Tensor) -> Context:
        """The same rows with other scores, as after a commit."""
        twin = self._twin()
        twin._scores = scores
        return twin

    def at(self, node: Any, stages: Sequence[Stage]) -> Context:
        """The same rows, seen from one stage of the plan. ``stages``: the stage of each row, as written."""
        twin = self._twin()
        twin._node, twin._stages = node, stages
        return twin

    def after(self, given: Dist) -> Context:
        """The same rows at a commit, seen from a stage that was given ``given`` at this step."""
        twin = self._twin()
        twin._given = given
        return twin

    def reading(self, signal: Stage) -> Context:
        """The same rows and noise, seen from a signal that the stage at work reads."""
        twin = self._twin()
        twin._stages = (signal,)
        return twin

    def _twin(self) -> Context:
        twin = object.__new__(Context)
        twin.__dict__.update(self.__dict__)
        return twin

    @property
    def host_index(self) -> Sequence[int]:
        """The rows' indices in the history."""
        return range(self.history.rows) if self._index is None else self._index

    def _rows(self, tensor: Tensor) -> Tensor:
        return tensor if self._take is None else tensor[self._take]

    # -- sizes ---------------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        return len(self.host_index)

    @property
    def device(self) -> torch.device:
        return self.history.device

    @property
    def vocab_size(self) -> int:
        return self.vocab.size

    @property
    def lengths(self) -> Tensor:
        """int64 [R, 1]: tokens so far, prompt included."""
        return self._rows(self.history.sizes[1])

    @property
    def prompt_lengths(self) -> Tensor:
        """int64 [R, 1]."""
        return self._rows(self.history.sizes[0])

    @property
    def starts(self) -> Tensor:
        """int64 [R, 1]: where the output begins: the prompt's length, or the first token of a phase."""
        return self.prompt_lengths if self._starts is None else self._starts

    @property
    def step(self) -> Tensor:
        """int64 [R, 1]: tokens generated so far (since the start of the phase, inside a phase's own stop test)."""
        return self.lengths - self.starts

    @property
    def position(self) -> Tensor:
        """int64 [R, 1]: the place in the sequence of the token that is next."""
        return self.lengths

    # -- tokens --------------------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> Tensor:
        """int64 [R, T]: the whole sequence, -1 past each row's length."""
        return self._rows(self.history.tokens)

    @property
    def last(self) -> Tensor:
        """int64 [R, 1]: the last token, -1 where there is none."""
        held = self.tokens.gather(1, (self.lengths - 1).clamp(min=0))
        return torch.where(self.lengths > 0, held, -1)

    def recent(self, count: int) -> Tensor:
        """int64 [R, count]: the last tokens of each row, the newest last; -1 where there are none."""
        places = self.lengths - count + torch.arange(count, device=self.device)  # [R, count]
        return torch.where(places >= 0, self.tokens.gather(1, places.clamp(min=0)), -1)

    @property
    def counts(self) -> Tensor:
        """int32 [R, V]: how often each token was generated. Kept up to date, not recounted."""
        return self._rows(self.history.counts)

    @property
    def prompt_counts(self) -> Tensor:
        """int32 [R, V]: how often each token stands in the prompt."""
        return self._rows(self.history.prompt_counts)

    def recent_counts(self, window: int, *, output_only: bool = False) -> Tensor:
        """int32 [R, V]: occurrences among the last ``window`` tokens of the sequence (or of the output alone)."""
        tokens, lengths = self.tokens, self.lengths
        places = lengths - 1 - torch.arange(min(window, tokens.shape[1]), device=self.device)  # [R, W]
        valid = places >= (self.starts if output_only else torch.zeros_like(lengths))
        found = tokens.gather(1, places.clamp(min=0)).clamp(min=0)
        counts = torch.zeros(self.rows, self.vocab_size, dtype=torch.int32, device=self.device)
        return counts.scatter_add_(1, found, valid.int())

    @property
    def scores(self) -> Tensor:
        """float64 [R, 1]: the sum of the model's own logprobs of the generated tokens."""
        if self._scores is None:
            raise StrategyError("scores of generated tokens are known only while a model runs", code="scores")
        return self._scores

    @property
    def entropies(self) -> Tensor:
        """float32 [R, T]: by place in the sequence, the entropy in nats of the model's own distribution that the token
        was drawn from. NaN for the prompt and for what ran before anything asked (``needs`` "entropies").
        """
        return self._rows(self.history.entropies)

    @property
    def given(self) -> Dist:
        """Inside ``accept``: the Dist that this stage was given at the step whose token was committed."""
        if self._given is None:
            raise StrategyError("what a stage was given is known only inside accept", code="given")
        return self._given

    @property
    def elapsed(self) -> Tensor:
        """float64 [R, 1]: seconds since the row's request began. 0 without an engine."""
        seconds = [0.0] * self.rows if self._elapsed is None else list(self._elapsed)
        return to_device(seconds, torch.float64, self.device).reshape(-1, 1)

    # -- text ----------------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The tokenizer. Raises StrategyError where there is none."""
        return self.vocab.require_tokenizer("this stage")

    def texts(self) -> list[str]:
        """The whole sequence of each row as text, special tokens included, without an incomplete last character.

        Waits for the host.
        """
        self.vocab.require_tokenizer("a signal that reads text")
        return [self.history.text(i) for i in self.host_index]

    # -- what belongs to the stage -------------------------------------------------------------------------------------

    def noise(self, stage: Stage, draws: int = 1) -> Tensor:
        """float64 [R, draws] in [0, 1): this stage's own numbers for this step. The same however often it asks."""
        return self._noise.uniform(self._node.key, draws)

    def noise_by_token(self, stage: Stage, dist: Dist) -> Tensor:
        """float64 [R, C] in [0, 1): a number for each of dist's tokens, the same for a token in any Dist."""
        return self._noise.by_token(self._node.key, dist.token_ids())

    def prepared(self, stage: Stage) -> Any:
        """What ``stage.prepare(vocab)`` made. Computed once for a stage and a vocabulary."""
        own = bool(self._stages) and type(self._stages[0]) is type(
            stage
        )  # a signal is read in the view of the stage around it
        written = self._stages[0] if own else stage
        if written not in self._prepared:
            self._prepared[written] = written.prepare(self.vocab)
        return self._prepared[written]

    def upper(self, stage: Stage, field: str) -> float | None:
        """A bound on a Scalar field over all rows and steps that the host knows, or None."""
        stages = self._stages or (stage,)
        return stage.scalars[field].upper([getattr(item, field) for item in stages])

    def lower(self, stage: Stage, field: str) -> float | None:
        """As ``upper``, from below."""
        stages = self._stages or (stage,)
        return stage.scalars[field].lower([getattr(item, field) for item in stages])

    def once(self, key: Any, work_out: Callable[[], _T]) -> _T:
        """What ``work_out`` returns, asked once for a key by all stages at a step: of these rows' tokens alone."""
        if key not in self._worked_out:
            self._worked_out[key] = work_out()
        found: _T = self._worked_out[key]
        return found

    def companion(self, name: str) -> Tensor:
        """float32 [R, V]: the logits of a companion model registered under this name."""
        if name not in self._companions:
            raise StrategyError(f"no companion model {name!r} is registered with the engine", code="companion")
        return self._companions[name]
