"""A whole program as ``fmt`` prints it: what is long or commented is broken up, and no comment is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Span, StrategyError
from . import render, syntax
from .parse import parse_program

WIDTH = 100
INDENT = "    "
_ROUNDS = 8  # of laying out; the second changes little, and few need a third


def format_program(program: syntax.Program) -> str:
    """The canonical text of a program, ending in a newline. Formatting it again changes nothing."""
    text = _Layout(list(program.comments)).program(program)
    for _ in range(_ROUNDS if program.comments else 0):
        again = _again(text)
        if again == text:
            break
        text = again
    return text


def _again(text: str) -> str:
    """``text`` laid out once more: a comment that stood where no line could take it has moved, and made room."""
    try:
        program = parse_program(text)
    except StrategyError:  # longer than a text may be, now that it stands on many lines
        return text
    return _Layout(list(program.comments)).program(program)


def format_body(body: syntax.Body) -> str:
    """The canonical text of a strategy on as many lines as it needs, without a newline at its end."""
    return "\n".join(_Layout([]).body(body, 0))


@dataclass
class _Layout:
    """Comments are taken from the front of the list as what follows them is laid out."""

    comments: list[syntax.Comment]

    # comments

    def _before(self, at: int) -> list[str]:
        """Take the comments that start before ``at``."""
        taken = []
        while self.comments and _start(self.comments[0]) < at:
            taken.append(self.comments.pop(0).text)
        return taken

    def _behind(self, lines: list[str], node: syntax.Node, limit: int | None = None) -> list[str]:
        """``lines`` of ``node`` with the comment that ends its line, if one does, and nothing but it."""
        if self.comments and not self.comments[0].own_line:
            at = _start(self.comments[0])
            beside = isinstance(node.where, Span) and "\n" not in node.where.source[_end(node) : at]
            if at >= _end(node) and beside and (limit is None or at < limit):
                text = self.comments.pop(0).text
                if lines[-1].lstrip().startswith("#"):  # a comment has no other behind it
                    return [*lines, text]
                lines = [*lines[:-1], f"{lines[-1]}  {text}"]
        return lines

    def _commented(self, node: syntax.Node) -> bool:
        """Whether a comment inside ``node``, or one that nothing before it could take, is still to be written."""
        return bool(self.comments) and _start(self.comments[0]) < _end(node)

    # programs

    def program(self, program: syntax.Program) -> str:
        lines: list[str] = []
        while self.comments and _start(self.comments[0]) < _start(program):
            comment = self.comments.pop(0)
            lines += [*_gap(comment), comment.text]
        lines += _gap(program)
        if program.version is None:
            assert program.main is not None  # a bare strategy is one
            lines += self._behind(self.body(program.main.body, 0), program)
        else:
            nodes = program.items
            lines += self._header(program, _start(program.items[0]))
            for position, item in enumerate(nodes):
                lines += self._item(item, nodes[position + 1] if position + 1 < len(nodes) else None)
        lines += [line for comment in self.comments for line in (*_gap(comment), comment.text)]
        self.comments = []
        return "\n".join(lines) + "\n"

    def _header(self, program: syntax.Program, limit: int) -> list[str]:
        line = f"dsl {program.version}"
        if self.comments and not self.comments[0].own_line and _start(self.comments[0]) < limit:
            line += f"  {self.comments.pop(0).text}"
        return [line]

    def _item(self, item: syntax.Item, following: syntax.Item | None) -> list[str]:
        lines = []
        while self.comments and _start(self.comments[0]) < _start(item):
            comment = self.comments.pop(0)
            lines += [*_gap(comment), comment.text]
        lines += _gap(item)
        if isinstance(item, syntax.Use):
            laid = [*self._before(_end(item)), render.use(item)]
        else:
            flat = f"{render.head(item)} = {render.body(item.body)}"
            above = self._before(_start(item.body))
            if len(flat) <= WIDTH and not self._commented(item):
                laid = [*above, flat]
            else:
                body = self.body(item.body, len(INDENT))
                while body[0].startswith("#"):
                    above.append(body.pop(0))
                fits = body == [render.body(item.body)] and len(flat) <= WIDTH
                laid = [*above, flat] if fits else [*above, f"{render.head(item)} =", *_indented(body)]
        return lines + self._behind(laid, item, _start(following) if following is not None else None)

    # strategies

    def body(self, body: syntax.Body, column: int) -> list[str]:
        """One line where it fits behind ``column``, else one a stage."""
        flat = render.body(body)
        if len(flat) + column <= WIDTH and not self._commented(body):
            return [flat]
        lines = [] if body.stages else ["{}"]
        rest: list[syntax.Node] = [*body.stages[1:], *([body.until] if body.until else []), *body.patches]
        for position, stage in enumerate(body.stages):
            lines += self._before(_start(stage))
            mark = "| " if position else ""
            laid = self._stage(stage, column + len(mark))
            lines += self._before(_end(stage))  # what stands where no line of it can take a comment, before its label
            alone = not position and laid == [render.stage(stage)] and not self._commented(body)
            if alone and len(flat) + column <= WIDTH:
                return [*lines, flat]
            lines += self._behind(
                [mark + laid[0], *laid[1:]], stage, _start(rest[position]) if position < len(rest) else None
            )
        if body.until is not None:
            lines += self._until(body.until, column, _start(body.patches[0]) if body.patches else _end(body))
        for position, patch in enumerate(body.patches):
            lines += self._before(_end(patch))
            last = position + 1 == len(body.patches)
            text = ("     " if position else "with ") + render.patch(patch) + ("" if last else ",")
            lines += self._behind([text], patch, _end(body) if last else _start(body.patches[position + 1]))
        return lines + self._before(_end(body))

    def _until(self, test: syntax.Value, column: int, limit: int) -> list[str]:
        parts = test.parts if isinstance(test, syntax.Either | syntax.Both) else (test,)
        lines = self._before(_end(parts[0]))
        flat = f"until {render.value(test)}"
        if len(parts) == 1 or (len(flat) + column <= WIDTH and not self._commented(parts[-1])):
            return lines + self._behind([flat], test, limit)
        assert isinstance(test, syntax.Either | syntax.Both)  # what has several parts
        word = "or" if isinstance(test, syntax.Either) else "and"
        for position, part in enumerate(parts):
            lines += self._before(_end(part))
            mark = f"{INDENT}{word} " if position else "until "
            following = _start(parts[position + 1]) if position + 1 < len(parts) else limit
            lines += self._behind([mark + render.part_of(test, part)], part, following)
        return lines

    def _stage(self, stage: syntax.Step, column: int) -> list[str]:
        flat = render.stage(stage)
        if len(flat) + column <= WIDTH and not self._commented(stage):
            return [flat]
        if isinstance(stage, syntax.Stage):
            lines = self._call(stage.call, column)
            if stage.block is not None:
                lines = _joined(lines, self._block(stage.block))
            if stage.label is not None:
                lines = _joined(lines, [f"as {stage.label.text}"])
            return lines
        lines = _joined([f"when {render.value(stage.test)}"], self._block(stage.then))
        rest = stage.otherwise
        if rest is None:
            return lines
        laid = self._block(rest) if isinstance(rest, syntax.Block) else self._stage(rest, 0)
        return _joined(_joined(lines, ["else"]), laid)

    def _block(self, block: syntax.Block) -> list[str]:
        if render.block(block) == "{}":
            inner = self._before(_end(block))
            return ["{", *_indented(inner), "}"] if inner else ["{}"]
        inner = self._before(_start(block.body))
        inner += self.body(block.body, len(INDENT))
        if self.comments and _start(self.comments[0]) < _end(block):
            inner = self._behind(inner, block.body, _end(block)) + self._before(_end(block))
        return ["{", *_indented(inner), "}"]

    def _call(self, call: syntax.Call, column: int) -> list[str]:
        flat = render.call(call)
        broken = len(flat) + column > WIDTH or self._commented(call)
        if not broken or not call.args:
            return [flat]
        lines: list[str] = []
        for position, arg in enumerate(call.args):
            lines += self._before(_start(arg))
            following = _start(call.args[position + 1]) if position + 1 < len(call.args) else _end(call)
            laid = self._argument(arg)
            lines += self._behind([*laid[:-1], laid[-1] + ","], arg, following)
        return [f"{call.name.text}(", *_indented(lines + self._before(_end(call))), ")"]

    def _argument(self, arg: syntax.Arg) -> list[str]:
        flat = render.argument(arg)
        fits = len(flat) + len(INDENT) <= WIDTH
        if fits and not self._commented(arg):
            return [flat]
        mark = (
            f"{arg.key.text}="
            if arg.key is not None
            else f"{render.value(arg.weight)}: "
            if arg.weight is not None
            else ""
        )
        if isinstance(arg.value, syntax.Block):
            laid = self._block(arg.value)
            return [mark + laid[0], *laid[1:]]
        above = self._before(_end(arg))
        if fits or not isinstance(arg.value, syntax.ListOf | syntax.MapOf):
            return [*above, flat]
        laid = _filled(arg.value)
        return [*above, mark + laid[0], *laid[1:]]


def _filled(node: syntax.ListOf | syntax.MapOf) -> list[str]:
    """A long list or map, as many items a line as fit."""
    items = (
        [render.value(i) for i in node.items]
        if isinstance(node, syntax.ListOf)
        else [render.pair(i) for i in node.pairs]
    )
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 1 > WIDTH - 3 * len(INDENT):
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return ["[", *_indented(lines), "]"]


def _joined(lines: list[str], more: Sequence[str]) -> list[str]:
    return [*lines[:-1], f"{lines[-1]} {more[0]}", *more[1:]]


def _indented(lines: Sequence[str]) -> list[str]:
    return [INDENT + line for line in lines]


def _start(node: syntax.Node) -> int:
    return node.where.start if isinstance(node.where, Span) else 0


def _end(node: syntax.Node) -> int:
    return node.where.end if isinstance(node.where, Span) else 0


def _gap(node: syntax.Node) -> list[str]:
    """[""] where the source has an empty line before ``node``."""
    if not isinstance(node.where, Span):
        return []
    above = node.where.source[: node.where.start].rsplit("\n", 2)
    return [""] if len(above) == 3 and not above[1].strip() and above[0].strip() else []
