"""Attention of the lean decoder step: where keys and values are written, and what each query sees.

Two ways. ``OverSlots`` is a pass that a ``Step`` describes: as many new tokens in each of some rows. ``SideBySide`` is
several prompts of any lengths in one pass, one behind the other: every product of the layer is done for all of them at
once, and attention alone goes prompt by prompt.

Query heads that share a key head are folded below one another in one attention call, instead of repeating its keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .slots import SlotLayer, Step


@dataclass(frozen=True)
class Heads:
    """How a layer's heads are laid out. ``window``: keys a query sees, itself included; None for all before it."""

    queries: int
    keys: int
    dim: int
    scaling: float
    window: int | None

    @property
    def group(self) -> int:
        """Query heads of one key head."""
        return self.queries // self.keys


class Attention(Protocol):
    """``states`` ``[n, queries + 2 * keys, dim]``, rotated, to what they attend to, ``[n, queries * dim]``."""

    def __call__(self, heads: Heads, states: Tensor, slots: SlotLayer) -> Tensor: ...


@dataclass
class OverSlots:
    """A pass of ``step``."""

    step: Step
    _masks: dict[tuple[int | None, int], Tensor | None] = field(default_factory=dict)

    def __call__(self, heads: Heads, states: Tensor, slots: SlotLayer) -> Tensor:
        step = self.step
        queries, mixed = states.split([heads.queries, 2 * heads.keys], 1)
        k, v = slots.write(mixed)
        mask = self._masks[heads.window, heads.group]
        if mask is None and step.width > 1:
            return causal(heads, queries, k, v)
        rows, width, group, dim = step.rows, step.width, heads.group, heads.dim
        if width == 1:
            folded = queries.view(rows, heads.keys, group, dim)
        else:
            folded = queries.reshape(rows, width, heads.keys, group, dim).permute(0, 2, 3, 1, 4)
            folded = folded.reshape(rows, heads.keys, group * width, dim)
        if step.lengths is None:
            out = functional.scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=heads.scaling)
        else:
            out = torch.cat([_alone(heads, folded, k, v, mask, row, end) for row, end in enumerate(step.lengths)])
        if width == 1:
            return out.reshape(rows, heads.queries * dim)
        out = out.reshape(rows, heads.keys, group, width, dim).permute(0, 3, 1, 2, 4)
        return out.reshape(rows * width, heads.queries * dim)

    def prepare(self, heads: Heads, like: Tensor) -> None:
        """Make the mask of such heads, additive in ``like``'s dtype: ahead of the layers, each of which would turn a
        boolean one into that.
        """
        key = heads.window, heads.group
        if key not in self._masks:
            mask = step_mask(self.step, heads.window, heads.group, like.device)
            if mask is not None:
                mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, float("-inf"))
            self._masks[key] = mask


@dataclass
class SideBySide:
    """Prompts of ``lengths`` tokens from position 0 of the slots ``first``, ``first + 1`` and so on."""

    first: int
    lengths: Sequence[int]

    def __call__(self, heads: Heads, states: Tensor, slots: SlotLayer) -> Tensor:
        parts = []
        for row, own in enumerate(states.split(list(self.lengths)), self.first):
            mixed = own[:, heads.queries :]  # [width, 2 * keys, dim]
            slots.fill(row, mixed)
            k, v = mixed.transpose(0, 1)[None].chunk(2, 1)
            window = heads.window
            if window is None or len(own) <= window:
                parts.append(causal(heads, own[:, : heads.queries], k, v))
                continue
            places = torch.arange(len(own), device=own.device)
            mask = (places <= places[:, None]) & (places > places[:, None] - window)
            parts.append(causal(heads, own[:, : heads.queries], k, v, mask))
        return torch.cat(parts)


def causal(heads: Heads, queries: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """One row over itself: ``queries`` ``[width, queries, dim]``, keys ``[1, keys, width, dim]``.

    The kernel's own triangle (where there is no ``mask`` ``[width, width]``) needs heads one by one.
    """
    out = functional.scaled_dot_product_attention(
        queries.transpose(0, 1)[None], k, v, attn_mask=mask, is_causal=mask is None, scale=heads.scaling,
        enable_gqa=heads.group > 1,
    )  # fmt: skip
    return out[0].transpose(0, 1).reshape(-1, heads.queries * heads.dim)


def step_mask(step: Step, window: int | None, group: int, device: torch.device) -> Tensor | None:
    """bool ``[rows, 1, queries, length]``: the keys a query may see, with ``group`` times its rows where there are
    several tokens; None where a query sees all, or each token what is before it.
    """
    fits = window is None or step.length <= window
    whole = step.start is not None and step.length == step.start + step.width
    if fits and whole and step.lengths is None and (step.start == 0 or step.width == 1):
        return None
    places = step.positions.to(device)[:, None, :, None]  # [rows, 1, width, 1]
    keys = torch.arange(step.length, device=device)
    mask = keys <= places
    if window is not None and not fits:
        mask &= keys > places - window
    return mask.repeat(1, 1, group, 1) if group > 1 and step.width > 1 else mask


def _alone(heads: Heads, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, row: int, length: int) -> Tensor:
    """One row over its own length: how many keys a kernel sums must not depend on the others."""
    one = slice(row, row + 1)
    own = None if mask is None else mask[one, ..., :length]
    k, v = k[one, :, :length], v[one, :, :length]
    return functional.scaled_dot_product_attention(q[one], k, v, attn_mask=own, scale=heads.scaling)
