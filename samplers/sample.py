"""Sample: an exact draw."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ..core.stage import Sampler


class Sample(Sampler):
    """Draw a token from the distribution as it comes.

    An exact inverse-CDF draw: one uniform number a row, running sums in float64 in the order of token ids, so that
    the draw is the same on the whole vocabulary and on what a truncation left of it. ``seed`` is the default for
    requests that bring none.
    """

    examples: ClassVar[tuple[str, ...]] = ("sample", "sample(seed=1)")

    seed: int | None = Field(None, ge=0, lt=2**64, description="the seed of requests that bring none of their own")


__all__ = ["Sample"]
