"""A lean decoder step for the Llama family: the same arithmetic as transformers' forward in a third of the calls.

Llama, Mistral, Qwen2, Qwen3 and SmolLM3 differ in biases, norms of heads, windows and which layers rotate; all of them
are a normed attention and a normed gated feed-forward, each added to the stream. Query, key and value are one product
here, gate and up another, and the query heads that share a key head are folded into one attention call instead of
repeating its keys. Everything is read from the model's own modules, and only from models whose class is transformers'
own: any other runs its own forward.

A model that has been changed since (hooks, adapters, layers put in another's place) is seen to be when a prompt comes,
and runs its own forward from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from ..transfer import to_device
from .lean_attention import Attention, Heads, OverSlots, SideBySide
from .lean_native import NativeLayers
from .lean_parts import Norm, Rotary, Rotation, Stream, stream
from .limits import rope_limit
from .packed import OneDnnLinear, PackedLinear, QuantizedLinear, Slice, onednn_takes
from .products import Product
from .quantize import cpu_has_bfloat16
from .slots import SlotCache, Step
from .standing import hooks, moved_by_accelerate, on_one_device
from .widened import WidenedLinear

FAMILY = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
}
"""Class and transformers module of the models a lean step is known to be right for."""

MANY, TWICE = 4, 128_000_000
"""Rows from which on, and bytes up to which, a quantized head is also held as the embedding that it is made of."""

FUSED = (("self_attn", ("q_proj", "k_proj", "v_proj")), ("mlp", ("gate_proj", "up_proj")))
"""In each layer: the block, and its projections that one product computes."""


def misfit(model: PreTrainedModel) -> str | None:
    """Why the lean step is not for ``model``; None where it is."""
    name = type(model).__name__
    if type(model).__module__ != f"transformers.models.{FAMILY.get(name)}.modeling_{FAMILY.get(name)}":
        return f"{name} is not of the Llama family"
    config: Any = model.config
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    if not on_one_device(model):
        return "it lies on more than one device"
    if moved_by_accelerate(model):
        return "accelerate moves its weights"
    norms = [module.weight.dtype for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    if {*norms} - {model.get_input_embeddings().weight.dtype}:
        return "its norms have another dtype than its embedding"
    return None


def groups(model: PreTrainedModel) -> Iterator[tuple[nn.Module, tuple[str, ...]]]:
    """The projections that go into one product: (their block, their names). Nothing where the lean step does not
    fit.
    """
    if misfit(model) is None:
        for layer in model.model.layers:
            for block, names in FUSED:
                yield getattr(layer, block), names


class LeanDecoder:
    """``model``'s forward over slots. Raises ValueError for a model that does not fit."""

    def __init__(self, model: PreTrainedModel) -> None:
        reason = misfit(model)
        if reason is not None:
            raise ValueError(reason)
        self.model = model
        self._body: Any = model.model
        self._layers = [_Layer(layer) for layer in self._body.layers]
        self._kinds = list(dict.fromkeys(layer.heads for layer in self._layers))
        self._head = _product(model.lm_head, self._body.embed_tokens.weight.dtype)
        self._head_of_many = _head_of_many(model)
        self._norm = Norm(self._body.norm)
        self._rotary = Rotary(self._body.rotary_emb, self._kinds[0], self._body.embed_tokens.weight, rope_limit(model))
        self._compiled: Callable[[Tensor, Tensor, Attention], Tensor] | None = None
        self.native: NativeLayers | None = None
        """Kernels of our own for a step of one token a row, where there are any."""
        with suppress(ValueError):
            self.native = NativeLayers(self._layers, self._norm, model.config.intermediate_size)
        self._seen = dict(model.named_modules())
        self._weights = _weights(self._seen)

    @property
    def unchanged(self) -> bool:
        """Whether the model still consists of the modules and weights this was made from, none of them hooked."""
        return (
            dict(self.model.named_modules()) == self._seen
            and _weights(self._seen) == self._weights
            and not any(hooks(module) or "forward" in vars(module) for module in self._seen.values())
        )

    def __call__(self, ids: Tensor, cache: SlotCache, step: Step, keep: int = 0) -> Tensor:
        """Logits ``[rows, width, V]`` (of the last ``keep`` positions, where not 0) of ``ids`` ``[rows, width]``."""
        step.attended = step.written = True
        rows, width = ids.shape
        self._join(cache)
        with torch.inference_mode():  # a fifth of a step is what torch keeps for gradients otherwise
            self._rotary.cover(step.length)
            native = self.native if self._compiled is None and width == 1 else None
            if native is not None and self._body.embed_tokens.weight.dtype == native.dtype:
                x = native(self._body.embed_tokens(ids)[:, 0], cache, step, self._rotary)
            else:
                decoded = self._decoded if self._compiled is None or width > 1 else self._compiled
                x = decoded(ids, step.positions, OverSlots(step, cache, self._kinds, self._body.embed_tokens.weight))
                if keep:
                    x = x.view(rows, width, x.shape[-1])[:, -keep:].reshape(rows * keep, x.shape[-1])
                x = self._norm(x)
        head = self._head if self._head_of_many is None or width > 1 or rows < MANY else self._head_of_many
        logits = head(x)  # outside: a stage may write to logits, and nobody may to what inference mode made
        return logits.view(rows, -1, logits.shape[-1])

    def compile(self) -> str | None:
        """From the next step on, decode with one function that torch.compile makes of all layers.

        Why not, where that cannot be: oneDNN's layout and calls are none that it knows.
        """
        if any(isinstance(module, OneDnnLinear | WidenedLinear) for module in self._seen.values()):
            return "layers of oneDNN run kernels that are compiled for them already"
        self._compiled = torch.compile(self._decoded, dynamic=True)
        return None

    def prefill(self, prompts: Sequence[Sequence[int]], cache: SlotCache, first: int) -> Tensor:
        """Logits ``[n, V]`` behind each of n prompts, which fill the slots ``first .. first + n - 1`` in one pass."""
        device, lengths = self._body.embed_tokens.weight.device, [len(prompt) for prompt in prompts]
        ids = to_device([[token for prompt in prompts for token in prompt]], torch.int64, device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])[None]
        last = to_device(lengths, torch.int64, device).cumsum(0) - 1
        self._join(cache)
        with torch.inference_mode():
            self._rotary.cover(max(lengths))
            x = self._norm(self._decoded(ids, positions, SideBySide(cache, first, lengths))[last])
        return self._head(x)

    def _join(self, cache: SlotCache) -> None:
        heads = self._kinds[0]  # they differ in windows alone
        cache.join(len(self._layers), heads.keys, heads.dim, self._body.embed_tokens.weight)

    def _decoded(self, ids: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """What the last layer leaves, ``[n, hidden]`` for n tokens."""
        x: Tensor = self._body.embed_tokens(ids)  # [rows, width, hidden]
        states, rotation = stream(x.view(-1, x.shape[-1])), self._rotary.at(positions)
        attention.open()
        for index, layer in enumerate(self._layers):
            layer(states, index, rotation, attention)
        return states.value


class _Layer:
    """One decoder layer. Activations are ``[n, hidden]``."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        config = attention.config
        window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
        count = config.num_attention_heads, config.num_key_value_heads
        self.heads = Heads(*count, attention.head_dim, attention.scaling, window)
        self.rotates = bool(getattr(attention, "use_rope", True))
        self.norms: tuple[Norm, Norm] | None = None
        """Of each head of queries, and of keys."""
        if hasattr(attention, "q_norm"):
            self.norms = Norm(attention.q_norm), Norm(attention.k_norm)
        self.before, self.between = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
        dtype = self.before.weight.dtype
        self.mix = _joined([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self.out = _product(attention.o_proj, dtype)
        self.gate_up, self.down = _joined([mlp.gate_proj, mlp.up_proj], dtype), _product(mlp.down_proj, dtype)

    def __call__(self, states: Stream, index: int, rotation: Rotation, attention: Attention) -> None:
        heads = self.heads
        mixed = self.mix(states.normed(self.before)).view(-1, heads.queries + 2 * heads.keys, heads.dim)
        if self.norms is not None:
            q, k, v = mixed.split([heads.queries, heads.keys, heads.keys], 1)
            mixed = torch.cat([self.norms[0](q), self.norms[1](k), v], 1)
        if self.rotates:
            mixed = rotation.of(mixed)
        states.add(self.out(attention(heads, mixed, index)))
        gate, up = self.gate_up(states.normed(self.between)).chunk(2, 1)  # [n, inner] each
        states.add(self.down(functional.silu(gate).mul_(up)))


# -- products ----------------------------------------------------------------------------------------------------------


def _joined(layers: Sequence[nn.Module], dtype: torch.dtype) -> Product:
    """One product for several layers: the layer that they are the parts of, in order, or else one after another."""
    of = [getattr(layer, "part_of", None) for layer in layers]
    slices = [part for part in of if isinstance(part, Slice)]
    if len(slices) == len(layers) and len({id(part.whole) for part in slices}) == 1:
        whole, ends = slices[0].whole, [part.stop for part in slices]
        if [part.start for part in slices] == [0, *ends[:-1]] and ends[-1] == whole.out_features:
            return _product(whole, dtype)
    each = [_product(layer, dtype) for layer in layers]
    return lambda x: torch.cat([product(x) for product in each], -1)


def _product(layer: Any, dtype: torch.dtype) -> Product:
    """A linear layer on ``[n, in]`` of ``dtype``, with the least around it."""
    if isinstance(layer, PackedLinear):
        product, inner = layer.product(), layer.dtype
        return product if inner == dtype else lambda x: product(x.to(inner)).to(dtype)
    made: Product = layer
    return made


def _head_of_many(model: PreTrainedModel) -> Product | None:
    """The output head for many rows, where it is a quantized one tied to an embedding that is there in bfloat16.

    Eight bits make a row's step read less; what many rows take is arithmetic, and of that bfloat16 has twice as much,
    where the processor has it.
    """
    weight: Any = model.get_input_embeddings().weight
    fits = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and weight.numel() * 2 <= TWICE
    fits = fits and cpu_has_bfloat16()
    head = model.lm_head
    fits = fits and model.config.tie_word_embeddings and isinstance(head, QuantizedLinear) and head.bias is None
    return OneDnnLinear(weight, tied=weight).product() if fits and onednn_takes(weight.dtype) else None


def _weights(modules: Mapping[str, nn.Module]) -> list[tuple[int, torch.dtype, int]]:
    """Where each weight lies, its dtype, and how often it was written to: norms are held in another form here.

    bitsandbytes' layers are asked themselves, and lay their weights out anew at their first product.
    """
    own = [module for module in modules.values() if not type(module).__module__.startswith("bitsandbytes")]
    held = [tensor for module in own for tensor in (*module._parameters.values(), *module._buffers.values())]
    return [(tensor.data_ptr(), tensor.dtype, tensor._version) for tensor in held if tensor is not None]


__all__ = ["LeanDecoder", "groups", "misfit"]
