"""The contracts: what a strategy can name, and what the core asks of it.

A stage is a frozen pydantic model whose fields are its arguments in the DSL. It holds no run-time state: ``init`` makes
the state, ``accept`` moves it, and the core keeps, selects, copies and discards it by row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor

from .complaints import describe
from .errors import PluginError, StrategyError
from .expression import Expression, Kind
from .scalar import ScalarField, scalar_type
from .state import State

if TYPE_CHECKING:
    from .context import Context
    from .dist import Dist
    from .tail import Head
    from .vocab import Vocab

StageKind = Literal["logits processor", "sampler", "stopping criterion", "combinator", "search", "signal", "schedule"]
_T = TypeVar("_T")

#: what DSL keywords, Python keywords and pydantic's own methods would make unusable as an argument name
_RESERVED = frozenset(
    "until with as use let when else over by and or not in true false dsl for if is class def return from import "
    "lambda None copy json dict schema construct validate prepare init apply accept law pick check name kind "
    "revision".split()
) - {"by", "over"}


def snake_case(name: str) -> str:
    """``TopNSigma`` -> ``top_n_sigma``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _strategies() -> Any:
    """The module of what the operators build: it stands a floor above the contracts."""
    from . import strategy

    return strategy


def _tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _tuples(item)) for key, item in value.items())
    return value


class Stage(BaseModel):
    """Anything a strategy can name. Subclass one of the kinds below, not this."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    kind: ClassVar[StageKind]
    stage_name: ClassVar[str]
    revision: ClassVar[int] = 1
    #: keeps the order of the logits
    monotone: ClassVar[bool] = False
    #: removes tokens and changes no logit
    masks_only: ClassVar[bool] = False
    #: a token's new logit needs no other token's
    pointwise: ClassVar[bool] = False
    #: what it keeps depends on the order of the logits alone
    ranks_only: ClassVar[bool] = False
    #: reads ctx.noise
    stochastic: ClassVar[bool] = False
    #: a subset of "history", "text", "scores", "entropies", "hidden", "companions", "tokenizer"
    needs: ClassVar[frozenset[str]] = frozenset()
    #: how it is written, in the language: what docs show, pictures draw and laws try. The first is the usual one
    examples: ClassVar[tuple[str, ...]] = ()
    #: field -> the value, or a predicate of the value, at which the stage does nothing
    identity_when: ClassVar[Mapping[str, Any]] = {}
    #: the field that takes every positional argument, where there may be many
    variadic: ClassVar[str | None] = None
    scalars: ClassVar[Mapping[str, ScalarField]] = {}

    def __init_subclass__(cls, *, name: str | None = None, revision: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.stage_name = name or snake_case(cls.__name__)
        cls.revision = revision

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        scalars = {}
        for field, info in cls.model_fields.items():
            if field in _RESERVED or hasattr(BaseModel, field):
                raise PluginError(
                    f"{cls.__module__}.{cls.__name__} has a field {field!r}, which is a reserved word: rename it"
                )
            found = scalar_type(info.annotation, info.metadata)
            if found is not None:
                low = next((m.ge for m in info.metadata if hasattr(m, "ge")), None)
                high = next((m.le for m in info.metadata if hasattr(m, "le")), None)
                scalars[field] = ScalarField(field, found.number, low, high)
        cls.scalars = scalars

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(**self._named(args, kwargs))
        except ValidationError as error:
            raise StrategyError(describe(type(self), error), code="argument") from None

    @classmethod
    def _named(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Positional arguments under their fields' names."""
        if not args:
            return kwargs
        if cls.variadic is not None:
            given = args[0] if len(args) == 1 and isinstance(args[0], list | dict) else args
            named = {cls.variadic: given}
        else:
            names = list(cls.model_fields)
            if len(args) > len(names):
                takes = f"at most {len(names)} ({', '.join(names)})" if names else "none"
                raise StrategyError(
                    f"{cls.stage_name} got {len(args)} positional arguments, it takes {takes}", code="arguments"
                )
            named = dict(zip(names, args, strict=False))
        twice = sorted(named.keys() & kwargs.keys())
        if twice:
            raise StrategyError(f"{cls.stage_name} got {twice[0]!r} twice, by place and by name", code="arguments")
        return named | kwargs

    @model_validator(mode="before")
    @classmethod
    def _sequences_are_tuples(cls, data: Any) -> Any:
        return {key: _tuples(value) for key, value in data.items()} if isinstance(data, dict) else data

    @classmethod
    def reference(cls) -> str:
        """The name a canonical document uses: ``temperature@1``."""
        return f"{cls.stage_name}@{cls.revision}"

    @property
    def reads_host(self) -> bool:
        """Whether its ``apply`` waits for the host each step. Only what reads text has to; a dialect may."""
        return "text" in self.needs

    def is_identity(self) -> bool:
        """Whether it does nothing at these values."""
        for field, value in self.identity_when.items():
            own = getattr(self, field)
            if isinstance(own, int | float | str | tuple) and (value(own) if callable(value) else own == value):
                return True
        return False

    def bound(self, values: Mapping[str, Any]) -> Self:
        """This stage with run-time values (numbers or [R, 1] tensors) in its Scalar fields. Not validated again."""
        if all(self.__dict__[key] is value for key, value in values.items()):
            return self
        twin = type(self).__new__(type(self))
        object.__setattr__(twin, "__dict__", {**self.__dict__, **values})
        object.__setattr__(twin, "__pydantic_fields_set__", self.__pydantic_fields_set__)
        object.__setattr__(twin, "__pydantic_extra__", None)
        object.__setattr__(twin, "__pydantic_private__", None)
        return twin

    def __repr__(self) -> str:
        """As the language writes it; pydantic's own form for what cannot be written, values of a step for instance."""
        from .dsl.write import stage_text

        try:
            return stage_text(self)
        except (StrategyError, TypeError, ValueError):
            return super().__repr__()

    # -- what an author may write --------------------------------------------------------------------------------------

    def prepare(self, vocab: Vocab) -> Any:
        """Constants, computed once for a stage and a tokenizer; read as ``ctx.prepared(self)``."""
        return None

    # -- the pipeline's operators --------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        return _strategies().as_strategy(self) | other

    def as_(self, label: str) -> Any:
        """This stage under a label, as ``as`` gives it in the DSL."""
        return _strategies().Step(self, label)

    def until(self, test: Any) -> Any:
        """A strategy of this stage alone, with a stop test."""
        return _strategies().as_strategy(self).until(test)


