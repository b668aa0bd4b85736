"""How a model stands: where its tensors lie, and who looks into its forward.

Steps of our own (core.model.lean, core.model.captured) are made from a model once. They ask here whether they may be,
and again before a prompt whether the model is still the one they were made from.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer."""
    yield from model.parameters()
    yield from model.buffers()


def on_one_device(model: nn.Module) -> bool:
    """Whether all of it lies on one device."""
    return len({tensor.device for tensor in tensors(model)}) == 1


def moved_by_accelerate(model: nn.Module) -> bool:
    """Whether accelerate moves its weights or inputs as it runs."""
    return any(hasattr(module, "_hf_hook") for module in model.modules())


def hooks(module: nn.Module) -> int:
    """How many hooks there are on the forward of one module."""
    return len(module._forward_hooks) + len(module._forward_pre_hooks)
