"""How a transformers model attends over slots: masks by row position, and attention row by row where asked.

transformers' models build their masks through an interface chosen by ``config._attn_implementation``, and give it a
function of (batch, head, query position, key position) that already knows windows, chunks and what else the layer
wants. Registered under a name of ours and switched on around our own passes only, that interface evaluates the model's
own function at each row's real positions: no list of architectures, and ``model.generate`` goes on as before.

Attention itself stays the model's: sdpa or eager as it was loaded (sdpa in the place of kernels that take no mask).
With ``Step.lengths`` it is called row by row, each with its own length, since both the number of rows and the number
of masked keys may change how a kernel sums.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from .slots import Step

NAME = "logitmill_slots"

MaskFunction = Callable[[Any, Any, Any, Any], Any]


class _Active(threading.local):
    step: Step | None = None
    eager: bool = False


_active = _Active()


class SlotAttention:
    """Switches a model to slots for the length of a pass."""

    def __init__(self, model: PreTrainedModel) -> None:
        # Parents come before their sub-configurations, and writing a parent writes its children: restored in this
        # order.
        found = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
        self._configs = [config for config in found.values() if hasattr(config, "_attn_implementation")]
        own = model.config.get_text_config(decoder=True)._attn_implementation
        self.eager = own == "eager" or (own != "sdpa" and not getattr(model, "_supports_sdpa", False))
        """Whether masks are additive and attention is the model's own eager function."""

    @contextmanager
    def over(self, step: Step) -> Iterator[None]:
        """Within it, the model's forward attends over the slots as ``step`` says."""
        before = [config._attn_implementation for config in self._configs]
        outer = _active.step, _active.eager
        for config in self._configs:
            config._attn_implementation = NAME
        _active.step, _active.eager = step, self.eager
        try:
            yield
        finally:
            _active.step, _active.eager = outer
            for config, name in zip(self._configs, before, strict=True):
                config._attn_implementation = name


def slot_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *args: Any,
    mask_function: MaskFunction = causal_mask_function,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> Tensor | None:
    """The mask of one layer type: ``[rows, 1, q_length, kv_length]``, boolean for sdpa, additive for eager attention.

    None where sdpa needs no mask: one row, shorter than the layer's window, that starts at position 0 or adds one
    token.
    """
    step = _active.step
    if step is None:  # another thread is running the model by itself
        kwargs |= {"mask_function": mask_function, "local_size": local_size, "use_vmap": use_vmap, "device": device}
        sizes = dict(zip(("q_offset", "kv_offset"), args, strict=False))
        return sdpa_mask(batch_size, q_length, kv_length, allow_is_causal_skip=allow_is_causal_skip, **sizes, **kwargs)
    causal = kv_length == q_length or (q_length == 1 and step.start == kv_length - 1)
    if causal and allow_is_causal_skip and not _active.eager and (local_size is None or kv_length < local_size):
        return None
    _, queries = step.index(torch.device(device))
    rows = torch.arange(step.rows, device=device)
    heads = torch.arange(1, device=device)
    keys = torch.arange(kv_length, device=device)
    if use_vmap:  # a function that may not broadcast: map it over each index, queries together with their row
        for dims in ((None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, 0, None)):
            mask_function = torch.vmap(mask_function, in_dims=dims, out_dims=0)
        mask: Tensor = mask_function(rows, heads, queries, keys)
    else:
        mask = mask_function(rows[:, None, None, None], heads[None, :, None, None], queries[:, None, :, None], keys)
    mask = mask.expand(step.rows, -1, q_length, kv_length)
    if not _active.eager:
        return mask
    return torch.zeros((), dtype=dtype, device=device).where(mask, torch.finfo(dtype).min)


def slot_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The model's own attention over the slots: ``[rows, heads, width, dim]`` to ``[rows, width, heads, dim]``."""
    step = _active.step
    attend = _eager_of(module) if _active.eager else sdpa_attention_forward
    if step is not None:
        step.attended = True
    if step is None or step.lengths is None:
        out, weights = attend(module, query, key, value, attention_mask, **kwargs)
        return out, weights
    parts = []
    for row, length in enumerate(step.lengths):
        mask = None if attention_mask is None else attention_mask[row : row + 1, ..., :length]
        one = slice(row, row + 1)
        parts.append(attend(module, query[one], key[one, :, :length], value[one, :, :length], mask, **kwargs)[0])
    return torch.cat(parts), None


def _eager_of(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The eager attention that ``module``'s own file defines: it is where soft caps, sinks and biases are."""
    found: Callable[..., tuple[Tensor, Tensor | None]] = sys.modules[type(module).__module__].eager_attention_forward
    return found


AttentionInterface.register(NAME, slot_attention)
AttentionMaskInterface.register(NAME, slot_mask)
