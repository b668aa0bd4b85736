"""A signal: a number for each row that ``when``, ``until`` and expressions may read."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from logitmill import Context, Dist, Signal


class TopMass(Signal, name="acme.top_mass"):
    """The probability of the k likeliest tokens together, from 0 to 1."""

    k: int = Field(10, ge=1, description="how many tokens")

    def read(self, dist: Dist, ctx: Context) -> Tensor:
        return dist.sorted_probs[:, : self.k].sum(-1, keepdim=True)  # [R, 1]
