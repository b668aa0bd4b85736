"""How long a slot may be: what the model was made for, and what memory allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil
import torch
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from .slotted import SlotRunner

DEFAULT_LENGTH = 4096
MEMORY_SHARE = 0.6  # of what is free when the model has been loaded; the rest is for activations and other programs


def model_length(model: PreTrainedModel) -> int | None:
    """Positions the model was made for; None where its configuration names no bound (ALiBi, recurrent models)."""
    config = model.config.get_text_config(decoder=True)
    return stated_length(lambda name: getattr(config, name, None))


def stated_length(entry: Callable[[str], Any]) -> int | None:
    """The same of a configuration, from what ``entry`` gives for a name in it, None where there is none."""
    for name in ("max_position_embeddings", "max_seq_len", "n_positions", "max_sequence_length"):
        found = entry(name)
        if isinstance(found, int) and found > 0:
            return found
    return None


def rope_limit(model: PreTrainedModel) -> int | None:
    """Positions up to which a rotary embedding does not depend on the longest sequence in the batch; None: always.

    Dynamic NTK and LongRoPE choose their frequencies by the largest position in the call, so that past this length a
    row would depend on its neighbours (and on keys rotated before the change).
    """
    config = model.config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    groups = [group for group in rope.values() if isinstance(group, dict)] or [rope]
    limits = []
    for group in groups:
        if group.get("rope_type", group.get("type")) in ("dynamic", "longrope"):
            limit = group.get("original_max_position_embeddings")
            limit = limit or getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
            limits.append(int(limit))
    return min(limits, default=None)


def affordable_length(runner: SlotRunner, wanted: int) -> int:
    """The largest multiple of 128 up to ``wanted`` for which ``runner.rows`` full slots fit in free memory, or 128."""
    length = wanted
    for device, size in runner.bytes_by_device.items():
        fits = int(free_bytes(device) * MEMORY_SHARE) // (size * runner.rows)
        if fits < length:
            length = max(128, fits // 128 * 128)
    return min(length, wanted)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on ``device`` now, torch's own unused reserve included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(psutil.virtual_memory().available)