class LogitsProcessor(Stage):
    """Logits in, logits out."""

    kind = "logits processor"

    def init(self, ctx: Context) -> State:
        """The state of ctx's R rows at first: a NamedTuple of tensors [R, ...], () for none, or a HostState."""
        return ()

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        """The distributions after this stage. Pure, and without a host sync: it may run any number of times a token."""
        raise TypeError(f"{type(self).__name__} does not define apply")

    def on_head(self, head: Head, ctx: Context) -> bool:
        """What ``apply`` does, to few candidates in descending order, in place; False where it cannot be.

        For stages without state that keep the order and the best token: behind a top_k it stands in for ``apply``.
        """
        return False

    def accept(self, state: Any, tokens: Tensor, dist: Dist, ctx: Context) -> Any:
        """The state after ``tokens`` (int64 [R, 1]) were committed.

        ``dist`` is what ``apply`` returned, ``ctx.given`` what it was given; ctx contains the token.
        """
        return state


class Sampler(Stage):
    """The distribution a token is drawn from, and the draw. Ends a pipeline."""

    kind = "sampler"
    #: the default ``pick`` draws; a sampler with one of its own says so itself
    stochastic = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = next(base for base in cls.__mro__[1:] if issubclass(base, Sampler))
        if "stochastic" not in vars(cls) and cls.pick is not inherited.pick:
            cls.stochastic = False

    def init(self, ctx: Context) -> State:
        """As LogitsProcessor.init."""
        return ()

    def law(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        """What is drawn from. Pure. Default: the distribution as it comes."""
        return dist

    def pick(self, law: Dist, ctx: Context) -> Tensor:
        """int64 [R, 1]: an exact draw by inverse CDF in id order, from one uniform a row, accumulated in float64."""
        return draw(law, ctx.noise(self))

    def accept(self, state: Any, tokens: Tensor, law: Dist, ctx: Context) -> Any:
        """As LogitsProcessor.accept, with the law."""
        return state


def draw(law: Dist, uniform: Tensor) -> Tensor:
    """int64 [R, 1]: inverse CDF in id order. ``uniform`` float64 [R, 1] in [0, 1). A narrowed law gives the same."""
    return law.tokens_at(law.position(uniform))


class StoppingCriterion(Stage):
    """A test that ends a row, on tokens (``check``) or on decoded text (``check_text``)."""

    kind = "stopping criterion"
    #: how a row it ended is reported: "eos", "length" for a bound, "stop" for anything else
    finish_reason: ClassVar[Literal["eos", "stop", "length"]] = "stop"

    def check(self, ctx: Context) -> Tensor:
        """bool [R, 1]. ctx contains the token just committed. No host sync."""
        return torch.zeros_like(ctx.lengths, dtype=torch.bool)

    def check_host(self, tokens: Sequence[int], prompt: int, start: int, vocab: Vocab) -> bool:
        """``check`` for one row, from what the host knows: never needed, and where defined asked in its place.

        ``tokens``: the row's whole sequence, the token just committed last. ``prompt``: how many of them the prompt
        has. ``start``: where the output begins, which is later than the prompt's end inside a phase.
        """
        raise TypeError(f"{type(self).__name__} does not define check_host")

    def check_text(self, text: str, ctx: Context) -> int | bool | None:
        """For one row's generated text: False or None goes on, True ends, a number ends and cuts the text there."""
        return None

    def most_tokens(self, prompt: int) -> int | None:
        """New tokens after which it has ended a row of so many of prompt at the latest; None where nobody can say."""

    def held(self, text: str) -> int:
        """How many characters at the end of ``text`` may yet become part of what is cut: they are not streamed."""
        return 0

    @classmethod
    def reads_text(cls) -> bool:
        """Whether it looks at decoded text."""
        return cls.check_text is not StoppingCriterion.check_text

    @classmethod
    def reads_tokens(cls) -> bool:
        """Whether it looks at tokens."""
        return cls.check is not StoppingCriterion.check

    @classmethod
    def host_knows(cls) -> bool:
        """Whether the host can tell without the device: ``check_host`` is as recent as ``check``."""
        own = next(vars(base) for base in cls.__mro__ if "check" in vars(base) or "check_host" in vars(base))
        return "check_host" in own and cls.check_host is not StoppingCriterion.check_host

    def or_(self, *others: Any) -> Any:
        """This test or any of the others."""
        return _strategies().any_of(self, *others)

    def and_(self, *others: Any) -> Any:
        """This test and all of the others."""
        return _strategies().all_of(self, *others)

    def not_(self) -> Any:
        """The opposite test."""
        return _strategies().negation(self)


class Combinator(Stage):
    """Runs other pipelines. The core runs it: ``weights`` says how much each child counts, ``merge`` joins them.

    The core keeps the weights and each child's Dist until the commit, so that no condition is evaluated twice. A child
    runs for the rows in which its weight is not zero.
    """

    kind = "combinator"
    #: its children run one after another: a row moves on when the running child's ``until`` holds; weights and merge
    #: are not asked
    sequential: ClassVar[bool] = False

    def children(self) -> tuple[Any, ...]:
        """The strategies it runs, in order."""
        return ()

    def weights(self, dist: Dist, ctx: Context) -> Tensor:
        """float [R, n]: the weight of each child for each row. Each row has at least one above zero."""
        raise TypeError(f"{type(self).__name__} does not define weights")

    def merge(self, dists: list[Dist], weights: Tensor) -> Dist:
        """One Dist from the children's, all [R, V]. Called only where some row has more than one child with weight."""
        raise TypeError(f"{type(self).__name__} does not define merge")


class Search(Stage):
    """Owns several rows for one request. Ends a pipeline; its block is what each of its rows runs."""

    kind = "search"
    #: whether its block has to end in a sampler
    needs_sampler: ClassVar[bool] = True

    def children(self) -> tuple[Any, ...]:
        """Its block, where it has one."""
        return ()

    def expand(self) -> int:
        """How many rows it owns from the first token on."""
        return 1

    def measures(self) -> tuple[Expression, ...]:
        """Number expressions, evaluated for each row when it ends; ``rows[i].measures`` in ``finish``."""
        return ()

    def advance(self, rows: list[Any]) -> list[int] | None:
        """After each step: the parent of each row (rows are copied accordingly), or None to leave them as they are."""
        return None

    def finish(self, rows: list[Any]) -> list[int]:
        """When all rows have ended: their indices, best first.

        ``rows`` carry tokens, text, finish_reason and measures.
        """
        return list(range(len(rows)))


class Signal(Stage):
    """A number, a truth or a text a row that conditions, schedules and expressions may read."""

    kind = "signal"
    value_kind: ClassVar[Kind] = "number"

    def read(self, dist: Dist, ctx: Context) -> Any:
        """[R, 1] float32 or bool on the device, or a list of R strings where ``value_kind`` is "text"."""
        raise TypeError(f"{type(self).__name__} does not define read")


class Schedule(Stage):
    """The shape of a ramp from one value to another."""

    kind = "schedule"

    def check(self, start: float, end: float) -> None:
        """Raises StrategyError for ends this shape cannot join."""

    def value(self, start: float, end: float, fraction: Tensor) -> Tensor:
        """float64 [R, 1]: the value at ``fraction`` (float64 [R, 1] in [0, 1]) of the way."""
        raise TypeError(f"{type(self).__name__} does not define value")
