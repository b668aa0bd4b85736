"""Combinators: pipelines of pipelines, run by the core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.expression import Expression
from ..core.stage import Combinator
from ..core.strategy import Strategy


def _expression(value: Any) -> Any:
    return getattr(value, "expression", value)  # the Python face's operators wrap an expression


def _no_until(blocks: Iterable[Strategy], name: str) -> None:
    if any(block.stop is not None for block in blocks):
        raise ValueError(f"'until' cannot stand in a block of {name}: the strategy around it says when a row ends")


class Mix(Combinator):
    """Average the probabilities of several fragments by weight: p = sum of w_i * p_i, the weights normalised.

    A token stays where any fragment keeps it. The blocks are fragments: no sampler inside, one after the mix.
    """

    variadic: ClassVar[str | None] = "parts"

    parts: tuple[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], Strategy], ...] = Field(
        min_length=1, description="weight: block pairs, as in mix(0.7: { top_p(0.9) }, 0.3: { min_p(0.1) })"
    )

    @model_validator(mode="after")
    def _fragments(self) -> Self:
        _no_until(self.children(), "mix")
        for block in self.children():
            if any(step.stage.kind in ("sampler", "search") for step in block.steps()):
                raise ValueError("a block of mix is a fragment: put the sampler after the mix")
        return self

    def children(self) -> tuple[Strategy, ...]:
        return tuple(block for _, block in self.parts)

    def weights(self, dist: Dist, ctx: Context) -> Tensor:
        shares = torch.tensor([weight for weight, _ in self.parts], dtype=torch.float64)
        shares = shares / shares.max()  # their sum may be more than a float holds
        return (shares / shares.sum()).to(dist.device).expand(dist.rows, -1)

    def merge(self, dists: list[Dist], weights: Tensor) -> Dist:
        parts = torch.stack([child.logprobs for child in dists]).double() + weights.t().log().unsqueeze(-1)  # [n, R, V]
        return Dist(parts.logsumexp(0))


class When(Combinator):
    """One block for rows in which a test holds, another for the others; without ``else`` those go on as they are.

    The test is evaluated once a step for each row, on the distribution as it comes. A row whose test is NaN (0/0)
    takes the other block.
    """

    test: Annotated[Expression, BeforeValidator(_expression)] = Field(
        description="a condition on signals, as in entropy < 0.4"
    )
    then: Strategy = Field(description="for the rows in which it holds")
    orelse: Strategy | None = Field(None, description="for the others")

    @model_validator(mode="after")
    def _truth(self) -> Self:
        if self.test.kind != "truth":
            raise ValueError(f"the test of 'when' is a truth, this expression is a {self.test.kind}")
        _no_until(self.children(), "when")
        return self

    def children(self) -> tuple[Strategy, ...]:
        return (self.then, Strategy() if self.orelse is None else self.orelse)

    def weights(self, dist: Dist, ctx: Context) -> Tensor:
        holds: Tensor = self.test.evaluate(dist, ctx)
        return torch.cat([holds, ~holds], -1).float()


class Phases(Combinator):
    """Blocks one after another: a row moves to the next block when the running one's ``until`` holds.

    Every block but the last needs an ``until``; the last one's ends the row, along with the strategy's own. Inside a
    block's ``until``, ``step`` and bounds such as max_tokens count from where the block began.
    """

    sequential: ClassVar[bool] = True
    variadic: ClassVar[str | None] = "blocks"

    blocks: tuple[Strategy, ...] = Field(
        min_length=1, description='as in phases({ ... until stop("</think>") }, { ... })'
    )

    @model_validator(mode="after")
    def _move_on(self) -> Self:
        for number, block in enumerate(self.blocks[:-1], 1):
            if block.stop is None:
                raise ValueError(
                    f"block {number} of {len(self.blocks)} has no 'until', so the next one would never run"
                )
        return self

    def children(self) -> tuple[Strategy, ...]:
        return self.blocks


__all__ = ["Mix", "Phases", "When"]
