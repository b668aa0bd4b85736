"""bfloat16 layers for a processor that has no arithmetic for it.

Such a processor imitates bfloat16 in several times as many instructions as float32 takes. One row's time is the reading
of the weights, and hides that; from a few rows on it is cheaper to make a piece of the weight float32, small enough to
stay in the cache, and to multiply with it. Where there is a kernel of our own, it widens weights as it reads them, and
pieces pay from more rows on. The values are the same: only the order of sums differs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .packed import PackedLinear, onednn_takes
from .products import Product, bfloat16_product

PIECE = 400_000
"""Weights at a time: less than 2 MB in float32, a core's cache."""
MANY, MANY_OWN = 4, 64
"""Rows from which on weights are made float32: beside oneDNN's kernel, and beside our own."""


class WidenedLinear(PackedLinear):
    """``weight`` bfloat16 ``[out_features, in_features]``, as it is.

    ``tied``: the parameter that has the weight too (an embedding's): then it is that one, and nothing is held twice.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, tied: nn.Parameter | None = None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias)
        self._tied = (tied,)  # in a tuple, or it would be a parameter of this module as well
        if tied is None:
            self.register_buffer("dense", weight.detach().contiguous())

    @property
    def tied(self) -> nn.Parameter | None:
        return self._tied[0]

    @property
    def weight(self) -> Tensor:
        """No copy: the weight itself."""
        held = self.tied if self.tied is not None else self.get_buffer("dense")
        return held.detach()

    def product(self) -> Product:
        weight, bias = self.weight, self.bias
        few: Product = lambda x: functional.linear(x, weight, bias)  # noqa: E731  # one of two
        if onednn_takes(weight.dtype):  # the same kernel, asked with less around it
            linear = torch.ops.mkldnn._linear_pointwise.default
            few = lambda x: linear(x, weight, bias, "none", [], "")  # noqa: E731
        own = bfloat16_product(weight, bias)
        few, many = (few, MANY) if own is None else (own, MANY_OWN)
        return lambda x: few(x) if len(x) < many else _in_pieces(x, weight, bias)


def _in_pieces(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``[n, out]`` of ``x`` ``[n, in]``, some outputs at a time."""
    outputs, inputs = weight.shape
    count = max(16, PIECE // inputs // 16 * 16)
    wide, made = x.float(), x.new_empty(len(x), outputs, dtype=torch.float32)
    room = x.new_empty(min(count, outputs), inputs, dtype=torch.float32)
    for start in range(0, outputs, count):
        part = weight[start : start + count]
        torch.mm(wide, room[: len(part)].copy_(part).t(), out=made[:, start : start + count])
    return (made if bias is None else made.add_(bias)).to(x.dtype)


__all__ = ["WidenedLinear"]
