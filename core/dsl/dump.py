"""Syntax tree to the canonical document, the other side of ``document``."""

from __future__ import annotations

from typing import Any

from . import render, syntax

Document = dict[str, Any]


def document(body: syntax.Body) -> Document:
    """``{"dsl": 1, "main": {...}}`` of a lowered strategy."""
    return {"dsl": 1, "main": strategy(body)}


def strategy(body: syntax.Body) -> Document:
    """``{"pipeline": [...], "until": ..., "with": {...}}``."""
    made: Document = {"pipeline": [_stage(stage) for stage in body.stages]}
    if body.until is not None:
        made["until"] = _test(body.until)
    if body.patches:
        made["with"] = {patch.path.text: value(patch.value) for patch in body.patches}
    return made


def _stage(node: syntax.Step) -> Document:
    if isinstance(node, syntax.When):
        made = {"stage": f"when@{node.revision or 1}", "test": _test(node.test), "then": strategy(node.then.body)}
        if isinstance(node.otherwise, syntax.Block):
            made["else"] = strategy(node.otherwise.body)
        return made
    made = {"stage": _reference(node.call), **_args(node.call)}
    if node.block is not None:
        made["block"] = strategy(node.block.body)
    if node.label is not None:
        made["as"] = node.label.text
    return made


def _reference(call: syntax.Call) -> str:
    return f"{call.name.text}@{call.revision or 1}"


def _args(call: syntax.Call) -> Document:
    """``args`` under their names and ``blocks`` in order. Positional values have been named by now."""
    named = {arg.key.text: value(arg.value) for arg in call.args if arg.key is not None}
    blocks = [_block(arg) for arg in call.args if arg.key is None and isinstance(arg.value, syntax.Block)]
    return ({"args": named} if named else {}) | ({"blocks": blocks} if blocks else {})


def _block(arg: syntax.Arg) -> Document:
    assert isinstance(arg.value, syntax.Block)
    weight = {"weight": value(arg.weight)} if arg.weight is not None else {}
    return weight | strategy(arg.value.body)


def value(node: syntax.Value) -> Any:
    """One value."""
    match node:
        case syntax.Number() | syntax.Truth():
            return node.value
        case syntax.Text():
            return {"regex": node.value} if node.raw else node.value
        case syntax.ListOf():
            return [value(item) for item in node.items]
        case syntax.MapOf():
            return [[value(key), value(item)] for key, item in node.pairs]
        case syntax.Ramp():
            by = {"by": node.by.text} if node.by is not None else {}
            return {"ramp": [value(node.start), value(node.end)], "over": value(node.over), **by}
        case syntax.Block():
            return strategy(node.body)
    return {"expr": render.value(node)}


def _test(node: syntax.Value) -> Document:
    """Criteria and their logic as structure; what reads signals alone as text."""
    if not _holds_criterion(node):
        return {"expr": render.value(node)}
    match node:
        case syntax.Either():
            return {"any": [_test(part) for part in node.parts]}
        case syntax.Both():
            return {"all": [_test(part) for part in node.parts]}
        case syntax.Not():
            return {"not": _test(node.operand)}
    assert isinstance(node, syntax.Call)  # nothing else holds a criterion
    return {"stop": _reference(node), **_args(node)}


def _holds_criterion(node: syntax.Value) -> bool:
    """Criteria are the calls that carry a revision: signals stand in text, which has none."""
    match node:
        case syntax.Either() | syntax.Both():
            return any(_holds_criterion(part) for part in node.parts)
        case syntax.Not():
            return _holds_criterion(node.operand)
        case syntax.Call():
            return node.revision is not None
    return False
