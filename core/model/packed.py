"""Linear layers whose weights lie as a CPU's kernels want them.

``OneDnnLinear`` keeps float32 or bfloat16 weights in oneDNN's blocked layout, which is what the time of a step goes
into where a weight is read once for a few rows. ``Int4Linear`` and ``Int8Linear`` keep quantized weights for torch's
weight-only kernels, whose activations are bfloat16 (with others those kernels are scalar); what a row gets from them
does not depend on how many rows there are. Where there are kernels of our own (products), they take the place of
torch's.

``weight`` gives the dense matrix back, made anew each time where it is kept in another form: for people and for saving,
not for a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .products import BLOCK, Product, int4_product
from .quantize import GROUP

INSTEAD = "it is packed for inference, load the model with reference=True to change or to train its weights"

ROWS_INT4, COLUMNS_INT8 = 16, 16
"""Int4 kernels take a multiple of so many outputs (what lacks is filled up with zeros), int8 kernels of so many inputs
(others read past the end)."""
ALIGNED = 32
"""Bytes: where int8 kernels expect weights (16) and activations (32) to begin."""


@dataclass(frozen=True)
class Slice:
    """The outputs ``start .. stop - 1`` of a layer. No module, so that a part does not own the layer it is of."""

    whole: Any
    start: int
    stop: int


class StandIn(nn.Module, ABC):
    """In the place of an ``nn.Linear`` or a Conv1D, for inference alone: it is saved as the layer that it stands for,
    passes no gradient and takes no other weights, and says so.
    """

    bias: Tensor | None
    part_of: Slice | None = None
    """What it is a part of."""
    turned = False
    """Whether it stands for a Conv1D of transformers', whose weight is ``[in_features, out_features]``."""

    def __init__(self, in_features: int, out_features: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("bias", bias)

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """``[out_features, in_features]``, dense, made anew where it is kept in another form."""

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def __getstate__(self) -> dict[str, Any]:  # for copies and pickles: each buffer by itself
        return self.__dict__ | {"_buffers": {name: _cloned(each) for name, each in self._buffers.items()}}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise AttributeError(f"{type(self).__name__} has no weight that could be set: {INSTEAD}")
        super().__setattr__(name, value)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        rest[-1].append(f"{prefix[:-1]} is packed for inference: {INSTEAD}")

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Dense: a layout is this processor's and this torch's."""
        destination[prefix + "weight"] = self.weight.t().contiguous() if self.turned else self.weight
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias


class PackedLinear(StandIn):
    """What the packed layers share."""

    dtype: torch.dtype = torch.bfloat16
    """What ``product`` takes and gives."""

    def part(self, start: int, stop: int) -> StandIn:
        """A layer of the outputs ``start .. stop - 1`` over the same memory, with ``part_of`` set."""
        return LinearPart(self, start, stop)

    @abstractmethod
    def product(self) -> Product:
        """The bare multiplication, ``[n, in_features]`` to ``[n, out_features]``, contiguous and in ``self.dtype``.

        It holds the weights by themselves: a module looks each of them up by name, which a step does 120 times a token.
        """

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``, in the dtype of ``x`` and computed in ``self.dtype``.

        Raises RuntimeError where a gradient is wanted.
        """
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(f"{type(self).__name__} passes no gradient: {INSTEAD}")
        flat = x.reshape(-1, self.in_features).to(self.dtype).contiguous()
        return self.product()(flat).reshape(*x.shape[:-1], self.out_features).to(x.dtype)


def onednn_takes(dtype: torch.dtype) -> bool:
    """Whether this torch lays weights of ``dtype`` out for oneDNN on this processor."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


class OneDnnLinear(PackedLinear):
    """``weight`` float32 or bfloat16 ``[out_features, in_features]``, ``bias`` ``[out_features]`` or None.

    ``tied``: the parameter that has the weight too and stays (an embedding's): ``weight`` is then that one.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, tied: Tensor | None = None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias)
        self.dtype = weight.dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self._tied = (tied,)  # in a tuple, or it would be a parameter of this module as well

    @property
    def weight(self) -> Tensor:
        [tied] = self._tied
        dense: Tensor = self.packed.to_dense() if tied is None else tied
        return dense

    def __getstate__(self) -> dict[str, Any]:  # oneDNN's layout has no storage to copy
        return super().__getstate__() | {"packed": self.packed.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.packed)

    def product(self) -> Product:
        linear, packed, bias = torch.ops.mkldnn._linear_pointwise.default, self.packed, self.bias
        return lambda x: linear(x, packed, bias, "none", [], "")


class QuantizedLinear(PackedLinear):
    """What holds fewer bits than were loaded. Activations go in as bfloat16, whatever dtype they come in."""


class Int4Linear(QuantizedLinear):
    """Weights ``(q - 8) * scale + zero`` of 4 bits, in groups of 32 along a row.

    ``packed`` is uint8, torch's own layout; ``scales`` is bfloat16 ``[groups, out_features, 2]``, scale and zero.
    With ``repeats`` 2 each weight is the sum of two such products, the columns of the second behind those of the first:
    an eight-bit value in its high and its low half (see ``int_values.int8_as_int4``).
    """

    packed: Tensor
    scales: Tensor

    def __init__(
        self,
        packed: Tensor,
        scales: Tensor,
        bias: Tensor | None = None,
        *,
        repeats: int = 1,
        out_features: int | None = None,
    ) -> None:
        super().__init__(scales.shape[0] * GROUP // repeats, out_features or scales.shape[1], bias)
        self.repeats = repeats
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)

    @classmethod
    def of(
        cls, values: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None = None, *, repeats: int = 1
    ) -> Int4Linear:
        """From ``values`` (0 to 15, ``[out_features, repeats * in_features]``) and ``scale``, ``zero``
        (``[out_features, groups]``).
        """
        rows, lacking = len(values), -len(values) % ROWS_INT4
        values, scale, zero = (functional.pad(each, (0, 0, 0, lacking)) for each in (values, scale, zero))
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.to(torch.int32).contiguous(), 1)
        scales = torch.stack([scale.t(), zero.t()], -1).to(torch.bfloat16).contiguous()
        bias = None if bias is None else bias.to(torch.bfloat16)
        return cls(packed, scales, bias, repeats=repeats, out_features=rows)

    @property
    def weight(self) -> Tensor:
        """Exactly what torch's kernel multiplies with: the identity, multiplied, few rows at a time."""
        rows, product = (
            torch.eye(self.in_features, dtype=torch.bfloat16).split(64),
            self._whole(self._torchs(self.packed, self.scales.contiguous())),
        )
        return torch.cat([product(part.contiguous()) for part in rows]).t().contiguous()

    def part(self, start: int, stop: int) -> StandIn:
        if start % BLOCK or stop % BLOCK:
            return super().part(start, stop)
        bias = None if self.bias is None else self.bias[start:stop]
        made = Int4Linear(self.packed[start:stop], self.scales[:, start:stop], bias, repeats=self.repeats)
        made.part_of = Slice(self, start, stop)
        return made

    def product(self) -> Product:
        packed, scales = self.packed.contiguous(), self.scales.contiguous()
        own, torchs = int4_product(packed, scales), self._torchs(packed, scales)
        if own is None:
            return _biased(self._whole(torchs), self.bias)
        either = lambda x: torchs(x) if torch.compiler.is_compiling() else own(x)  # noqa: E731  # that one it can trace
        return _biased(self._whole(either), self.bias)

    @staticmethod
    def _torchs(packed: Tensor, scales: Tensor) -> Product:
        """torch's kernel, which its layout is made for."""
        multiply = torch._weight_int4pack_mm_for_cpu
        return lambda x: multiply(x, packed, GROUP, scales)

    def _whole(self, product: Product) -> Product:
        """``product`` of the repeats there are, without the outputs that fill its layout up."""
        repeats, outputs = self.repeats, self.out_features
        whole = product if repeats == 1 else lambda x: product(torch.cat([x] * repeats, -1))
        return whole if outputs == self.scales.shape[1] else lambda x: whole(x)[:, :outputs]

    def extra_repr(self) -> str:
        return super().extra_repr() + f", bits={4 * self.repeats}, group={GROUP}"


class Int8Linear(QuantizedLinear):
    """Weights ``q * scale`` of 8 bits: ``values`` int8 ``[out_features, in_features]``, ``scale``
    ``[out_features]``.
    """

    values: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(values.shape[1], values.shape[0], None if bias is None else bias.to(torch.bfloat16))
        self.register_buffer("values", _aligned(values))
        self.register_buffer("scale", scale.to(torch.bfloat16))

    @property
    def weight(self) -> Tensor:
        return self.values.to(torch.bfloat16) * self.scale[:, None]

    def part(self, start: int, stop: int) -> StandIn:
        bias = None if self.bias is None else self.bias[start:stop]
        made = Int8Linear(self.values[start:stop], self.scale[start:stop], bias)  # a copy, where rows are not aligned
        made.part_of = Slice(self, start, stop)
        return made

    def product(self) -> Product:
        multiply, values, scale = torch._weight_int8pack_mm, self.values, self.scale
        return _biased(lambda x: multiply(_aligned(x), values, scale), self.bias)


def _cloned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _biased(product: Product, bias: Tensor | None) -> Product:
    return product if bias is None else lambda x: product(x).add_(bias)


def _aligned(tensor: Tensor) -> Tensor:
    """``tensor``, at an address that the int8 kernel may load from: elsewhere (in a mapped file) it crashes."""
    return tensor.clone() if tensor.data_ptr() % ALIGNED else tensor


class LinearPart(StandIn):
    """Some outputs of a layer that is computed whole: what a model's own ``q_proj`` is where q, k and v are one
    product. It costs the whole product, so a step that wants all of them asks the layer itself.
    """

    part_of: Slice

    def __init__(self, whole: PackedLinear, start: int, stop: int) -> None:
        super().__init__(whole.in_features, stop - start, None if whole.bias is None else whole.bias[start:stop])
        self.part_of = Slice(whole, start, stop)

    @property
    def weight(self) -> Tensor:
        whole: Tensor = self.part_of.whole.weight
        return whole[self.part_of.start : self.part_of.stop]

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``."""
        whole: Tensor = self.part_of.whole(x)
        return whole[..., self.part_of.start : self.part_of.stop]
