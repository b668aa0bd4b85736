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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from ..transfer import to_device
from .lean_attention import Attention, Heads, OverSlots, SideBySide
from .packed import OneDnnLinear, PackedLinear, Product, Slice
from .slots import SlotCache, SlotLayer, Step
from .standing import hooks, moved_by_accelerate, on_one_device

FAMILY = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
}
"""Class and transformers module of the models a lean step is known to be right for."""

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
        self._norm = _Norm(self._body.norm)
        self._compiled: Callable[[Tensor, SlotCache, Tensor, Attention], Tensor] | None = None
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
        attention = OverSlots(step)
        decoded: Callable[[Tensor, SlotCache, Tensor, Attention], Tensor] = self._decoded
        if self._compiled is not None and width == 1 and cache.filled:
            decoded = self._compiled
        with torch.inference_mode():  # a fifth of a step is what torch keeps for gradients otherwise
            for heads in self._kinds:
                attention.prepare(heads, self._body.embed_tokens.weight)
            x = decoded(ids, cache, step.positions, attention)
            if keep:
                x = x.view(rows, width, x.shape[-1])[:, -keep:].reshape(rows * keep, x.shape[-1])
            x = self._norm(x)
        logits = self._head(x)  # outside: a stage may write to logits, and nobody may to what inference mode made
        return logits.view(rows, -1, logits.shape[-1])

    def compile(self) -> str | None:
        """From the next step on, decode with one function that torch.compile makes of all layers.

        Why not, where that cannot be: oneDNN's layout is none that it knows.
        """
        if any(isinstance(module, OneDnnLinear) for module in self._seen.values()):
            return "layers in oneDNN's layout run kernels that are compiled for them already"
        self._compiled = torch.compile(self._decoded, dynamic=True)
        return None

    def prefill(self, prompts: Sequence[Sequence[int]], cache: SlotCache, first: int) -> Tensor:
        """Logits ``[n, V]`` behind each of n prompts, which fill the slots ``first .. first + n - 1`` in one pass."""
        device, lengths = self._body.embed_tokens.weight.device, [len(prompt) for prompt in prompts]
        ids = to_device([[token for prompt in prompts for token in prompt]], torch.int64, device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])[None]
        last = to_device(lengths, torch.int64, device).cumsum(0) - 1
        with torch.inference_mode():
            x = self._norm(self._decoded(ids, cache, positions, SideBySide(first, lengths))[last])
        return self._head(x)

    def _decoded(self, ids: Tensor, cache: SlotCache, positions: Tensor, attention: Attention) -> Tensor:
        """What the last layer leaves, ``[n, hidden]`` for n tokens."""
        x: Tensor = self._body.embed_tokens(ids)  # [rows, width, hidden]
        rotation = _Rotation(self._body.rotary_emb, x, positions)
        x = x.view(-1, x.shape[-1])
        for index, layer in enumerate(self._layers):
            x = layer(x, cache.layer(index), rotation, attention)
        return x


