"""Mirostat: a truncation that steers the surprise of what is drawn."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ..core.context import Context
from ..core.dist import NEG_INF, Dist
from ..core.scalar import Scalar
from ..core.stage import Sampler

_LN2 = math.log(2.0)
#: beyond any surprise by far; keeps a wild learning rate from ending in NaN
_FURTHEST = 1e30


class MirostatState(NamedTuple):
    """mu, float64 [R, 1]: the most surprise, in bits, that a token may have."""

    mu: Tensor


class Mirostat(Sampler):
    """Draw from a truncated distribution whose cut moves so that tokens have a surprise of tau bits on average.

    The surprise of a token is -log2 p. mu starts at 2 tau and moves with each committed token x:
    mu -= eta (S(x) - tau), where S(x) is its surprise under the truncated, renormalised distribution it was drawn
    from. What is drawn from is, by ``variant``:

    2: the tokens of surprise at most mu.
    1: the k best, k = (e 2^mu / (1 - N^-e))^(1/s) rounded down, e = s - 1, N the size of the vocabulary; s, the
    exponent of Zipf's law, is estimated from the ``m`` best, s = sum t_i b_i / sum t_i^2 with t_i = ln((i+1) / i) and
    b_i = ln(p_i / p_(i+1)). At s = 1 the limit is taken, k = 2^mu / ln N.

    At least the best token stays. Tokens that were removed before count for nothing. A committed token that has no
    mass in the law leaves mu where it is. ``Strategy.distribution`` starts at mu = 2 tau whatever the output: the
    logits of earlier steps, and with them their surprises, are not known there. ``seed`` is the default for requests
    that bring none.

    Source: Basu et al., "Mirostat", arXiv 2007.14966, as in llama.cpp (src/llama-sampler.cpp). The authors' script
    keeps round(k) + 1 tokens and takes the surprise under the distribution before the cut.
    Dialects: llamacpp computes variant 1's k in float32 as llama.cpp does, so that one token alone stays where k is
    more than an int32 holds (the best tokens are nearly equal, or mu is high), and rounding decides where s is nearly
    1. llama.cpp moves mu when it draws, which is the same as long as every token drawn is committed.
    """

    examples: ClassVar[tuple[str, ...]] = ("mirostat(5, 0.1)", "mirostat(3, 0.1, variant=1)")

    tau: Scalar = Field(5.0, ge=0, description="the surprise aimed at, in bits a token")
    eta: Scalar = Field(0.1, ge=0, description="how fast mu follows: the learning rate")
    variant: Literal[1, 2] = Field(2, description="2 cuts by surprise, 1 by an estimated k")
    m: int = Field(100, ge=2, description="how many of the best tokens the estimate of variant 1 looks at")
    dialect: Literal["logitmill", "llamacpp"] = Field(
        "logitmill", description="llamacpp: k in float32, where one too large keeps a single token"
    )
    seed: int | None = Field(None, ge=0, lt=2**64, description="the seed of requests that bring none of their own")

    def init(self, ctx: Context) -> MirostatState:
        tau = torch.as_tensor(self.tau, dtype=torch.float64, device=ctx.device)
        return MirostatState((2 * tau).expand(ctx.rows, 1).clone())

    def law(self, dist: Dist, state: MirostatState, ctx: Context) -> Dist:
        if self.variant == 2:
            return dist.keep(-dist.probs.log2() <= state.mu.float())
        count = self._count(dist, state.mu)
        if dist.device.type == "cpu":  # there looking is free, and sorting a whole vocabulary is not
            dist = dist.narrow(int(count.clamp(max=dist.columns).max()))
        return dist.keep(dist.rank < count)

    def accept(self, state: MirostatState, tokens: Tensor, law: Dist, ctx: Context) -> MirostatState:
        logprob = law.logprob_of(tokens).double()  # [R, 1]
        moved = state.mu - self.eta * (-logprob / _LN2 - self.tau)
        return MirostatState(torch.where(logprob > NEG_INF, moved, state.mu).clamp(-_FURTHEST, _FURTHEST))

    def _count(self, dist: Dist, mu: Tensor) -> Tensor:
        """Float [R, 1], a whole number or inf: variant 1's k."""
        best = dist.narrow(self.m)
        logits = best.logits.gather(-1, best.order)  # [R, min(m, C)], descending
        left = logits[:, 1:] > NEG_INF  # [R, n]: pairs of two tokens that are there
        if self.dialect == "llamacpp":
            p = best.sorted_probs
            k = _limit_in_float32(_exponent((p[:, :-1] / p[:, 1:]).log(), left), mu.float(), dist.vocab_size)
        else:
            k = _limit(_exponent(logits[:, :-1].double() - logits[:, 1:].double(), left), mu, dist.vocab_size)
        return k.floor().clamp(min=1)


def _exponent(b: Tensor, left: Tensor) -> Tensor:
    """[R, 1]: s, from the falls between neighbours in ln p (b, [R, n]) where both are there."""
    i = torch.arange(1, b.shape[1] + 1, dtype=b.dtype, device=b.device)  # [n]
    t = torch.where(left, ((i + 1) / i).log(), 0.0)
    return (t * torch.where(left, b, 0.0)).sum(-1, keepdim=True) / (t * t).sum(-1, keepdim=True)


def _limit(s: Tensor, mu: Tensor, vocabulary: int) -> Tensor:
    """float64 [R, 1]: k before it is rounded; 1 where there is no telling."""
    e, log_n = s - 1, math.log(vocabulary)
    # e / (1 - N^-e) is positive on both sides of e = 0, where its limit is 1 / ln N
    share = torch.where(e == 0, 1 / max(log_n, 1e-300), e / -torch.expm1(-e * log_n))
    return ((share.log() + mu * _LN2) / s).nan_to_num(0.0).exp()


def _limit_in_float32(s: Tensor, mu: Tensor, vocabulary: int) -> Tensor:
    """The same in llama.cpp's arithmetic; 1 for what does not fit an int32, which x86 makes a negative number of."""
    e = s - 1
    k = ((e * 2.0**mu) / (1 - float(vocabulary) ** -e)) ** (1 / s)
    return torch.where(k < 2.0**31, k, 1.0)


__all__ = ["Mirostat", "MirostatState"]
