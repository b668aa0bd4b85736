"""Strategies as an author would write them, from what is registered: names, fields, ranges and examples."""

from __future__ import annotations

import types
from random import Random
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fuzzing.words import Words

from logitmill.core.dsl.fields import Field, fields
from logitmill.core.expression import Expression, Pattern
from logitmill.core.registry import Entry, Registry
from logitmill.core.scalar import ScalarType, scalar_type
from logitmill.core.stage import Stage
from logitmill.core.strategy import Strategy

ARITHMETIC = ("+", "-", "*", "/")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


class Writer(Words):
    """Mostly legal documents. ``deep``: how many blocks may stand inside one another."""

    def __init__(self, chance: Random, registry: Registry, odd: float = 0.03, deep: int = 3) -> None:
        super().__init__(chance, odd)
        self.registry, self.deep = registry, deep
        self.kinds = {
            kind: list(registry.of(kind))
            for kind in (
                "logits processor",
                "sampler",
                "combinator",
                "search",
                "stopping criterion",
                "signal",
                "schedule",
            )
        }

    # -- whole documents -----------------------------------------------------------------------------------------------

    def program(self) -> str:
        return self.file() if self.chance.random() < 0.15 else self.strategy()

    def strategy(self) -> str:
        made = self.body(self.deep, whole=self.chance.random() < 0.85)
        if self.chance.random() < 0.55:
            made += f" until {self.test(2)}"
        if self.chance.random() < 0.1:
            made += f" with {self.patch()}" + (f", {self.patch()}" if self.rarely() else "")
        return made

    def file(self) -> str:
        """``dsl 1`` with definitions that call one another."""
        items, known = ["dsl 1"], []
        for number in range(self.chance.randint(0, 3)):
            name, params = f"let{number}", self.chance.sample(["t", "p", "n"], self.chance.randint(0, 2))
            heads = [param if self.chance.random() < 0.2 else f"{param}={self.number()}" for param in params]
            body = self.body(1, whole=False)
            stages = [f"temperature({param})" for param in params] + self.chance.sample(known, min(len(known), 1))
            written = " | ".join([*stages, *([body] if body not in ("", "{}") else [])]) or "{}"
            items.append(f"let {name}" + (f"({', '.join(heads)})" if heads else "") + f" = {written}")
            known.append(name + (f"({', '.join(f'{param}={self.number()}' for param in params)})" if params else ""))
        used = self.chance.sample(known, min(len(known), self.chance.randint(0, 2)))
        items.append("let main = " + " | ".join([*used, self.strategy()]))
        if self.rarely():
            items.insert(1, f"use {self.string()}" + self.of("", " as x"))
        return "\n".join(items)

    def body(self, depth: int, whole: bool) -> str:
        stages = [self.stage(depth) for _ in range(self.chance.choice([0, 1, 1, 2, 2, 3, 5]))]
        if whole:
            stages.append(self.ending(depth))
        return " | ".join(filter(None, stages)) or "{}"

    def block(self, depth: int, whole: bool) -> str:
        return "{ " + self.body(depth - 1, whole) + " }" if depth > 0 else self.of("{}", "{ temperature(0.5) }")

    def ending(self, depth: int) -> str:
        roll = self.chance.random()
        if depth > 0 and roll < 0.12:
            return f"when {self.test(1, signals=True)} {self.block(depth, True)} else {self.block(depth, True)}"
        if depth > 0 and roll < 0.2:
            first = f"{{ {self.body(depth - 1, True)} until {self.test(1)} }}"
            return f"phases({first}, {self.block(depth, True)})"
        if depth == self.deep and roll < 0.3 and self.kinds["search"]:
            return self.call(self.chance.choice(self.kinds["search"]), depth)
        return self.call(self.chance.choice(self.kinds["sampler"]), depth)

    def stage(self, depth: int) -> str:
        roll = self.chance.random()
        if depth > 0 and roll < 0.12:
            other = self.of("", f" else {self.block(depth, False)}", f" else {self.stage(depth - 1)}")
            return f"when {self.test(1, signals=True)} {self.block(depth, False)}{other}"
        if depth > 0 and roll < 0.2:
            return self.call(self.chance.choice(self.kinds["combinator"]), depth)
        made = self.call(self.chance.choice(self.kinds["logits processor"]), depth)
        return made + (f" as {self.label()}" if self.chance.random() < 0.05 else "")

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, entry: Entry, depth: int) -> str:
        """A stage as one of its examples writes it, or with arguments made from its fields."""
        stage = entry.load()
        if stage.examples and entry.kind != "signal" and self.chance.random() < 0.4:
            return self.chance.choice(stage.examples)
        known = dict(fields(stage))
        behind = f" {self.block(depth, True)}" if known.pop("block", None) is not None else ""
        if entry.name == "when":
            return f"when {self.test(1, signals=True)} {self.block(depth, False)}"
        if stage.variadic is not None:
            listed = known.pop(stage.variadic)
            args = self.variadic(listed, depth) + self.named(known, depth)
        else:
            args = self.placed(known, depth)
        return entry.name + (f"({', '.join(args)})" if args else "") + behind

    def placed(self, known: dict[str, Field], depth: int) -> list[str]:
        """The leading required ones by place, most others left out."""
        args: list[str] = []
        by_place = True
        for name, field in known.items():
            if not field.required:
                by_place = False
                if self.chance.random() < 0.7:
                    continue
            written = self.value(field.annotation, field.metadata, depth)
            args.append(written if by_place and self.chance.random() < 0.9 else f"{name}={written}")
            by_place = by_place and "=" not in args[-1].partition('"')[0]
        return args

    def named(self, known: dict[str, Field], depth: int) -> list[str]:
        return [
            f"{name}={self.value(field.annotation, field.metadata, depth)}"
            for name, field in known.items()
            if field.required or self.chance.random() < 0.3
        ]

    def variadic(self, field: Field, depth: int) -> list[str]:
        count = self.chance.choice([1, 1, 2, 2, 3])
        if field.weighted:
            return [f"{self.number()}: {self.block(depth, False)}" for _ in range(count)]
        if field.pairs:
            return [self.value(field.annotation, field.metadata, depth)]
        return [self.value(field.item, (), depth) for _ in range(count)]

    def patch(self) -> str:
        entry = self.chance.choice(self.kinds["logits processor"])
        name, field = self.chance.choice(list(fields(entry.load()).items()) or [("value", None)])
        written = self.number() if field is None else self.value(field.annotation, field.metadata, 1)
        return f"{self.of(entry.name, self.label())}.{name}={written}"

    # -- values by type ------------------------------------------------------------------------------------------------

    def value(self, annotation: Any, metadata: tuple[Any, ...], depth: int) -> str:
        """A value a field of this type takes, within its bounds where that is easily had."""
        own = next((item for item in metadata if isinstance(item, ScalarType)), None)
        if own is None and not get_args(annotation):
            own = scalar_type(annotation)
        if own is not None:
            return self.scalar(own.number, metadata)
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self.value(args[0], args[1:], depth)
        if origin is Literal:
            word = str(self.chance.choice(args))
            return self.of(word, f'"{word}"') if word.isidentifier() else f'"{word}"'
        if origin in (Union, types.UnionType):
            return self.value(self.chance.choice([part for part in args if part is not type(None)]), metadata, depth)
        if origin is tuple:
            return self.sequence(args, depth)
        return self.plain(annotation, metadata, depth)

    def sequence(self, args: tuple[Any, ...], depth: int) -> str:
        if args[-1:] != (Ellipsis,):
            return f"[{', '.join(self.value(part, (), depth) for part in args)}]"
        item, count = args[0], self.chance.choice([0, 1, 1, 2, 3])
        if get_origin(item) is tuple and len(get_args(item)) == 2 and Ellipsis not in get_args(item):
            key, value = get_args(item)
            pairs = [f"{self.value(key, (), depth)}: {self.value(value, (), depth)}" for _ in range(count)]
            return f"[{', '.join(pairs)}]"
        return f"[{', '.join(self.value(item, (), depth) for _ in range(count))}]"

    def plain(self, annotation: Any, metadata: tuple[Any, ...], depth: int) -> str:
        if annotation is bool:
            return self.of("true", "false")
        if annotation in (int, float):
            return self.within(annotation, metadata)
        if annotation is Pattern:
            return self.pattern()
        if annotation is Expression:
            return self.of(self.number_of(2), self.comparison())
        if annotation is Strategy:
            return self.block(depth, self.chance.random() < 0.2)
        if isinstance(annotation, type) and issubclass(annotation, Stage):
            return self.call(self.chance.choice(self.kinds["signal"]), depth)
        return self.string()

    def scalar(self, number: type, metadata: tuple[Any, ...]) -> str:
        roll = self.chance.random()
        if roll < 0.75:
            return self.within(number, metadata)
        if roll < 0.88:
            by = self.chance.choice(["", *(f" by {entry.name}" for entry in self.kinds["schedule"])])
            ends = f"{self.within(number, metadata)} -> {self.within(number, metadata)}"
            return f"{ends} over {self.chance.choice(['1', '8', '64', '2.5'])}{by}"
        return self.number_of(2)

    def within(self, number: type, metadata: tuple[Any, ...]) -> str:
        """A number inside the bounds, now and then on or beyond one."""
        bounds: dict[str, float] = {}
        for item in metadata:
            for part in (item, *getattr(item, "metadata", ())):
                bounds.update(
                    {k: getattr(part, k) for k in ("ge", "gt", "le", "lt") if getattr(part, k, None) is not None}
                )
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        if self.rarely() or (low is None and high is None):
            return self.of("", "-") + (self.whole() if number is int else self.number())
        if self.chance.random() < 0.2 and (low is not None or high is not None):
            edge = self.chance.choice([bound for bound in (low, high) if bound is not None])
            return str(int(edge)) if number is int or float(edge).is_integer() else repr(float(edge))
        if number is int:
            return str(self.chance.randint(int(low or 0), int(min(high if high is not None else 64, (low or 0) + 64))))
        least, most = (low if low is not None else 0.0), (high if high is not None else (low or 0.0) + 2.0)
        return repr(round(self.chance.uniform(least, most), self.chance.choice([1, 2, 3, 17])))

    # -- expressions and tests -----------------------------------------------------------------------------------------

    def signal(self, kind: str) -> str:
        fitting = [entry for entry in self.kinds["signal"] if getattr(entry.load(), "value_kind", "number") == kind]
        made = self.call(self.chance.choice(fitting), 0) if fitting else "0.5"
        return self.of("", "", "raw.") + made

    def number_of(self, depth: int) -> str:
        if depth == 0 or self.chance.random() < 0.3:
            return self.of(self.signal("number"), self.number())
        a, b = self.number_of(depth - 1), self.number_of(depth - 1)
        op = self.of(*ARITHMETIC)
        return self.of(
            f"{a} {op} {b}", f"({a} {op} {b}) {self.of(*ARITHMETIC)} {b}", f"-({a})", f"--{b}", f"min({a}, {b})",
            f"max({a}, {b})", f"clamp({a}, 0.1, 2)", f"exp({a})", f"log({b})", f"{a} - ({b} - {a})", f"-{a} * -{b}",
        )  # fmt: skip

    def comparison(self) -> str:
        a, b = self.number_of(1), self.number_of(1)
        return self.of(
            f"{a} {self.of(*COMPARISONS)} {b}", f"{a} in [{self.number()}, {self.number()}]", self.signal("truth"),
            f"{self.signal('text')} ~ {self.pattern()}", f"{self.string()} in {self.signal('text')}",
            f"{self.signal('text')} in [{self.string()}]", f"{self.signal('text')} == {self.string()}",
        )  # fmt: skip

    def test(self, depth: int, signals: bool = False) -> str:
        if depth == 0 or self.chance.random() < 0.4:
            criterion = self.chance.choice(self.kinds["stopping criterion"])
            return self.comparison() if signals or self.chance.random() < 0.25 else self.call(criterion, 0)
        a, b = self.test(depth - 1, signals), self.test(depth - 1, signals)
        op = self.of("and", "or")
        return self.of(f"{a} {op} {b}", f"({a}) {op} ({b})", f"not ({a})", f"not not {a}", f"not ({a} {op} {b})")
