"""Memory that loading leaves behind, given back: a file that a few small tensors keep mapped, and freed pages."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

SHARE = 0.5
"""Where tensors use less than this of the files they lie in, they are copied and the files are let go."""


def release(model: nn.Module, mapped: int, settled: Collection[int] = ()) -> None:
    """Let go of checkpoint files (``mapped`` bytes) that little is left in, and of freed memory. What lies at
    ``settled`` is where it should be.

    A file stays mapped as long as one tensor lies in it: where the rest was converted, that may be norms of a few
    kilobytes. What the C library keeps of freed weights is of no use to anybody either.
    """
    from .packed import StandIn

    loose = [module for module in model.modules() if not isinstance(module, StandIn)]  # those lie where they should
    own = [tensor for module in loose for tensor in (*module._parameters.values(), *module._buffers.values())]
    foreign = {id(tensor): tensor for tensor in own if tensor is not None and _foreign(tensor)}
    held = [tensor for tensor in foreign.values() if tensor.data_ptr() not in settled]
    if sum(tensor.numel() * tensor.element_size() for tensor in held) < SHARE * mapped:
        for tensor in held:
            tensor.data = tensor.data.clone()
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # glibc alone has it, and Windows no library without a name
        ctypes.CDLL(None).malloc_trim(0)


def _foreign(tensor: Tensor) -> bool:
    """Whether its memory is not torch's own: a mapped file's, for what a checkpoint gave."""
    import torch

    return tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.untyped_storage().resizable()