class _Layer:
    """One decoder layer. Activations are ``[n, hidden]``."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        config = attention.config
        window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
        count = config.num_attention_heads, config.num_key_value_heads
        self.heads = Heads(*count, attention.head_dim, attention.scaling, window)
        self.rotates = bool(getattr(attention, "use_rope", True))
        self.norms_heads = hasattr(attention, "q_norm")
        if self.norms_heads:
            self.q_norm, self.k_norm = _Norm(attention.q_norm), _Norm(attention.k_norm)
        self.before, self.between = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        dtype = self.before.weight.dtype
        self.mix = _joined([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self.out = _product(attention.o_proj, dtype)
        self.gate_up, self.down = _joined([mlp.gate_proj, mlp.up_proj], dtype), _product(mlp.down_proj, dtype)

    def __call__(self, x: Tensor, slots: SlotLayer, rotation: _Rotation, attention: Attention) -> Tensor:
        heads = self.heads
        states = self.mix(self.before(x)).view(-1, heads.queries + 2 * heads.keys, heads.dim)
        if self.norms_heads:
            q, k, v = states.split([heads.queries, heads.keys, heads.keys], 1)
            states = torch.cat([self.q_norm(q), self.k_norm(k), v], 1)
        if self.rotates:
            states = rotation.of(states, heads.keys)
        x = self.out(attention(heads, states, slots)).add_(x)
        gate, up = self.gate_up(self.between(x)).chunk(2, 1)  # [n, inner] each
        return self.down(functional.silu(gate).mul_(up)).add_(x)


# -- the parts of a layer ----------------------------------------------------------------------------------------------


class _Norm:
    """RMSNorm over the last dimension.

    A CPU has no kernel for it, and torch does it in eight small ones; it has one for LayerNorm, which of ``[x, -x]``,
    whose mean is 0 and whose variance is the mean square of x, is the same in half the time.
    """

    def __init__(self, norm: Any) -> None:
        self.weight: Tensor = norm.weight
        self.eps: float = norm.variance_epsilon
        self.size = self.weight.shape[0]
        self._mirrored, self._shape = None, [2 * self.size]
        if self.weight.device.type == "cpu":
            self._mirrored = torch.cat([self.weight.data, torch.zeros_like(self.weight.data)])

    def __call__(self, x: Tensor) -> Tensor:
        if self._mirrored is None or torch.compiler.is_compiling():
            return functional.rms_norm(x, (self.size,), self.weight, self.eps)
        both = torch.native_layer_norm(torch.cat([x, -x], -1), self._shape, self._mirrored, None, self.eps)[0]
        return both.narrow(-1, 0, self.size).contiguous()


class _Rotation:
    """Rotary embedding of queries and keys, for all layers of a pass. The values of a layer, which lie in the same
    tensor behind its keys, are turned by no angle.
    """

    def __init__(self, rotary: Any, x: Tensor, positions: Tensor) -> None:
        cos, sin = rotary(x, positions)  # [rows, width, dim]
        self.half = sin.shape[-1] // 2
        self._cos = cos.reshape(-1, 1, cos.shape[-1])
        signed = torch.cat([-sin[..., : self.half], sin[..., self.half :]], -1)
        self._sin = signed.reshape(-1, 1, cos.shape[-1])  # what comes from the other half, with its sign
        self._tables: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def of(self, heads: Tensor, values: int) -> Tensor:
        """``heads`` ``[n, all, dim]``, the last ``values`` of them as they are."""
        count = heads.shape[1]
        if (count, values) not in self._tables:
            n, _, dim = self._cos.shape
            ones, zeros = self._cos.new_ones(n, values, dim), self._cos.new_zeros(n, values, dim)
            turned = count - values
            self._tables[count, values] = (
                torch.cat([self._cos.expand(n, turned, dim), ones], 1),
                torch.cat([self._sin.expand(n, turned, dim), zeros], 1),
            )
        cos, sin = self._tables[count, values]
        return torch.addcmul(heads * cos, heads.roll(self.half, -1), sin)


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
    if isinstance(layer, PackedLinear) and layer.dtype == dtype:
        return layer.product()
    made: Product = layer
    return made


def _weights(modules: Mapping[str, nn.Module]) -> list[tuple[int, torch.dtype, int]]:
    """Where each weight lies, its dtype, and how often it was written to: norms are held in another form here.

    bitsandbytes' layers are asked themselves, and lay their weights out anew at their first product.
    """
    own = [module for module in modules.values() if not type(module).__module__.startswith("bitsandbytes")]
    held = [tensor for module in own for tensor in (*module._parameters.values(), *module._buffers.values())]
    return [(tensor.data_ptr(), tensor.dtype, tensor._version) for tensor in held if tensor is not None]


__all__ = ["LeanDecoder", "groups", "misfit"]
