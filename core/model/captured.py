"""The decode step of a GPU, captured once and replayed: the device is told once what it does at every step.

A step of a model is some hundreds of kernels of a few microseconds, and starting each from Python takes longer than it
runs. A CUDA graph starts all of them in one call, provided that nothing but values changes from step to step: the same
memory, the same shapes, no question to the device. So a step here runs a power of two of rows, over a few lengths of
attention (``bucket``), and takes its tokens and positions from tensors that stay where they are.

What is recorded holds addresses. It is forgotten when the cache's memory moves, and given up when the model has
changed, or turns out to be one that cannot be captured: then steps run as they did before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from .slots import SlotCache, Step
from .standing import hooks, moved_by_accelerate, on_one_device, tensors

UNIT = 256
"""Attention of a captured step reads a multiple of so many positions."""

Forward = Callable[[SlotCache, Tensor, Step], Tensor]
"""(the cache, int64 ``[rows, 1]``, the step) to logits ``[rows, 1, V]`` in the model's dtype."""


def bucket(length: int) -> int:
    """The least of 256 times 1, 2, 3, 4, 6, 8, 12, 16 ... that is at least ``length``.

    Attention reads up to half as much again as it has to, and a row of 4,096 positions meets nine lengths.
    """
    units = -(-length // UNIT)
    power = 1 << (units - 1).bit_length()
    between = power * 3 // 4
    return UNIT * (between if power >= 4 and units <= between else power)


class Recorder(Protocol):
    """What captures. On a GPU it is ``CudaRecorder``."""

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """(replay, result): ``replay()`` does what ``run`` does, and ``result`` then holds what it returned.

        The result is overwritten by the next replay. Raises RuntimeError where ``run`` cannot be captured.
        """

    def forget(self) -> None:
        """Nothing recorded so far will be replayed."""


class CudaRecorder:
    """CUDA graphs that share one memory pool: they are replayed one after another, on one stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        self.forget()

    def forget(self) -> None:
        """A pool goes with its last graph, and its handle may not be used again: take a new one."""
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See ``Recorder.record``."""
        graph, now = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        self._stream.wait_stream(now)
        try:
            with torch.cuda.stream(self._stream):  # also what sets the stream back where a capture fails
                # A model that waits for the device must not get as far as a capture: one that fails leaves the
                # allocator in it. Then once more as it will be captured, since libraries make handles, work space and
                # kernels at a first use, and torch.compile compiles at the first call outside of such a mode.
                with NoWaits():
                    run()
                run()
                # Other threads may go on allocating: a capture that forbade it would fail by chance.
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    result = run()
        finally:
            now.wait_stream(self._stream)
        return graph.replay, result


class CapturedDecode:
    """A model's ``forward`` with one token a row, recorded for every number of rows and bucket that occurs.

    ``lengths`` (int64 ``[all rows]``, on the device) is the runner's own and never moves: where each row's token goes.
    The caller advances it.
    """

    def __init__(self, model: PreTrainedModel, recorder: Recorder, forward: Forward, lengths: Tensor) -> None:
        self.trouble: str | None = None
        """Why steps are no longer captured."""
        self._model, self._recorder, self._forward, self._lengths = model, recorder, forward, lengths
        self._tokens = torch.zeros(len(lengths), 1, dtype=torch.int64, device=lengths.device)
        self._recorded: dict[tuple[int, int], tuple[Callable[[], None], Tensor]] = {}
        self._place: tuple[SlotCache, int] | None = None  # the cache that was recorded, and how often it had moved
        self._seen: tuple[dict[str, nn.Module], Sequence[int]] | None = None  # of the model that was recorded

    def __call__(self, cache: SlotCache, tokens: Tensor, count: int, length: int) -> Tensor | None:
        """float32 ``[count, 1, V]``, in memory of its own, of slots ``0 .. count - 1`` over ``length`` positions.

        ``tokens`` is int64 ``[live, 1]``, live <= count; slots behind them are idle and take token 0. ``cache`` must
        have room for all of it. None, with nothing written, where steps are not captured.
        """
        if self.trouble is not None or not cache.filled:
            return None
        if self._place != (cache, cache.moved):
            self.forget()
            self._place, self._seen = (cache, cache.moved), _look(self._model)
        self._tokens[: len(tokens)].copy_(tokens)
        if count > len(tokens):
            self._tokens[len(tokens) : count].zero_()
        if (count, length) not in self._recorded:
            try:
                self._recorded[count, length] = self._recorder.record(lambda: self._run(cache, count, length))
            except RuntimeError as error:  # torch's and CUDA's errors, of any model: it runs without
                self._give_up(f"a step cannot be captured: {next(iter(str(error).splitlines()), '')}")
                return None
        replay, result = self._recorded[count, length]
        replay()
        return result.to(torch.float32, copy=True)

    def _run(self, cache: SlotCache, count: int, length: int) -> Tensor:
        """What is recorded. It writes at the rows' own positions, so that running it twice is running it once."""
        positions = self._lengths[:count, None].clone()  # a model may do with its position ids as it likes
        step = Step(0, count, 1, length, positions)
        return self._forward(cache, self._tokens[:count], step)

    def check(self) -> None:
        """Look at the model again, as before a prompt: a replay would not see that it has been changed."""
        if self.trouble is not None or self._seen is None or _look(self._model) == self._seen:
            return
        self.forget()
        if not capturable(self._model):
            self._give_up("the model has been changed")

    def forget(self) -> None:
        """Drop what is recorded."""
        self._recorded.clear()
        self._recorder.forget()
        self._place = self._seen = None

    def _give_up(self, trouble: str) -> None:
        self.forget()
        self.trouble = trouble


def capturable(model: PreTrainedModel) -> bool:
    """Whether a step of ``model`` may be captured: it lies on one device, and nobody hooks into its forward."""
    return on_one_device(model) and not moved_by_accelerate(model) and not any(map(hooks, model.modules()))


def _look(model: nn.Module) -> tuple[dict[str, nn.Module], Sequence[int]]:
    """What a recording goes by: the modules, how many hooks they have, and where the weights lie."""
    modules = dict(model.named_modules())
    return modules, [sum(map(hooks, modules.values())), *(tensor.data_ptr() for tensor in tensors(model))]


# -- what must not be captured -----------------------------------------------------------------------------------------


class NoWaits(TorchDispatchMode):
    """Within it, an operation that makes the host wait for a GPU, or whose shape depends on values, is a RuntimeError.

    It goes by the operation, not by the device, so that a model can be tried on any.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if looks(func, args, kwargs or {}) or _crosses(func, args, kwargs or {}):
            raise RuntimeError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


_ALWAYS = frozenset(
    "_local_scalar_dense is_nonzero nonzero masked_select equal bincount _unique _unique2 unique_dim "
    "unique_consecutive unique_dim_consecutive".split()
)


def looks(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation has the host look at values, be it for the shape of its result."""
    name = func.overloadpacket.__name__ if func.namespace == "aten" else ""
    if name in _ALWAYS:
        return True
    if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"):
        return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name == "isin" and isinstance(args[0], Tensor) and isinstance(args[1], Tensor):
        return bool(args[1].numel() >= 10 * args[0].numel() ** 0.145)  # so many are sorted, and what is unique is kept
    return False


def _crosses(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it copies from one kind of device to another."""
    name = func.overloadpacket.__name__ if func.namespace == "aten" else ""
    if name == "copy_":
        return bool(args[0].device.type != args[1].device.type)
    there = kwargs.get("device") if name == "_to_copy" else None
    return there is not None and bool(torch.device(there).type != args[0].device.type)


__all__ = ["CapturedDecode", "CudaRecorder", "NoWaits", "Recorder", "bucket", "capturable", "looks"]
