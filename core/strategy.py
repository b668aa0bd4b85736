"""Strategy: a pipeline of stages, a stop test and patches, as one frozen object with four spellings.

Text, YAML and JSON are read and written by core.dsl; here is the object itself and the operators that build it in
Python.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .errors import StrategyError, Where
from .expression import Expression, Inverse, Logic
from .stage import Combinator, Sampler, Search, Stage, StoppingCriterion

if TYPE_CHECKING:
    from torch import Tensor

    from .dsl.marks import Marks


@dataclass(frozen=True)
class Step:
    """A stage at its place in a pipeline, with the label ``as`` gave it."""

    stage: Stage
    label: str | None = None
    where: Where | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.label is not None and not (
            isinstance(self.label, str) and self.label.isascii() and self.label.isidentifier()
        ):
            raise StrategyError(f"a label is a name, got {self.label!r}", code="label")

    def __or__(self, other: Any) -> Strategy:
        return as_strategy(self).__or__(other)

    def until(self, test: Any) -> Strategy:
        """A strategy of this step alone, with a stop test."""
        return as_strategy(self).until(test)


@dataclass(frozen=True)
class AnyOf:
    """Ends a row when one of its tests does."""

    tests: tuple[Test, ...]

    def or_(self, *others: Any) -> Test:
        return any_of(self, *others)

    def and_(self, *others: Any) -> Test:
        return all_of(self, *others)

    def not_(self) -> Test:
        return negation(self)


@dataclass(frozen=True)
class AllOf(AnyOf):
    """Ends a row when all of its tests do."""


@dataclass(frozen=True)
class Not(AnyOf):
    """Ends a row when its one test does not."""


Test: TypeAlias = StoppingCriterion | Expression | AnyOf


def as_test(value: Any) -> Test:
    """A stop test from a criterion, an expression of kind truth, or a test."""
    value = getattr(value, "expression", value)
    if isinstance(value, Expression) and value.kind != "truth":
        raise StrategyError(f"a stop test is a truth, this expression is a {value.kind}", code="type")
    if not isinstance(value, StoppingCriterion | Expression | AnyOf):
        what = f"the {value.kind} {value.stage_name!r}" if isinstance(value, Stage) else repr(value)
        raise StrategyError(
            f"{what} cannot stop a row: a stopping criterion or a condition on signals is wanted", code="kind"
        )
    return value


def _flat(kind: type[AnyOf], tests: Sequence[Any]) -> tuple[Test, ...]:
    flat: list[Test] = []
    for test in map(as_test, tests):
        flat.extend(test.tests if type(test) is kind else (test,))
    return tuple(flat)


def any_of(*tests: Any) -> Test:
    """``a or b``. Expressions alone stay one expression."""
    flat = _flat(AnyOf, tests)
    if all(isinstance(test, Expression) for test in flat):
        return _logic("or", flat)
    return flat[0] if len(flat) == 1 else AnyOf(flat)


def all_of(*tests: Any) -> Test:
    """``a and b``. Expressions alone stay one expression."""
    flat = _flat(AllOf, tests)
    if all(isinstance(test, Expression) for test in flat):
        return _logic("and", flat)
    return flat[0] if len(flat) == 1 else AllOf(flat)


def _logic(op: Literal["and", "or"], tests: tuple[Test, ...]) -> Expression:
    items: list[Expression] = []
    for test in tests:
        assert isinstance(test, Expression)
        items.extend(test.items if isinstance(test, Logic) and test.op == op else (test,))
    return items[0] if len(items) == 1 else Logic(op, tuple(items))


def negation(test: Any) -> Test:
    """``not a``."""
    test = as_test(test)
    return Inverse(test) if isinstance(test, Expression) else Not((test,))


def leaves(test: Test | None) -> Iterator[StoppingCriterion | Expression]:
    """The criteria and expressions of a stop test, in the order of the text."""
    if isinstance(test, AnyOf):
        for part in test.tests:
            yield from leaves(part)
    elif test is not None:
        yield test


def expressions(stage: Stage) -> Iterator[Expression]:
    """What the fields of a stage are written as, where that is an expression."""
    for name in type(stage).model_fields:
        value = getattr(stage, name)
        if isinstance(value, Expression):
            yield value


@dataclass(frozen=True)
class Patch:
    """``with heat.value=0.3``: a field of a labelled stage, or of the only stage of that name, set from outside."""

    path: tuple[str, ...]
    value: Any
    where: Where | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        odd = next((number for number in _numbers(self.value) if not _writable(number)), None)
        if odd is not None:
            message = f"'{'.'.join(self.path)}' cannot be set to {odd!r}"
            hint = "numbers are finite, and whole ones go up to 2^64 - 1"
            raise StrategyError(message, self.where, hint=hint, code="number")


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a patch's value, at any depth."""
    if isinstance(value, numbers.Real):
        yield float(value) if not isinstance(value, int) else value
    elif isinstance(value, Mapping):
        yield from _numbers(tuple(value.items()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)


def _writable(number: float) -> bool:
    """Whether the language has a way to write it."""
    return abs(number) < 2**64 if isinstance(number, int) else math.isfinite(number)


def check_overrides(overrides: Any) -> None:
    """Raise StrategyError for anything but a mapping from paths to values."""
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise StrategyError(
            f'overrides are paths and values, as in {{"heat.value": 0.3}}, got {overrides!r}', code="patch"
        )


@dataclass(frozen=True)
class Strategy:
    """One declarative document of decoding. Immutable; two are equal when they say the same."""

    pipeline: tuple[Step, ...] = ()
    stop: Test | None = None
    patches: tuple[Patch, ...] = ()
    where: Where | None = field(default=None, compare=False, repr=False)
    marks: Marks | None = field(default=None, compare=False, repr=False)  # of a whole document: where its parts stand

    # -- building ------------------------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Strategy:
        if isinstance(other, StoppingCriterion):
            raise StrategyError(
                f"{other.stage_name!r} is a stopping criterion: it stands in until(...), not in the pipeline",
                code="kind",
            )
        if self.stop is not None or self.patches:
            raise StrategyError("a stage after until(...): until closes a strategy", code="order")
        added = as_strategy(other)
        return Strategy((*self.pipeline, *added.pipeline), added.stop, added.patches)

    def until(self, test: Any) -> Strategy:
        """This pipeline, ended by ``test``. A second until adds an alternative."""
        return replace(self, stop=any_of(self.stop, test) if self.stop is not None else as_test(test))

    def with_(self, overrides: Mapping[str, Any]) -> Strategy:
        """This strategy with patches: {"heat.value": 0.3}. One of the same path as an earlier one takes its place."""
        check_overrides(overrides)
        added = {tuple(path.split(".")): value for path, value in overrides.items()}
        kept = (patch for patch in self.patches if patch.path not in added)
        return replace(self, patches=(*kept, *(Patch(path, value) for path, value in added.items())))

    # -- looking -------------------------------------------------------------------------------------------------------

    def children(self) -> Iterator[Strategy]:
        """The blocks of its stages, one level down."""
        for step in self.pipeline:
            if isinstance(step.stage, Combinator | Search):
                yield from step.stage.children()

    def steps(self) -> Iterator[Step]:
        """Every step at any depth, in the order of the text."""
        for step in self.pipeline:
            yield step
            if isinstance(step.stage, Combinator | Search):
                for child in step.stage.children():
                    yield from child.steps()

    def place_of(self, stage: Stage) -> Where | None:
        """Where one of its stages was written; for one that a patch made, where the one it stands for was."""
        where = None if self.marks is None else self.marks.of(stage)
        return where or next((step.where for step in self.steps() if step.stage is stage), None)

    @property
    def complete(self) -> bool:
        """Whether every path ends in a sampler or a search: otherwise it is a fragment."""
        if not self.pipeline:
            return False
        last = self.pipeline[-1].stage
        if isinstance(last, Sampler):
            return True
        if isinstance(last, Search):
            blocks = list(last.children())
            return not last.needs_sampler or (bool(blocks) and all(block.complete for block in blocks))
        if isinstance(last, Combinator):
            blocks = list(last.children())
            return bool(blocks) and all(block.complete for block in blocks)
        return False

    # -- spellings (core.dsl) ------------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str, *, trusted: bool = False, file: str | None = None) -> Strategy:
        """From text. Raises StrategyError with line, column and caret.

        ``trusted`` allows ``use "./file"`` beside ``file``.
        """
        from .dsl import read

        return read.from_text(text, trusted=trusted, file=file)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Strategy:
        """From the canonical form, or the short form of YAML. Raises StrategyError with the path."""
        from .dsl import read

        return read.from_dict(document)

    @classmethod
    def load(cls, path: str | FilePath) -> Strategy:
        """From a file: .yaml, .yml, .json, or text by any other name. A file is a trusted source."""
        from .dsl import read

        return read.from_file(_file_path(path))

    @classmethod
    def of(cls, value: Any) -> Strategy:
        """A Strategy from a Strategy, a stage, text or a dict."""
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, Mapping):
            return cls.from_dict(value)
        return as_strategy(value)

    def to_text(self) -> str:
        """The canonical text."""
        from .dsl import write

        return write.to_text(self)

    def to_dict(self) -> dict[str, Any]:
        """The canonical document: {"dsl": 1, "main": {...}}."""
        from .dsl import write

        return write.to_dict(self)

    def save(self, path: str | FilePath) -> None:
        """To a file, in the form its name asks for: .yaml, .yml, .json, or text."""
        from .dsl import write

        write.to_file(self, _file_path(path))

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical form with all defaults filled in."""
        from .dsl import write

        return write.fingerprint(self)

    def check(self, ignore: Sequence[str] = (), tokenizer: Any = None) -> list[Any]:
        """Warnings about what is legal and probably not meant; with a tokenizer also what only that can tell."""
        from .dsl import check
        from .vocab import Vocab, checked_tokenizer

        vocab = None if tokenizer is None else Vocab(len(checked_tokenizer(tokenizer)), tokenizer)
        return check.warnings(self, ignore, vocab=vocab)

    def __str__(self) -> str:
        return self.to_text()

    # -- without a model (core.bench) ----------------------------------------------------------------------------------

    def distribution(
        self, logits: Any, prompt: Any = None, output: Any = None, seed: Any = 0, tokenizer: Any = None
    ) -> Tensor:
        """float32 [R, V]: the probabilities of the law for logits [V] or [R, V]; fragments too.

        ``prompt`` and ``output`` are token ids: one list for all rows or one for each. Stages that follow the output
        (phases, for instance) are replayed over it. The state of any other stage (mirostat's mu, for instance) is what
        it is at the end of the prompt: what moved it later were logits that are not known here. For the same reason
        what a phase's until asks of the distribution is asked of ``logits`` at each of its steps.
        """
        from .offline import distribution

        return distribution(self, logits, prompt, output, seed, tokenizer)

    def draw(self, logits: Any, prompt: Any = None, output: Any = None, seed: Any = 0, tokenizer: Any = None) -> Tensor:
        """int64 [R]: token ids from the planned pipeline and its sampler.

        Row i draws with fold(seed, i), or its own of a list; a sampler's own ``seed`` is for requests that bring none.
        History and states are as in ``distribution``.
        """
        from .offline import draw

        return draw(self, logits, prompt, output, seed, tokenizer)

    # -- as a stage's field --------------------------------------------------------------------------------------------

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def block(value: Any) -> Strategy:
            try:
                return as_strategy(value)
            except StrategyError as error:
                raise PydanticCustomError("block", "{why}", {"why": error.message}) from None

        return core_schema.no_info_plain_validator_function(block)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"$ref": "#/$defs/strategy"}


def _file_path(path: Any) -> FilePath:
    try:
        return FilePath(path)
    except TypeError:
        raise StrategyError(f"a file is named by its path, text or a pathlib.Path, got {path!r}", code="file") from None


def as_strategy(value: Any) -> Strategy:
    """A Strategy from a Strategy, a step or a stage that can stand in a pipeline."""
    if isinstance(value, Strategy):
        return value
    if isinstance(value, Step):
        return Strategy((value,))
    if isinstance(value, Stage) and value.kind in ("logits processor", "sampler", "combinator", "search"):
        return Strategy((Step(value),))
    if isinstance(value, Stage):
        raise StrategyError(f"the {value.kind} {value.stage_name!r} cannot stand in a pipeline", code="kind")
    raise StrategyError(f"a strategy, a stage or a block is wanted, got {type(value).__name__}", code="type")
