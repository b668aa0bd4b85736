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
from ..core.tail import Head

#: below this a float32 logit divided by the temperature says nothing but which one is the largest
_SMALLEST, _LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
VLLM_GREEDY_BELOW = 1e-5  # _SAMPLING_EPS of vllm/v1/sample/sampler.py


def scaled(dist: Dist, temperature: Any, greedy_below: float = _SMALLEST) -> Dist:
    """Divide by T: a number or a tensor [R, 1]; below ``greedy_below`` the best token alone, ties to the lowest id.

    A row whose best logit would overflow is moved first, so that its best token has logit 0: the same distribution,
    no NaN.
    """
    if not isinstance(temperature, Tensor):
        if temperature < greedy_below:
            return _best(dist)
        if temperature >= 1.0 or (dist.looks and float(dist.max_logit.abs().max()) <= _LARGEST * temperature):
            return dist.divided(temperature)
        return dist.with_logits((dist.logits - _overflowing(dist, temperature)) / temperature)
    zero = temperature < greedy_below  # [R, 1]
    divisor = torch.where(zero, 1.0, temperature)
    if dist.looks and not bool((zero | torch.isinf(dist.max_logit / divisor)).any()):
        return dist.divided(divisor)
    logits = (dist.logits - _overflowing(dist, divisor)) / divisor
    return dist.with_logits(torch.where(zero, _best(dist).logits, logits))


def _overflowing(dist: Dist, temperature: Any) -> Tensor:
    """A float32 [R, 1]: the best logit of rows in which it cannot be divided by T, else 0."""
    best = dist.max_logit
    return torch.where(torch.isinf(best / temperature) & torch.isfinite(best), best, 0.0)


def _best(dist: Dist) -> Dist:
    best = dist.logits.argmax(-1, keepdim=True)  # the first of several, which has the lowest id
    return dist.with_logits(torch.full_like(dist.logits, NEG_INF).scatter(-1, best, dist.max_logit))


class Temperature(LogitsProcessor):
    """Divide the logits by a temperature: l' = l / T.

    Below 1 the distribution gets sharper, above 1 flatter. T = 0 keeps the best token alone (ties to the lowest id),
    the limit of T towards 0 where no logits tie.

    Source: Ackley, Hinton and Sejnowski, "A learning algorithm for Boltzmann machines" (1985).
    Dialects: hf refuses 0 (text-generation-webui too); vllm keeps the best token alone below 1e-5 (a request's
    temperature between 0 and 0.01 it raises to 0.01 before that); llama.cpp's temperature is the default.
    """

    monotone: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"value": 1.0}
    examples: ClassVar[tuple[str, ...]] = (
        "temperature(0.8)",
        "temperature(1.2 -> 0.6 over 64 by cosine)",
        "temperature(clamp(0.3 + 0.2*entropy, 0.3, 1.2))",
    )

    value: Scalar = Field(ge=0, description="T: what the logits are divided by; 0 keeps the best token alone")
    dialect: Literal["logitmill", "hf", "vllm"] = Field(
        "logitmill", description="hf: a temperature of 0 is an error; vllm: below 1e-5 the best token alone"
    )

    @model_validator(mode="after")
    def _hf_is_above_zero(self) -> Self:
        if self.dialect == "hf" and not self.value > 0:
            raise ValueError("in the hf dialect a temperature is above 0: use greedy")
        return self

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        return scaled(dist, self.value, self._greedy_below)

    def on_head(self, head: Head, ctx: Context) -> bool:
        coldest = ctx.lower(self, "value")
        if coldest is None or coldest < self._greedy_below:
            return False
        head.divide(self.value)  # where that overflows, there is no law
        return True

    @property
    def _greedy_below(self) -> float:
        return VLLM_GREEDY_BELOW if self.dialect == "vllm" else _SMALLEST


class DynamicTemperature(LogitsProcessor):
    """A temperature that follows the entropy: T = low + (high - low) * (H / ln N) ** exponent, then l' = l / T.

    H is the entropy in nats of the distribution as it comes, N the number of tokens left in it. Where one token is
    left, nothing changes. T = 0 keeps the best token alone.

    Source: kalomaze's dynamic temperature; llama.cpp's temp-ext and text-generation-webui's dynamic_temperature.
    Dialects: llamacpp is written with ``value`` and ``range``: low = max(0, value - range) and high = value + range; a
    range of 0 is a plain temperature (llama.cpp counts in N also tokens that a bias of -inf or its top-n-sigma
    removed); text-generation-webui's formula and names are the default's.
    """

    monotone: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "dynamic_temperature(0.5, 1.5)",
        "dynamic_temperature(0.5, 1.5, exponent=2)",
        'dynamic_temperature(value=1.0, range=0.5, dialect="llamacpp")',
    )

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
