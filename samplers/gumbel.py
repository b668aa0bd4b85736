"""Gumbel: an exact draw from noise that belongs to the tokens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.stage import Sampler

#: the least noise a logarithm is taken of: half the spacing of the numbers that ctx.noise_by_token gives
_LEAST = 2.0**-54


class Gumbel(Sampler):
    """Draw a token by the Gumbel-max trick: argmax of l + g, with g = -ln(-ln u) and a noise number u for each token.

    An exact draw from the distribution as it comes; of tokens that tie, the lowest id. A token's number depends on
    the request's seed, the position, the token's id and the name of the stage (its label, if it has one), so draws are
    coupled token by token between strategies: two that share a seed and that name choose the same token wherever their
    distributions are equal, whatever columns are left, and seldom differ where they are close. ``sample`` is coupled
    only through one number a row, and is cheaper: this makes a number for every token left. The law is the
    distribution itself. ``seed`` is the default for requests that bring none.

    Source: Maddison, Tarlow and Minka, "A* sampling", arXiv 1411.0030.
    """

    stochastic: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ("gumbel", "gumbel(seed=1)")

    seed: int | None = Field(None, ge=0, lt=2**64, description="the seed of requests that bring none of their own")

    def pick(self, law: Dist, ctx: Context) -> Tensor:
        if law.device.type == "cpu":  # there looking is free, and a number for each removed token is not
            law = law.narrow(max(1, int(law.kept.max())))
        below_top = law.logits.double() - law.max_logit.double()  # [R, C]: noise is lost beside a huge logit
        gumbel = -(-ctx.noise_by_token(self, law).clamp(min=_LEAST).log()).log()
        return law.tokens_at((below_top + gumbel).argmax(-1, keepdim=True))


__all__ = ["Gumbel"]
