"""Best of n: several rows, ranked when they have ended."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from ..core.expression import Expression, Read
from ..core.stage import Search
from ..core.strategy import Strategy
from .signals_scores import MeanLogprob


def _expression(value: Any) -> Any:
    return getattr(value, "expression", value)  # the Python face's operators wrap an expression


class BestOf(Search):
    """Decode n rows and return the one for which ``by`` is largest when it ends.

    Each row draws its own noise. Of several that tie, the first; rows that ended in an error, or whose measure is
    NaN, come last.

    Source: best-of-n by mean log-probability, as in OpenAI's best_of.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "best_of(4) { temperature(0.8) | sample }",
        "best_of(4, by=sum_logprob) { top_p(0.9) | sample }",
    )

    n: int = Field(ge=1, le=256, description="how many rows")
    by: Annotated[Expression, BeforeValidator(_expression)] = Field(
        default_factory=lambda: Read(MeanLogprob()), description="a number that says how good a row is"
    )
    block: Strategy = Field(description="what each row runs, sampler included")

    @model_validator(mode="after")
    def _number(self) -> Self:
        if self.by.kind != "number":
            raise ValueError(f"best_of ranks by a number, this expression is a {self.by.kind}")
        return self

    def children(self) -> tuple[Strategy, ...]:
        return (self.block,)

    def expand(self) -> int:
        return self.n

    def measures(self) -> tuple[Expression, ...]:
        return (self.by,)

    def finish(self, rows: list[Any]) -> list[int]:
        def worth(i: int) -> tuple[bool, float]:
            failed = rows[i].finish_reason == "error" or math.isnan(rows[i].measures[0])
            return (not failed, -math.inf if failed else float(rows[i].measures[0]))

        return sorted(range(len(rows)), key=worth, reverse=True)  # a stable sort: ties stay in order


__all__ = ["BestOf"]
