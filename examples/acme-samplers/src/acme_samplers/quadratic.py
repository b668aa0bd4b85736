"""A logits processor: no state, one field, one line of arithmetic."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from logitmill import Context, Dist, LogitsProcessor, Scalar


class Quadratic(LogitsProcessor, name="acme.quadratic"):
    """Lower every logit by its squared distance from the top one: l' = top - factor * (l - top) ** 2.

    Tokens close to the top one come closer to it where factor * distance is below 1, those further away fall behind.
    A factor of 0 would make all tokens equal, so it is not admitted.
    """

    monotone: ClassVar[bool] = True  # a larger logit stays a larger logit

    factor: Scalar = Field(0.2, gt=0, description="how steeply a logit falls with its distance from the top one")

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        distance = dist.logits - dist.max_logit  # [R, C], -inf where a token was removed
        return dist.with_logits(dist.max_logit - self.factor * distance**2)
