"""Temperature: how sharp the distribution is."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import NEG_INF, Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

#: below this a float32 logit divided by the temperature says nothing but which one is the largest
_SMALLEST = torch.finfo(torch.float32).tiny


def scaled(dist: Dist, temperature: Any) -> Dist:
    """Divide by T: a number or a tensor [R, 1]; where T is 0, the best token alone, ties to the lowest id.

    A row whose best logit would overflow is moved first, so that its best token has logit 0: the same distribution,
    no NaN.
    """
    if not isinstance(temperature, Tensor):
        if temperature < _SMALLEST:
            return _best(dist)
        if temperature >= 1.0:
            return dist.with_logits(dist.logits / temperature)
        return dist.with_logits((dist.logits - _overflowing(dist, temperature)) / temperature)
    zero = temperature < _SMALLEST  # [R, 1]
    divisor = torch.where(zero, 1.0, temperature)
    logits = (dist.logits - _overflowing(dist, divisor)) / divisor
    return dist.with_logits(torch.where(zero, _best(dist).logits, logits))


def _overflowing(dist: Dist, temperature: Any) -> Tensor:
    """A float32 [R, 1]: the best logit of rows in which it cannot be divided by T, else 0."""
    return torch.where(torch.isinf(dist.max_logit / temperature), dist.max_logit, 0.0)


def _best(dist: Dist) -> Dist:
    best = dist.logits.argmax(-1, keepdim=True)  # the first of several, which has the lowest id
    return dist.with_logits(torch.full_like(dist.logits, NEG_INF).scatter(-1, best, dist.max_logit))


class Temperature(LogitsProcessor):
    """Divide the logits by a temperature: l' = l / T.

    Below 1 the distribution gets sharper, above 1 flatter. T = 0 keeps the best token alone (ties to the lowest id),
    the limit of T towards 0 where no logits tie.

    Source: Ackley, Hinton and Sejnowski, "A learning algorithm for Boltzmann machines" (1985).
    Dialects: hf refuses 0, as transformers does; llama.cpp's temperature is the default.
    """

    monotone: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"value": 1.0}

    value: Scalar = Field(ge=0, description="T: what the logits are divided by; 0 keeps the best token alone")
    dialect: Literal["logitmill", "hf"] = Field("logitmill", description="hf: a temperature of 0 is an error")

    @model_validator(mode="after")
    def _hf_is_above_zero(self) -> Self:
        if self.dialect == "hf" and not self.value > 0:
            raise ValueError("in the hf dialect a temperature is above 0: use greedy")
        return self

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return scaled(dist, self.value)


class DynamicTemperature(LogitsProcessor):
    """A temperature that follows the entropy: T = low + (high - low) * (H / ln N) ** exponent, then l' = l / T.

    H is the entropy in nats of the distribution as it comes, N the number of tokens left in it. Where one token is
    left, nothing changes. T = 0 keeps the best token alone.

    Source: llama.cpp's temp-ext. Its dialect is written with ``value`` and ``range``: low = max(0, value - range) and
    high = value + range; a range of 0 is a plain temperature. (llama.cpp counts in N also tokens that a bias of -inf
    banned.)
    """

    monotone: ClassVar[bool] = True

    low: Scalar | None = Field(None, ge=0, description="the temperature at entropy 0")
    high: Scalar | None = Field(None, ge=0, description="the temperature of a uniform distribution")
    exponent: Scalar = Field(1.0, ge=0, description="how the normalised entropy maps into the range; 1 is linear")
    value: Scalar | None = Field(None, ge=0, description="llamacpp: the middle of the range")
    range: Scalar | None = Field(
        None, ge=0, description="llamacpp: how far the temperature goes to either side of value"
    )
    dialect: Literal["logitmill", "llamacpp"] = Field("logitmill", description="llamacpp: takes value and range")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        wanted, other = ("low", "high"), ("value", "range")
        if self.dialect == "llamacpp":
            wanted, other = other, wanted
        if any(getattr(self, name) is None for name in wanted) or any(
            getattr(self, name) is not None for name in other
        ):
            raise ValueError(
                f"the {self.dialect} dialect takes {wanted[0]} and {wanted[1]}, and not {other[0]} or {other[1]}"
            )
        return self

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        low, high = self._ends()
        share = (dist.entropy / dist.kept.clamp(min=2).log()).clamp(0.0, 1.0)  # [R, 1]
        temperature = low + (high - low) * share**self.exponent
        return scaled(dist, torch.where(dist.kept > 1, temperature, 1.0))

    def _ends(self) -> tuple[Any, Any]:
        if self.dialect == "logitmill":
            return self.low, self.high
        value: Any = self.value
        low = value - self.range
        return low.clamp(min=0.0) if isinstance(low, Tensor) else max(0.0, low), value + self.range

    def is_identity(self) -> bool:
        return self.low == 1.0 and self.high == 1.0


__all__ = ["DynamicTemperature", "Temperature", "scaled"]
