"""Combinators: pipelines of pipelines, run by the core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import NEG_INF, Dist
from ..core.expression import Expression
from ..core.stage import Combinator
from ..core.strategy import Strategy

LARGEST_EXPONENT = 1e6


def _expression(value: Any) -> Any:
    return getattr(value, "expression", value)  # the Python face's operators wrap an expression


def _no_until(blocks: Iterable[Strategy], name: str) -> None:
    if any(block.stop is not None for block in blocks):
        raise ValueError(f"'until' cannot stand in a block of {name}: the strategy around it says when a row ends")


def _fragments(blocks: Iterable[Strategy], name: str) -> None:
    _no_until(blocks, name)
    if any(step.stage.kind in ("sampler", "search") for block in blocks for step in block.steps()):
        raise ValueError(f"a block of {name} is a fragment: put the sampler after the {name}")


class Mix(Combinator):
    """Average the probabilities of several fragments by weight: p = sum of w_i * p_i, the weights normalised.

    A token stays where any fragment keeps it. The blocks are fragments: no sampler inside, one after the mix.
    """

    variadic: ClassVar[str | None] = "parts"
    examples: ClassVar[tuple[str, ...]] = (
        "mix(0.7: { temperature(0.7) | top_p(0.9) }, 0.3: { temperature(1.4) | min_p(0.1) })",
    )

    parts: tuple[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], Strategy], ...] = Field(
        min_length=1, description="weight: block pairs, as in mix(0.7: { top_p(0.9) }, 0.3: { min_p(0.1) })"
    )

    @model_validator(mode="after")
    def _of_fragments(self) -> Self:
        _fragments(self.children(), "mix")
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


class Product(Combinator):
    """Multiply the probabilities of several fragments, each to the power of its weight: p = product of p_i ** w_i.

    A product of experts: what one of them finds unlikely stays unlikely. The weights are exponents as they are written
    and not normalised: with a sum of 1 it is a geometric mean, above that it sharpens. A token stays only where every
    fragment keeps it; where no token does, the best token of the fragments' weighted average stays, and the trace
    says that the row was rescued. The logits behind it are log-probabilities, as behind a mix. The blocks are
    fragments: no sampler inside, one after the product.

    Source: Hinton, "Products of experts" (1999).
    """

    variadic: ClassVar[str | None] = "parts"
    examples: ClassVar[tuple[str, ...]] = (
        "product(0.7: { temperature(0.7) | top_p(0.9) }, 0.3: { min_p(0.05) })",
        "product(1: { top_k(50) }, 1: { temperature(2) })",
    )

    parts: tuple[tuple[Annotated[float, Field(gt=0, le=LARGEST_EXPONENT)], Strategy], ...] = Field(
        min_length=1, description="exponent: block pairs, as in product(0.7: { top_p(0.9) }, 0.3: { min_p(0.1) })"
    )

    @model_validator(mode="after")
    def _of_fragments(self) -> Self:
        _fragments(self.children(), "product")
        if len(self.parts) < 2:
            raise ValueError("a product has two blocks at least: of one block, temperature(1 / weight) is the same")
        return self

    def children(self) -> tuple[Strategy, ...]:
        return tuple(block for _, block in self.parts)

    def weights(self, dist: Dist, ctx: Context) -> Tensor:
        exponents = torch.tensor([weight for weight, _ in self.parts], dtype=torch.float64)
        return exponents.to(dist.device).expand(dist.rows, -1)

    def merge(self, dists: list[Dist], weights: Tensor) -> Dist:
        exponents = weights.t().unsqueeze(-1)  # float64 [n, R, 1]
        depths = torch.stack([child.logits.double() - child.max_logit.double() for child in dists])  # [n, R, V]
        scores = (exponents * depths).sum(0)  # [R, V], -inf where any child has removed the token
        left = torch.stack([child.alive for child in dists]).all(0)
        lowest = torch.finfo(torch.float32).min  # a token that every child keeps is not removed by rounding
        scores = scores.log_softmax(-1).clamp(min=lowest).float().masked_fill(~left, NEG_INF)
        none = ~left.any(-1, keepdim=True)  # [R, 1]
        return Dist(torch.where(none, _best_of_mixture(dists, exponents), scores), rescued=none)


def _best_of_mixture(dists: list[Dist], exponents: Tensor) -> Tensor:
    """Float32 logits [R, V]: the token with the largest weighted sum of probabilities alone, ties to the lowest id."""
    probs = torch.stack([child.weights / child.weights.sum(-1, keepdim=True) for child in dists])  # [n, R, V]
    best = (exponents * probs).sum(0).argmax(-1, keepdim=True)
    return torch.full_like(dists[0].logits, NEG_INF).scatter(-1, best, 0.0)


class When(Combinator):
    """One block for rows in which a test holds, another for the others; without ``else`` those go on as they are.

    The test is evaluated once a step for each row, on the distribution as it comes. A row whose test is NaN (0/0)
    takes the other block.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "when entropy < 0.4 { temperature(0.3) } else { temperature(0.9) | top_p(0.95) }",
        'when within("<think>", "</think>") { temperature(1.0) }',
        r'when tail ~ r"\d$" { ban(r"[A-Za-z]") }',
    )

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
    examples: ClassVar[tuple[str, ...]] = (
        'phases({ temperature(1.0) until text("</think>") or max_tokens(2048) }, { temperature(0.4) | min_p(0.1) })',
        "phases({ top_k(40) until max_tokens(8) }, { min_p(0.1) })",
    )

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


__all__ = ["Mix", "Phases", "Product", "When"]
