"""The planner: from a strategy to the plan that a session runs.

A plan is the strategy's tree with every stage numbered (for its state) and keyed (for its noise). Unless
``as_written``, the planner also drops identities and moves monotone pointwise stages behind a stage that looks at ranks
alone, so that they work on its few columns. Rows whose plans have the same shape run stacked: a shape is everything of
a plan but the numbers in its Scalar fields and its stop tests.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .dsl import kinds
from .errors import Where
from .expression import Expression
from .rng import stage_key
from .scalar import Ramp
from .stage import Combinator, LogitsProcessor, Sampler, Search, Stage, StoppingCriterion
from .strategy import AllOf, AnyOf, Not, Step, Strategy, Test, expressions, leaves


@dataclass(frozen=True)
class Node:
    """A stage at its place in a plan."""

    index: int
    name: str  # its label, else its registered name and, from the second on, its occurrence: temperature, temperature#2
    key: int  # of its noise
    stage: Stage
    children: tuple[Pipe, ...] = ()

    @cached_property
    def accepts(self) -> bool:
        """Whether its state moves when a token is committed."""
        base = Sampler if isinstance(self.stage, Sampler) else LogitsProcessor
        return isinstance(self.stage, LogitsProcessor | Sampler) and type(self.stage).accept is not base.accept

    @cached_property
    def remembers(self) -> bool:
        """Whether it makes a state of its own."""
        base = Sampler if isinstance(self.stage, Sampler) else LogitsProcessor
        return isinstance(self.stage, LogitsProcessor | Sampler) and type(self.stage).init is not base.init

    @cached_property
    def on_head(self) -> bool:
        """Whether it can work on candidates in descending order, and nothing has to be known of it afterwards."""
        stage = self.stage
        if not isinstance(stage, LogitsProcessor) or self.accepts or self.remembers or stage.needs or not self.fixed:
            return False
        return type(stage).on_head is not LogitsProcessor.on_head

    @cached_property
    def draws_plainly(self) -> bool:
        """Whether it draws from what it is given, and does nothing else."""
        if not isinstance(self.stage, Sampler) or self.accepts or self.remembers:
            return False
        cls = type(self.stage)
        return cls.law is Sampler.law and cls.pick is Sampler.pick

    @cached_property
    def fixed(self) -> bool:
        """Whether its Scalar fields are plain numbers: the stage as written is the stage at every step."""
        return not any(isinstance(getattr(self.stage, field), Ramp | Expression) for field in self.stage.scalars)

    @cached_property
    def shape(self) -> Hashable:
        """What has to be equal for two rows to run this stage in one call."""
        stage = self.stage
        parts: list[Hashable] = [type(stage), self.key]
        for field in type(stage).model_fields:
            value = getattr(stage, field)
            if field in stage.scalars:
                parts.append(value if value is None or isinstance(value, Expression) else "number")
            elif not (field == "seed" and isinstance(stage, Sampler)):  # a request's default: no draw reads it
                parts.append(_without_blocks(value))
        return (*parts, *(child.shape for child in self.children))


def _without_blocks(value: Any) -> Hashable:
    """A field's value with nothing said about the blocks in it: a block's shape is its child's."""
    if isinstance(value, tuple):
        return tuple(map(_without_blocks, value))
    held: Hashable = "block" if isinstance(value, Strategy) else value
    return held


@dataclass(frozen=True)
class Pipe:
    """A pipeline of nodes with its own stop test. ``complete``: every path through it ends in a sampler."""

    nodes: tuple[Node, ...]
    stop: Test | None
    complete: bool

    @cached_property
    def shape(self) -> Hashable:
        return (self.complete, *(node.shape for node in self.nodes))

    @cached_property
    def tail(self) -> int:
        """From which node on all can run on a head of candidates and be drawn from in one go; len(nodes) for none."""
        if not self.nodes or not self.nodes[-1].draws_plainly:
            return len(self.nodes)
        heads = [node.on_head for node in self.nodes[:-1]]
        return max((i + 1 for i, can in enumerate(heads) if not can), default=0)

    def walk(self) -> Iterator[Node]:
        """Every node at any depth."""
        for node in self.nodes:
            yield node
            for child in node.children:
                yield from child.walk()

    def pipes(self) -> Iterator[Pipe]:
        """This pipe and all below it."""
        yield self
        for node in self.nodes:
            for child in node.children:
                yield from child.pipes()


