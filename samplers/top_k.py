"""Top-k: the k best tokens."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from ..core.context import Context
from ..core.dist import Dist
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.tail import Head


class TopK(LogitsProcessor):
    """Keep the k tokens with the largest logits, exactly k of them, ties to the lower id. k = 0 is off.

    Source: Fan, Lewis and Dauphin, arXiv 1805.04833.
    Dialects: hf keeps every token that ties with the k-th, so more than k may stay, and refuses 0
    (text-generation-webui runs it); vllm keeps every token that ties with the k-th, and 0 is off (its PyTorch
    functions do; its Triton kernel keeps exactly k, as the default does); llama.cpp keeps exactly k, as the default
    does, and promises no order among ties.
    """

    masks_only: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    ranks_only: ClassVar[bool] = True
    identity_when: ClassVar[dict[str, Any]] = {"k": 0}
    examples: ClassVar[tuple[str, ...]] = ("top_k(50)", "top_k(100 -> 20 over 64)", 'top_k(50, dialect="hf")')

    k: Scalar[int] = Field(ge=0, description="how many tokens stay; 0 keeps all")
    dialect: Literal["logitmill", "hf", "vllm"] = Field(
        "logitmill", description="hf, vllm: ties with the k-th token stay too"
    )

    @model_validator(mode="after")
    def _hf_is_above_zero(self) -> Self:
        if self.dialect == "hf" and not self.k >= 1:
            raise ValueError("in the hf dialect k is at least 1: leave the stage out")
        return self

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        if self.dialect != "logitmill":
            return self._with_ties(dist, ctx)
        if not isinstance(self.k, Tensor):
            return dist.narrow(self.k) if self.k else dist
        bound, least = ctx.upper(self, "k"), ctx.lower(self, "k")
        if bound is not None and least is not None and least > 0:
            dist = dist.narrow(int(bound))
        return dist.keep((dist.rank < self.k) | (self.k == 0))

    def on_head(self, head: Head, ctx: Context) -> bool:
        if self.dialect != "logitmill" or isinstance(self.k, Tensor):
            return False
        if self.k:
            head.first(self.k)
        return True

    def _with_ties(self, dist: Dist, ctx: Context) -> Dist:
        if not isinstance(self.k, Tensor) and self.k == 0:
            return dist
        most = ctx.upper(self, "k")
        most = dist.columns if most is None else min(max(int(most), 1), dist.columns)
        best = dist.logits.topk(most, dim=-1).values  # [R, most], descending
        if not isinstance(self.k, Tensor):
            return dist.keep(dist.logits >= best[:, -1:])
        return dist.keep((dist.logits >= best.gather(-1, self.k.clamp(1, most) - 1)) | (self.k == 0))


__all__ = ["TopK"]
