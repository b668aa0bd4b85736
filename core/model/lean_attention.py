"""Attention of the lean decoder step: where keys and values are written, and what each query sees.

Two ways. ``OverSlots`` is a pass that a ``Step`` describes: as many new tokens in each of some rows. ``SideBySide`` is
several prompts of any lengths in one pass, one behind the other: every product of the layer is done for all of them at
once, and attention alone goes prompt by prompt.

Query heads that share a key head are folded below one another in one attention call, instead of repeating its keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .slots import SlotCache, Step


@dataclass(frozen=True)
class Heads:
    """How a layer's heads are laid out. ``window``: keys a query sees, itself included; None for all before it."""

    queries: int
    keys: int
    dim: int
    scaling: float
    window: int | None

    @cached_property
    def parts(self) -> list[int]:
        """Heads of queries, and of keys and values together, as they lie behind one another."""
        return [self.queries, 2 * self.keys]

    @cached_property
    def group(self) -> int:
        """Query heads of one key head."""
        return self.queries // self.keys


class Attention(Protocol):
    """What the layers of one pass share."""

    def open(self) -> None:
        """Before the first layer."""

    def __call__(self, heads: Heads, states: Tensor, layer: int) -> Tensor:
        """``states`` ``[n, queries + 2 * keys, dim]``, rotated, to what they attend to, ``[n, queries * dim]``."""


class OverSlots:
    """A pass of ``step`` over a joined ``cache``, by layers with ``kinds`` of heads, whose masks are ``like``'s dtype.

    Masks and views are made for all layers at once.
    """

    def __init__(self, step: Step, cache: SlotCache, kinds: Iterable[Heads], like: Tensor) -> None:
        self.step, self.cache = step, cache
        self._masks: dict[int | None, Tensor | None] = {}  # by window
        for heads in kinds:
            mask = step_mask(step, heads.window, heads.group, like.device)
            if mask is not None:  # additive, or each layer would make it so
                mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, float("-inf"))
            self._masks[heads.window] = mask
        self._one = step.width == 1 and step.lengths is None  # token a row, and all rows in one call

    def open(self) -> None:
        step, whole = self.step, self.cache.whole
        assert whole is not None
        seen = whole[:, step.first : step.first + step.rows, : step.length].transpose(2, 3)
        keys, values = seen.chunk(2, 2)  # [layers, rows, heads, length, dim] each
        self._places: Tensor | None = None
        if step.start is not None:
            into = whole[:, step.first, step.start : step.start + step.width]  # [layers, width, 2 * heads, dim]
        else:
            rows, positions = step.index(whole.device)
            into = whole.flatten(1, 2)  # [layers, all rows * positions, 2 * heads, dim]
            self._places = (rows * whole.shape[2] + positions).view(-1)
        self._layers = list(zip(into.unbind(0), keys.unbind(0), values.unbind(0), strict=True))

    def __call__(self, heads: Heads, states: Tensor, layer: int) -> Tensor:
        queries, mixed = states.split(heads.parts, 1)
        into, k, v = self._layers[layer]
        if self._places is None:
            into.copy_(mixed)
        else:
            into.index_copy_(0, self._places, mixed)
        mask, scale = self._masks[heads.window], heads.scaling
        if self._one:
            folded = queries.view(-1, heads.keys, heads.group, heads.dim)
            out = functional.scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=scale)
            return out.reshape(-1, heads.queries * heads.dim)
        if mask is None and self.step.width > 1:
            return causal(heads, queries, k, v)
        return self._folded(heads, queries, k, v, mask)

    def _folded(self, heads: Heads, queries: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Several tokens a row, or rows one by one."""
        rows, width, group, dim = self.step.rows, self.step.width, heads.group, heads.dim
        folded = queries.reshape(rows, width, heads.keys, group, dim).permute(0, 2, 3, 1, 4)
        folded = folded.reshape(rows, heads.keys, group * width, dim)
        if self.step.lengths is None:
            out = functional.scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=heads.scaling)
        else:
            out = torch.cat([_alone(heads, folded, k, v, mask, row, end) for row, end in enumerate(self.step.lengths)])
        out = out.reshape(rows, heads.keys, group, width, dim).permute(0, 3, 1, 2, 4)
        return out.reshape(rows * width, heads.queries * dim)


@dataclass
class SideBySide:
    """Prompts of ``lengths`` tokens from position 0 of the slots ``first``, ``first + 1`` ... of a joined ``cache``."""

    cache: SlotCache
    first: int
    lengths: Sequence[int]

    def open(self) -> None:
        assert self.cache.whole is not None
        self._layers = self.cache.whole.unbind(0)  # [rows, positions, 2 * heads, dim] each

    def __call__(self, heads: Heads, states: Tensor, layer: int) -> Tensor:
        parts = []
        for row, own in enumerate(states.split(list(self.lengths)), self.first):
            mixed = own[:, heads.queries :]  # [width, 2 * keys, dim]
            self._layers[layer][row, : len(own)] = mixed
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
