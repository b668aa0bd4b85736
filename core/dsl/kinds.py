"""What may stand where: the rules of a pipeline, whoever wrote it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..errors import StrategyError, Where
from ..stage import Combinator, Sampler, Search, Stage
from ..strategy import Step, Strategy


class Place(Enum):
    """Where a strategy stands, which decides what it may hold."""

    TOP = "a whole strategy or a phase of one: everything"
    SEARCH = "the block of a search: no search"
    BRANCH = "a block that a row is in for a token at a time: no search, no phases, no stop test"

    @staticmethod
    def inside(owner: type[Stage], outer: Place) -> Place:
        """The place of a block of ``owner``, which itself stands at ``outer``."""
        if issubclass(owner, Search):
            return Place.SEARCH
        if issubclass(owner, Combinator) and owner.sequential:
            return outer
        return Place.BRANCH


def ends(stage: Stage) -> bool:
    """Whether nothing can stand behind it."""
    return isinstance(stage, Sampler | Search) or (isinstance(stage, Combinator) and Strategy((Step(stage),)).complete)


def check(strategy: Strategy, place: Place = Place.TOP) -> None:
    """Raise StrategyError where a strategy, built in Python for instance, breaks a rule of kinds anywhere in it."""
    before: Step | None = None
    for step in strategy.pipeline:
        where = step.where or strategy.where
        check_place(type(step.stage), place, where)
        if isinstance(step.stage, Combinator | Search):
            for block in step.stage.children():
                check(block, Place.inside(type(step.stage), place))
        check_stage(step, before, place, where)
        before = step
    if strategy.stop is not None:
        check_stop(place, strategy.where)
    check_labels(strategy)


def check_stage(step: Step, before: Step | None, place: Place, where: Where | None) -> None:
    """Raise StrategyError where ``step`` cannot stand behind ``before`` at ``place``."""
    stage = step.stage
    if stage.kind not in ("logits processor", "sampler", "combinator", "search"):
        hint = (
            "it stands behind 'until'"
            if stage.kind == "stopping criterion"
            else "it stands in conditions and expressions"
        )
        raise _wrong(f"'{stage.stage_name}' is a {stage.kind} and cannot stand in a pipeline", where, hint, "kind")
    if before is not None and ends(before.stage):
        raise _after(stage, before.stage, where)
    if isinstance(stage, Search):
        _check_search(stage, place, where)
    elif isinstance(stage, Combinator):
        check_place(type(stage), place, where)
        _check_combinator(stage, where)


def check_place(stage: type[Stage], place: Place, where: Where | None) -> None:
    """Raise StrategyError where a stage of this type cannot stand at ``place``, whatever it holds."""
    if issubclass(stage, Combinator) and stage.sequential and place is Place.BRANCH:
        raise _wrong(
            f"'{stage.stage_name}' in a block that a row is in for a token at a time",
            where,
            f"'{stage.stage_name}' stands in a whole strategy: put what is around it into its blocks",
            "place",
        )


def check_stop(place: Place, where: Where | None) -> None:
    """Raise StrategyError where an ``until`` would never be asked."""
    if place is Place.BRANCH:
        raise _wrong(
            "'until' inside a block that does not run a row to its end",
            where,
            "put it behind the whole pipeline",
            "until",
        )


def check_labels(strategy: Strategy) -> None:
    """Raise StrategyError for a label that two stages have: it keys a stage's noise, and patches name it."""
    seen: set[str] = set()
    for step in strategy.steps():
        if step.label is not None and step.label in seen:
            raise _wrong(f"the label '{step.label}' is given twice", step.where, "choose another", "duplicate")
        seen.update([step.label] if step.label is not None else [])


def whole(strategy: Strategy) -> None:
    """Raise StrategyError for a fragment where a whole strategy is wanted."""
    if strategy.complete:
        return
    last = strategy.pipeline[-1] if strategy.pipeline else None
    where = (last.where if last is not None else None) or strategy.where
    after = f" after '{last.stage.stage_name}'" if last is not None else ""
    raise _wrong(f"no sampler{after}", where, "end the pipeline in one: ... | sample", "no-sampler")


def _after(stage: Stage, before: Stage, where: Where | None) -> StrategyError:
    if isinstance(before, Search):
        return _wrong(
            f"'{stage.stage_name}' after the search '{before.stage_name}'",
            where,
            "a search ends its pipeline",
            "after-sampler",
        )
    if isinstance(before, Combinator):
        message = f"'{stage.stage_name}' after a '{before.stage_name}' that ends in samplers"
        return _wrong(message, where, "take the samplers out of its blocks, or this stage away", "after-sampler")
    if isinstance(stage, Sampler):
        message = f"two samplers: '{stage.stage_name}' after '{before.stage_name}'"
        return _wrong(message, where, "a pipeline ends in exactly one", "two-samplers")
    message = f"'{stage.stage_name}' after the sampler '{before.stage_name}'"
    return _wrong(message, where, f"move it before '{before.stage_name}'", "after-sampler")


def _check_search(stage: Search, place: Place, where: Where | None) -> None:
    if place is not Place.TOP:
        inside = (
            "inside another search" if place is Place.SEARCH else "in a block that a row is in for a token at a time"
        )
        raise _wrong(
            f"the search '{stage.stage_name}' {inside}",
            where,
            "a search ends a whole strategy or a phase",
            "search-place",
        )
    blocks = stage.children()
    if stage.needs_sampler and not blocks:
        raise _wrong(
            f"'{stage.stage_name}' needs a block",
            where,
            f"write {stage.stage_name}(...) {{ ... | sample }}",
            "missing-argument",
        )
    for block in blocks:
        if stage.needs_sampler and not block.complete:
            message = f"no sampler in the block of '{stage.stage_name}'"
            raise _wrong(message, block.where or where, "end the block in one: ... | sample", "no-sampler")


def _check_combinator(stage: Combinator, where: Where | None) -> None:
    name = stage.stage_name
    blocks: tuple[Any, ...] = stage.children()
    for block in blocks[:-1] if stage.sequential else ():
        search = next((step.stage for step in block.steps() if isinstance(step.stage, Search)), None)
        if search is not None:
            message = f"the search '{search.stage_name}' in a block of '{name}' that another follows"
            raise _wrong(
                message, block.where or where, "its rows end together: put it in the last block", "search-place"
            )
    merges = not stage.sequential and type(stage).merge is not Combinator.merge
    for block in blocks:
        if merges and block.complete:
            hint = f"its blocks are fragments: put one sampler behind '{name}'"
            raise _wrong(f"a sampler inside a block of '{name}'", block.where or where, hint, "sampler-place")
        if block.complete != blocks[0].complete:
            alone = name == "when" and getattr(stage, "orelse", None) is None
            message = f"one block of '{name}' ends in a sampler and another does not"
            hint = "add else { ... } that ends in one too" if alone else "every path ends in exactly one sampler"
            raise _wrong("this 'when' draws only where its test holds" if alone else message, where, hint, "uneven")


def _wrong(message: str, where: Where | None, hint: str, code: str) -> StrategyError:
    return StrategyError(message, where, hint=hint, code=code)
