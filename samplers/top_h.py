"""Top-H: as many of the best tokens as a share of the entropy allows."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..core.bands import TIGHT, cut_by_rows, keep_rows, reached_in, weighed
from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor

HF_MOST = 100  # how many tokens transformers looks at
_LOWEST = torch.finfo(torch.float32).min
_LEAST_SHARE = 1e-30  # of the entropy: a share that float32 holds with all its digits


class TopH(LogitsProcessor):
    """Keep the longest prefix of the sorted tokens with H(q) <= alpha * H(p), q being the prefix normalised.

    H(p) is the entropy of the distribution as it comes. The entropy of a prefix only grows with each token, and that
    of the best token alone is 0, so it always stays. alpha = 1 is off, 0 keeps the best token alone. Ties go to the
    lower id. Entropies are summed in float64 from terms of one sign, so that a very peaked distribution is cut as
    exactly as a flat one.

    Source: Potraghloo, Azizi, Kundu and Pedram, "Top-H decoding", arXiv 2509.02510.
    Dialects: hf adds up the terms -p ln p of the prefix as they are, without normalising it, in float32, of the 100
    best tokens and no more, and refuses 0 (which of several tied tokens stay there is torch.topk's choice, here the
    lower ids).
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ("top_h(0.4)", 'top_h(0.4, dialect="hf")')

    alpha: Scalar = Field(ge=0, le=1, description="how much of the entropy the tokens that stay may have")
    dialect: Literal["logitmill", "hf"] = Field(
        "logitmill", description="hf: the prefix is not normalised, at most 100 tokens stay"
    )

    @model_validator(mode="after")
    def _hf_is_above_zero(self) -> Self:
        if self.dialect == "hf" and not self.alpha > 0:
            raise ValueError("in the hf dialect alpha is above 0: use greedy")
        return self

    def is_identity(self) -> bool:
        return self.alpha == 1.0 and self.dialect == "logitmill"  # hf's 100 tokens are a cut of their own

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect == "hf":
            return self._hf(dist)
        if not isinstance(self.alpha, Tensor) and self.alpha >= 1.0:
            return dist
        if dist.is_wide:
            cut = self._without_order(dist)
            if cut is not None:
                return cut
        share = self._entropy_share(dist).float()  # [R, C] in descending order
        best = torch.arange(dist.columns, device=dist.device) == 0
        keep = (share <= self.alpha) | best
        return dist.keep_ranked(keep | (self.alpha >= 1.0) if isinstance(self.alpha, Tensor) else keep)

    def _without_order(self, dist: Dist) -> Dist | None:
        """The same cut without all tokens in order; None where a row's end is not decided that way."""
        kept = cut_by_rows(dist, self.alpha, math.inf, _prefix)
        return None if kept is None else keep_rows(dist, kept)

    def _entropy_share(self, dist: Dist) -> Tensor:
        """A float64 [R, C] in descending order: each prefix's entropy, as a share of the whole one.

        With weights w = p / p_max, their distances d = -ln w and the sum r of all but the first,
        H = ln(1 + r) + sum of w * d / (1 + r). NaN where the whole entropy is 0.
        """
        weights = dist.weights.gather(-1, dist.order)
        distance = dist.max_logit.double() - dist.logits.gather(-1, dist.order).double()
        terms = torch.where(weights > 0, weights * distance, 0.0)
        rest = torch.nn.functional.pad(weights[:, 1:], (1, 0)).cumsum(-1)
        entropy = rest.log1p() + terms.cumsum(-1) / (1.0 + rest)
        return entropy / entropy[:, -1:]

    def _hf(self, dist: Dist) -> Dist:
        """Transformers' arithmetic, on the same descending values of the same width."""
        head = dist.narrow(HF_MOST)
        tokens = head.tokens_at(head.order)  # [R, n]
        logits = head.logits.gather(-1, head.order)
        missing = min(HF_MOST, dist.vocab_size) - head.columns
        logits = torch.nn.functional.pad(logits, (0, missing), value=float("-inf"))  # [R, 100]
        logprobs = logits - logits.logsumexp(-1, keepdim=True)
        probs = logprobs.softmax(-1)
        bound = -(logprobs.clamp(min=_LOWEST) * probs).sum(-1, keepdim=True) * self.alpha  # [R, 1]
        spent = torch.where(probs > 0, -probs * probs.log(), float("inf")).cumsum(-1)  # ends at what has no mass
        keep = (spent <= bound)[:, : head.columns]
        keep = keep | (torch.arange(head.columns, device=dist.device) == 0)
        return dist.keep(torch.zeros_like(dist.alive).scatter_(-1, dist.columns_of(tokens)[0], keep))


def _prefix(dist: Dist, row: int, share: float) -> Tensor | None:
    """A bool [C]: a row's best tokens with a share of the entropy and no more; None where that is not decided."""
    distance, weights = weighed(dist, row)
    best = int(dist.logits[row].argmax())  # the lowest id of several
    weights[best] = 0.0
    terms = distance * weights
    whole = float(_entropy(torch.stack([weights.sum(), terms.sum()])[:, None]))
    if not (share > _LEAST_SHARE and whole < math.inf):  # NaN neither
        return None
    if whole == 0:  # the best token is all there is
        return distance == 0.0
    aim = share * whole
    near = reached_in(distance, (weights, terms), lambda sums: _entropy(sums) >= aim)
    order = dist.logits[row, near.columns].sort(descending=True, stable=True).indices
    columns = near.columns[order]
    reached = _entropy(torch.stack([weights[columns], terms[columns]]).cumsum(-1) + near.sums)
    count = int((reached < aim).sum())
    before = float(reached[count - 1]) if count else float(_entropy(near.sums))
    if count == len(columns) or not before + TIGHT * whole < aim < float(reached[count]) - TIGHT * whole:
        return None
    return near.first(columns[:count])


def _entropy(sums: Tensor) -> Tensor:
    """Float64 [k] of prefixes, from sums [2, k] of their weights but the best one, and of those times distance."""
    rest: Tensor = sums[0]
    return rest.log1p() + sums[1] / (1.0 + rest)


__all__ = ["TopH"]
