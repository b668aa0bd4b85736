"""Syntax tree to Strategy: every name looked up, every argument checked, every ``let`` expanded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..errors import PluginError, Span, StrategyError, Where
from ..registry import Entry, Registry
from ..stage import Stage, StoppingCriterion
from ..strategy import Patch, Step, Strategy, Test, all_of, any_of, as_test, negation
from . import syntax
from .arguments import changed, make
from .expressions import build
from .faults import placed
from .kinds import Place, check_labels, check_place, check_stage, check_stop
from .marks import Marks
from .scan import MAX_NESTING
from .scope import Bound, Definition, Scope, Source, did_you_mean, read_scope

MAX_STAGES = 1000  # of a strategy, lets expanded
MAX_WORK = 20_000  # stages made while reading one document
MAX_VISITS = 100_000  # values and blocks read, parameters expanded


#: what stands where a name of this kind was looked for in vain
_WANTED = {"signal": "here stand numbers, signals and functions of them; 'logitmill stages' lists the signals"}


class Resolver:
    """Resolves one document."""

    def __init__(self, registry: Registry, source: Source | None = None) -> None:
        self.registry, self.source = registry, source or Source()
        self.marks = Marks()
        self._depth, self._work, self._visits = 0, 0, 0
        self._deepest = 0  # what _depth has been at most, since the outermost let being expanded began
        self._place = Place.TOP
        self._defines = False  # whether the document has a let beside main
        self._open: list[Definition] = []  # the lets being expanded, outermost first
        self._written: dict[Definition, Strategy] = {}  # what a let says with its defaults
        self._done: dict[Definition, Strategy] = {}  # the same with its patches applied, as others meet it
        self._heights: dict[Definition, int] = {}  # how many levels that was

    def program(self, program: syntax.Program) -> Strategy:
        """What ``main`` says. Raises StrategyError at the first mistake.

        Every definition is checked, used or not; one that has to be given something, where it is called.
        """
        scope = read_scope(program, self.registry, self.source)
        self._defines = len(scope.lets) > 1
        for item in program.items:
            if isinstance(item, syntax.Let) and (item.name.text == "main" or not item.needs):
                self._expand(scope.lets[item.name.text], {}, item.name.where)
        if program.main is None:
            names = ", ".join(item.name.text for item in program.items if isinstance(item, syntax.Let))
            hint = f"it defines {names}: write let main = ..." if names else "write let main = ..."
            raise StrategyError("this document has no 'main'", program.where, hint=hint, code="no-main")
        return replace(self._written[scope.lets["main"]], marks=self.marks)

    @contextmanager
    def deeper(self, where: Where, levels: int = 1) -> Iterator[None]:
        """One level further in: blocks, lets and expressions together go 64 deep."""
        self._depth += levels
        self._deepest = max(self._deepest, self._depth)
        self._visits += 1
        try:
            if self._depth > 2 * MAX_NESTING:
                raise StrategyError(
                    "nested too deep once its definitions are expanded", where, hint="make it flatter", code="too-deep"
                )
            if self._visits > MAX_VISITS:
                raise self._too_large("this is too large", " once its parameters are expanded", where)
            yield
        finally:
            self._depth -= levels

    # names

    def entry(self, name: syntax.Word, scope: Scope, kinds: tuple[str, ...], more: tuple[str, ...] = ()) -> Entry:
        """The registered stage of a name, of whatever kind. An error suggests one of the wanted ``kinds``."""
        known = scope.stages.get(name.text, name.text)
        entry = self.registry.find(known)
        if entry is None:
            if kinds == ("signal",) and name.text.lower() in ("nan", "inf", "infinity"):
                hint = "a finite number is wanted"
                raise StrategyError(f"{name.text} is no number here", name.where, hint=hint, code="number")
            names = [entry.name for entry in self.registry.entries.values() if entry.kind in kinds]
            wanted = kinds[0] if kinds == ("signal",) else "stage"
            listed = "'logitmill stages' lists what there is"
            hint = did_you_mean(name.text, [*names, *scope.stages, *more]) or _WANTED.get(wanted, listed)
            raise StrategyError(f"unknown {wanted} '{name.text}'", name.where, hint=hint, code="unknown-stage")
        return entry

    def make(self, entry: Entry, call: syntax.Call, scope: Scope, block: syntax.Block | None = None) -> Stage:
        """The stage of a call of ``entry``."""
        self._work += 1
        if self._work > MAX_WORK:
            raise self._too_large(f"reading this takes more than {MAX_WORK:,} stages", "", call.where)
        try:
            stage = entry.load()
        except PluginError as error:
            raise StrategyError(str(error), call.name.where, code="plugin") from error
        check_place(stage, self._place, call.name.where)
        if call.revision is not None and call.revision != stage.revision:
            raise StrategyError(
                f"unknown revision '{entry.name}@{call.revision}'",
                call.name.where,
                hint=f"this logitmill has {stage.reference()}",
                code="revision",
            )
        return make(self, stage, call, scope, block)

    def _too_large(self, message: str, expanded: str, where: Where) -> StrategyError:
        """``expanded`` is what definitions have to do with it, where there are any."""
        if self._defines:
            return StrategyError(message + expanded, where, hint="expand less with 'let'", code="too-large")
        return StrategyError(message, where, hint="take some out", code="too-large")

    # strategies

    def block(self, node: syntax.Block, scope: Scope, owner: type[Stage]) -> Strategy:
        """A block of a stage of type ``owner``, which decides what may stand in it."""
        outer, self._place = self._place, Place.inside(owner, self._place)
        try:
            with self.deeper(node.where):
                return self.body(node.body, scope)
        finally:
            self._place = outer

    def body(self, node: syntax.Body, scope: Scope) -> Strategy:
        """A strategy as it stands at the present place."""
        steps: list[Step] = []
        stop: Test | None = None
        size = 0
        for position, item in enumerate(node.stages):
            definition = scope.lets.get(item.call.name.text) if isinstance(item, syntax.Stage) else None
            if definition is None:
                added: tuple[Step, ...] = (self._step(item, scope),)
            else:
                assert isinstance(item, syntax.Stage)
                inner = self._call_let(definition, item, scope)
                added, stop = inner.pipeline, inner.stop
                if stop is not None and (position + 1 < len(node.stages) or node.until is not None):
                    raise StrategyError(
                        f"'{item.call.name.text}' has an 'until' of its own",
                        item.where,
                        hint="'until' stands once, at the end",
                        code="order",
                    )
            for step in added:
                where = item.call.name.where if isinstance(item, syntax.Stage) else _keyword(item)
                check_stage(step, steps[-1] if steps else None, self._place, where)
                steps.append(step)
                size += 1 + sum(len(list(child.steps())) for child in _children(step.stage))
            if size > MAX_STAGES:
                raise self._too_large(
                    f"more than {MAX_STAGES:,} stages", " once its definitions are expanded", item.where
                )
        if node.until is not None:
            stop = self.test(node.until, scope)
        if stop is not None:
            check_stop(self._place, node.until.where if node.until is not None else node.where)
        strategy = Strategy(tuple(steps), stop, where=node.where)
        check_labels(strategy)
        return self._patched(strategy, node.patches, scope) if node.patches else strategy

    def _patched(self, strategy: Strategy, patches: tuple[syntax.Patch, ...], scope: Scope) -> Strategy:
        from ..patch import target

        made: dict[tuple[str, ...], Patch] = {}  # a later one of the same path takes an earlier one's place
        for patch in patches:
            path = tuple(patch.path.text.split("."))
            try:
                stage = target(strategy, path)
                word = syntax.Word(path[-1], where=patch.path.where)
                value = changed(self, stage, word, patch.value, scope)
            except StrategyError as error:
                raise placed(error, patch.path.where) from None
            made.pop(path, None)
            made[path] = Patch(path, value, patch.where)
        return Strategy(strategy.pipeline, strategy.stop, tuple(made.values()), strategy.where)

    # stages

    def _step(self, node: syntax.Step, scope: Scope) -> Step:
        with self.deeper(node.where):
            if isinstance(node, syntax.When):
                return self._when(node, scope)
            kinds = ("logits processor", "sampler", "combinator", "search")
            entry = self.entry(node.call.name, scope, kinds, tuple(scope.lets))
            label = node.label.text if node.label is not None else None
            return Step(self.make(entry, node.call, scope, node.block), label, node.where)

    def _when(self, node: syntax.When, scope: Scope) -> Step:
        """``when`` is the combinator of that name: its fields are test, then and orelse."""
        name = syntax.Word("when", where=_keyword(node))
        args = [("test", node.test), ("then", node.then)]
        rest = node.otherwise
        if rest is not None:
            if not isinstance(rest, syntax.Block):
                rest = syntax.Block(syntax.Body((rest,), where=rest.where), where=rest.where)
            args.append(("orelse", rest))
        made = tuple(syntax.Arg(value, syntax.Word(key, where=value.where), where=value.where) for key, value in args)
        entry = self.entry(name, scope, ("combinator",))
        return Step(self.make(entry, syntax.Call(name, made, node.revision, where=node.where), scope), None, node.where)

    # definitions

    def _call_let(self, definition: Definition, node: syntax.Stage, scope: Scope) -> Strategy:
        """What a ``let`` means with a call's arguments."""
        name, params = definition.let.name.text, definition.let.params
        if node.block is not None:
            raise StrategyError(f"'{name}' is a definition and takes no block", node.block.where, code="argument")
        given: dict[str, Bound] = {}
        for position, arg in enumerate(node.call.args):
            names = [param.name.text for param in params]
            if arg.weight is not None:
                raise StrategyError(f"'{name}' takes no weights", arg.weight.where, code="argument")
            if arg.key is None and position >= len(names):
                takes = f"it takes {', '.join(names)}" if names else "it takes none"
                raise StrategyError(f"too many arguments for '{name}'", arg.where, hint=takes, code="argument")
            key = arg.key.text if arg.key is not None else names[position]
            if key not in names:
                takes = did_you_mean(key, names) or (f"it takes {', '.join(names)}" if names else "it takes none")
                raise StrategyError(f"'{name}' has no argument '{key}'", arg.where, hint=takes, code="unknown-argument")
            if key in given:
                raise StrategyError(f"'{key}' is given twice", arg.where, hint="remove one", code="argument")
            given[key] = Bound(arg.value, scope)
        inner = self._expand(definition, given, node.call.name.where)
        if node.label is not None:
            if len(inner.pipeline) != 1:
                raise StrategyError(
                    f"'{name}' is {len(inner.pipeline)} stages, a label names one",
                    node.label.where,
                    hint="label a stage inside it",
                    code="argument",
                )
            return Strategy((Step(inner.pipeline[0].stage, node.label.text, node.where),), inner.stop)
        return inner

    def _expand(self, definition: Definition, given: dict[str, Bound], where: Where) -> Strategy:
        if definition in self._open:
            names = [item.let.name.text for item in (*self._open[self._open.index(definition) :], definition)]
            raise StrategyError(
                f"'{names[0]}' is defined by itself: {' -> '.join(names)}",
                where,
                hint="a 'let' cannot be recursive",
                code="recursive",
            )
        if not given and definition in self._done:
            with self.deeper(where, self._heights[definition]):
                return self._done[definition]
        from ..patch import patched

        let, outer, deepest = definition.let, self._place, self._deepest
        params = {p.name.text: Bound(p.default, definition.scope) for p in let.params if p.default is not None}
        for needed in let.needs:
            if needed not in given:
                name = let.name.text
                hint = f"write {name}({needed}=...), or give it a default: let {name}({needed}=...)"
                raise StrategyError(f"'{name}' needs '{needed}'", where, hint=hint, code="missing-argument")
        self._open.append(definition)
        self._place = Place.TOP  # what it may hold is judged where it stands
        self._deepest = start = self._depth + 1  # a definition is no level of what it says
        try:
            with self.deeper(where):
                made = self.body(let.body, definition.scope.with_params(params | given))
        finally:
            self._open.pop()
            self._place = outer
            height, self._deepest = self._deepest - start, max(deepest, self._deepest)
        if given:
            return patched(made)
        self._heights[definition] = height
        self._written[definition] = made
        self._done[definition] = patched(made)
        return self._done[definition]

    # stop tests

    def test(self, node: syntax.Value, scope: Scope) -> Test:
        """A stop test: criteria and conditions on signals, joined by and, or, not."""
        bound = scope.param(node)
        with self.deeper(node.where):
            if bound is not None:
                return self.test(bound.value, bound.scope)
            made = self._test(node, scope)
            self.marks.note(made, node.where)
            return made

    def _test(self, node: syntax.Value, scope: Scope) -> Test:
        match node:
            case syntax.Either():
                return any_of(*(self.test(part, scope) for part in node.parts))
            case syntax.Both():
                return all_of(*(self.test(part, scope) for part in node.parts))
            case syntax.Not():
                return negation(self.test(node.operand, scope))
            case syntax.Call() if self._is_stage(node, scope):
                entry = self.entry(node.name, scope, ("stopping criterion", "signal"), tuple(scope.params))
                if entry.kind == "stopping criterion":
                    stage = self.make(entry, node, scope)
                    assert isinstance(stage, StoppingCriterion)
                    return stage
                if entry.kind != "signal":
                    raise StrategyError(
                        f"'{node.name.text}' is a {entry.kind} and cannot stand in 'until'",
                        node.name.where,
                        hint="here stand stopping criteria and conditions on signals",
                        code="kind",
                    )
        try:
            return as_test(build(self, node, scope))
        except StrategyError as error:
            raise placed(error, node.where) from None

    def _is_stage(self, node: syntax.Call, scope: Scope) -> bool:
        from ..expression import FUNCTIONS

        return (
            node.name.text not in FUNCTIONS
            and not node.name.text.startswith("raw.")
            and node.name.text not in scope.params
        )


def _keyword(node: syntax.When) -> Where:
    """The place of the word 'when' alone, which can hold a caret that the whole stage would not."""
    where = node.where
    return Span(where.source, where.start, where.start + len("when"), where.file) if isinstance(where, Span) else where


def _children(stage: Stage) -> tuple[Strategy, ...]:
    children = getattr(stage, "children", None)
    return tuple(children()) if children is not None else ()
