"""Syntax tree to text, on one line: minimal parentheses, one spelling for all. ``layout`` breaks what is long."""

from __future__ import annotations

from . import syntax

_EITHER, _BOTH, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _ATOM = range(1, 9)


def value(node: syntax.Value) -> str:
    """Any value: an argument, a list's item, a block."""
    return _value(node)[0]


def _value(node: syntax.Value) -> tuple[str, int]:
    """The text and how tightly it binds."""
    match node:
        case syntax.Number():
            return number(node.value), _UNARY if node.value < 0 else _ATOM
        case syntax.Text():
            return (f'r"{node.value}"' if node.raw and _fits_raw(node.value) else quote(node.value)), _ATOM
        case syntax.Truth():
            return ("true" if node.value else "false"), _ATOM
        case syntax.ListOf():
            return f"[{', '.join(value(item) for item in node.items)}]", _ATOM
        case syntax.MapOf():
            return f"[{', '.join(pair(item) for item in node.pairs)}]", _ATOM
        case syntax.Call():
            return call(node), _ATOM
        case syntax.Minus():
            return "-" + _inside(node.operand, _UNARY), _UNARY
        case syntax.Chain():
            level = _SUM if node.rest[0][0] in "+-" else _PRODUCT
            spaced = " {} " if level == _SUM else "{}"
            rest = "".join(spaced.format(op) + _inside(operand, level + 1) for op, operand in node.rest)
            return _inside(node.first, level + 1) + rest, level
        case syntax.Compare():
            return f"{_inside(node.left, _SUM)} {node.op} {_inside(node.right, _SUM)}", _COMPARE
        case syntax.Not():
            return "not " + _inside(node.operand, _NOT), _NOT
        case syntax.Both():
            return " and ".join(_inside(part, _NOT) for part in node.parts), _BOTH
        case syntax.Either():
            return " or ".join(_inside(part, _BOTH) for part in node.parts), _EITHER
        case syntax.Ramp():
            by = f" by {node.by.text}" if node.by is not None else ""
            ends = f"{_inside(node.start, _SUM)} -> {_inside(node.end, _SUM)} over {_inside(node.over, _SUM)}"
            return ends + by, 0
        case syntax.Block():
            return block(node), 0


def _inside(node: syntax.Value, level: int) -> str:
    text, own = _value(node)
    return text if own >= level else f"({text})"


def part_of(node: syntax.Either | syntax.Both, part: syntax.Value) -> str:
    """One part of a test, as it stands between its words."""
    return _inside(part, _BOTH if isinstance(node, syntax.Either) else _NOT)


def pair(item: tuple[syntax.Value, syntax.Value]) -> str:
    """One entry of a map."""
    return f"{value(item[0])}: {value(item[1])}"


def number(of: int | float) -> str:
    """The shortest digits that read back as this number: 50, 0.8, 1e-5."""
    digits, mark, exponent = repr(of).partition("e")
    return digits + (f"e{int(exponent)}" if mark else "")


def quote(text: str) -> str:
    """A string in double quotes: JSON's escapes for quotes, backslashes and whatever cannot be seen."""
    return '"' + "".join(_quoted(char) for char in text) + '"'


_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _quoted(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _fits_raw(text: str) -> bool:
    return not any(char in text for char in '"\n\r')


def argument(node: syntax.Arg) -> str:
    """``0.9``, ``p=0.9`` or ``0.7: { ... }``."""
    if node.key is not None:
        return f"{node.key.text}={value(node.value)}"
    if node.weight is not None:
        return f"{value(node.weight)}: {value(node.value)}"
    return value(node.value)


def call(node: syntax.Call) -> str:
    """``top_p(0.9)``, ``greedy``."""
    return node.name.text + (f"({', '.join(argument(arg) for arg in node.args)})" if node.args else "")


def block(node: syntax.Block) -> str:
    """``{ temperature(0.7) | sample }``, ``{}``."""
    text = body(node.body)
    return text if text == "{}" else f"{{ {text} }}"


def stage(node: syntax.Step) -> str:
    """One stage of a pipeline."""
    if isinstance(node, syntax.When):
        otherwise = ""
        if node.otherwise is not None:
            rest = node.otherwise
            otherwise = " else " + (block(rest) if isinstance(rest, syntax.Block) else stage(rest))
        return f"when {value(node.test)} {block(node.then)}{otherwise}"
    inner = f" {block(node.block)}" if node.block is not None else ""
    label = f" as {node.label.text}" if node.label is not None else ""
    return call(node.call) + inner + label


def patch(node: syntax.Patch) -> str:
    """``heat.value=0.3``."""
    return f"{node.path.text}={value(node.value)}"


def body(node: syntax.Body) -> str:
    """A whole strategy."""
    text = " | ".join(stage(step) for step in node.stages) or "{}"
    if node.until is not None:
        text += f" until {value(node.until)}"
    if node.patches:
        text += f" with {', '.join(patch(item) for item in node.patches)}"
    return text


def head(node: syntax.Let) -> str:
    """``let creative(t=0.9)``, without its body."""
    params = ", ".join(
        param.name.text + ("" if param.default is None else f"={value(param.default)}") for param in node.params
    )
    return f"let {node.name.text}" + (f"({params})" if params else "")


def use(node: syntax.Use) -> str:
    """``use "acme_samplers" as acme``."""
    return f"use {quote(node.source.value)}" + (f" as {node.alias.text}" if node.alias is not None else "")