@dataclass(frozen=True)
class Plan:
    """What a row runs."""

    strategy: Strategy
    root: Pipe
    as_written: bool = False

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """By index."""
        return tuple(sorted(self.root.walk(), key=lambda node: node.index))

    @cached_property
    def shape(self) -> Hashable:
        return self.root.shape

    @cached_property
    def seed(self) -> int | None:
        """The seed that a sampler of the strategy names as the default."""
        for node in self.root.walk():
            seed = getattr(node.stage, "seed", None)
            if isinstance(node.stage, Sampler) and seed is not None:
                return int(seed)
        return None

    @cached_property
    def looks_at_the_prompt(self) -> bool:
        """Whether a stage of it makes its state, or begins its first phase, where the prompt ends."""
        return any(
            node.remembers or (isinstance(node.stage, Combinator) and node.stage.sequential) for node in self.nodes
        )

    @cached_property
    def picks(self) -> bool:
        """Whether a sampler of it has a pick of its own."""
        samplers = (node.stage for node in self.root.walk() if isinstance(node.stage, Sampler))
        return any(type(sampler).pick is not Sampler.pick for sampler in samplers)

    @cached_property
    def rows(self) -> int:
        """The most rows a request with this plan owns at a time."""
        return max([1, *(node.stage.expand() for node in self.root.walk() if isinstance(node.stage, Search))])

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """Every expression anywhere in it, stop tests included."""
        found = [e for node in self.root.walk() for e in expressions(node.stage)]
        for pipe in self.root.pipes():
            for leaf in leaves(pipe.stop):
                found.extend([leaf] if isinstance(leaf, Expression) else expressions(leaf))
        return tuple(found)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Everything it may ask to prepare: stages, the signals that are read, and stopping criteria."""
        criteria = [
            leaf for pipe in self.root.pipes() for leaf in leaves(pipe.stop) if isinstance(leaf, StoppingCriterion)
        ]
        signals = [read.signal for expression in self.expressions for read in expression.reads()]
        return (*(node.stage for node in self.nodes), *signals, *criteria)

    def most_tokens(self, prompt: int) -> int | None:
        """How many new tokens a row behind a prompt of so many gets at most, as far as its stop test tells."""
        return _most_tokens(self.root.stop, prompt)

    def place_of(self, name: str) -> Where | None:
        """Where the stage of a node's name was written, or else the criterion of that name; None where it was not."""
        named = [node.stage for node in self.nodes if node.name == name]
        found = next(iter((*named, *(stage for stage in self.stages if stage.stage_name == name))), None)
        return None if found is None else self.strategy.place_of(found)

    @cached_property
    def needs(self) -> frozenset[str]:
        """What its stages, signals and criteria need, together."""
        return frozenset().union(*(stage.needs for stage in self.stages))

    @cached_property
    def host_coupled(self) -> bool:
        """Whether its pipeline waits for the host's text each step."""
        reads = [read for node in self.root.walk() for e in expressions(node.stage) for read in e.reads()]
        return any(read.kind == "text" or read.signal.reads_host for read in reads) or any(
            node.stage.reads_host for node in self.root.walk()
        )


def _most_tokens(test: Test | None, prompt: int) -> int | None:
    """Any of some tests holds where the soonest does; all of them, once they hold for good, where the last one does;
    "not" promises nothing.
    """
    if isinstance(test, StoppingCriterion):
        return test.most_tokens(prompt)
    if not isinstance(test, AnyOf) or isinstance(test, Not):
        return None
    each = [_most_tokens(part, prompt) for part in test.tests]
    known = [most for most in each if most is not None]
    if isinstance(test, AllOf):
        return max(known) if known == each else None
    return min(known, default=None)


def plan(strategy: Strategy, *, as_written: bool = False, fragment: bool = False) -> Plan:
    """The plan of a patched strategy. Raises StrategyError for a fragment where a whole strategy is wanted."""
    kinds.check(strategy)
    if not fragment:
        kinds.whole(strategy)
    root = _numbered(_Builder(as_written).pipe(strategy, Counter())[0], itertools.count())
    return Plan(strategy, root, as_written)


def _numbered(pipe: Pipe, count: Iterator[int]) -> Pipe:
    """The same pipe with its nodes numbered in the order they run in, so that rows of one shape have the same
    numbers.
    """
    nodes = []
    for node in pipe.nodes:
        index = next(count)
        nodes.append(replace(node, index=index, children=tuple(_numbered(child, count) for child in node.children)))
    return replace(pipe, nodes=tuple(nodes))


class _Builder:
    """Keys the stages of one strategy, and drops and moves what the plan may."""

    def __init__(self, as_written: bool) -> None:
        self.as_written = as_written

    def pipe(self, strategy: Strategy, seen: Counter[str]) -> tuple[Pipe, Counter[str]]:
        """A pipe, and how often each name has occurred on the paths that leave it."""
        nodes = []
        for step in strategy.pipeline:
            node, seen = self.node(step, seen)
            nodes.append(node)
        if not self.as_written:
            nodes = _sooner([node for node in nodes if not _drops(node)])
        return Pipe(tuple(nodes), strategy.stop, strategy.complete), seen

    def node(self, step: Step, seen: Counter[str]) -> tuple[Node, Counter[str]]:
        stage = step.stage
        seen = seen + Counter({stage.stage_name: 1})
        occurrence = seen[stage.stage_name]
        name = step.label or (stage.stage_name if occurrence == 1 else f"{stage.stage_name}#{occurrence}")
        children, after = [], seen
        if isinstance(stage, Combinator | Search):
            for child in stage.children():
                pipe, path = self.pipe(child, seen)
                children.append(pipe)
                after = after | path  # the most on any path: no two stages of one row ever share a key
        return Node(0, name, stage_key(name), stage, tuple(children)), after


def _drops(node: Node) -> bool:
    return isinstance(node.stage, LogitsProcessor) and node.stage.is_identity()


def _sooner(nodes: list[Node]) -> list[Node]:
    """Stages that look at ranks alone go ahead of monotone pointwise ones, which then work on fewer columns."""
    placed: list[Node] = []
    for node in nodes:
        at = len(placed)
        if node.stage.ranks_only and _fixed(node.stage):
            while at and _can_wait(placed[at - 1]):
                at -= 1
        placed.insert(at, node)
    return placed


def _can_wait(node: Node) -> bool:
    stage = node.stage
    if not isinstance(stage, LogitsProcessor) or node.accepts:
        return False
    return stage.monotone and stage.pointwise and _fixed(stage)


def _fixed(stage: Stage) -> bool:
    """Whether its scalars are the same at any place of a pipeline: an expression reads the distribution where it
    stands.
    """
    return not any(isinstance(getattr(stage, field), Expression) for field in stage.scalars)


def describe(built: Plan) -> list[dict[str, Any]]:
    """The planned order, for people: one entry a stage, with its depth."""

    def lines(pipe: Pipe, depth: int) -> Iterator[dict[str, Any]]:
        for node in pipe.nodes:
            yield {"stage": node.name, "kind": node.stage.kind, "depth": depth}
            for child in node.children:
                yield from lines(child, depth + 1)

    return list(lines(built.root, 0))


__all__ = ["Node", "Pipe", "Plan", "describe", "leaves", "plan"]
