"""No step waits for a GPU: whole steps on a device that holds no values, where every look at one is found out.

Tensors on torch's "meta" device have shapes and nothing else, and logitmill takes the same way with them as with a
GPU's. What a look at values is on a GPU, a wait, is an error there; copies that wait are caught by name.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import logitmill as lm
from logitmill.core import transfer
from logitmill.core.engine import Engine
from logitmill.core.model.captured import CapturedDecode, looks
from logitmill.core.model.slotted import SlotRunner
from logitmill.core.transfer import Arriving

TOKEN = 65
MAKERS = {torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy}


class Watch(TorchFunctionMode):
    """Notes copies from memory that can be paged out, indices from the host, and looks at values that are not there."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def note(self, what: str) -> None:
        frames = [
            frame
            for frame in traceback.extract_stack()
            if "test" not in frame.filename and "torch" not in frame.filename
        ]
        self.found.append(f"{what}\n    {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MAKERS and torch.device(kwargs.get("device") or "cpu").type != "cpu":
            self.note(f"{func.__name__} of the host's numbers on a device: core.transfer.to_device does not wait")
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].device.type != "cpu":
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(i, list) or (isinstance(i, Tensor) and i.device.type == "cpu") for i in indices):
                self.note(f"an index from the host is a copy that waits: {args[1]}")
        try:
            result = func(*args, **kwargs)
        except (RuntimeError, NotImplementedError) as error:
            self.note(f"{getattr(func, '__name__', func)}: {error}")
            raise
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda) and isinstance(result, Tensor):
            here, there = args[0].device.type, result.device.type
            queued = kwargs.get("non_blocking") or sys._getframe(1).f_code.co_filename == transfer.__file__
            if here != there and (there == "cpu" or not queued):
                self.note(f"a copy from {here} to {there} that waits")
        return result


class Looks(TorchDispatchMode):
    """Raises for operations that look at values, so that ``Watch`` around it notes them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if looks(func, args, kwargs or {}):
            raise RuntimeError(f"{func} looks at values")
        return func(*args, **(kwargs or {}))


@contextmanager
def watched() -> Iterator[None]:
    """Fails where a step waited. A stage that raises ends its rows only, so what was found is told behind the step."""
    with Looks(), Watch() as watch:
        yield
    assert not watch.found, "\n".join(watch.found)


def told(self: Arriving) -> list[Any]:
    """The step's one read: every row took the same token, nothing is wrong with it, and no test holds."""
    rows, columns = self._columns[0].shape
    return [[float(TOKEN), 1.0, 1.0, 1.0, *[0.0] * (columns - 4)] for _ in range(rows)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    from transformers import LlamaConfig, LlamaForCausalLM

    from logitmill.plugins.testing import tiny

    config = LlamaConfig(
        vocab_size=6000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, eos_token_id=tiny.EOS,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    monkeypatch.setattr(Arriving, "tolist", told)
    made = Engine(tiny.loaded(model), SlotRunner(model, rows=4, max_length=512))
    made.loop.lookahead = True
    return made


def steps(engine: Engine, strategies: list[str], count: int = 3) -> None:
    """Rows of these strategies join; the steps behind that are watched."""
    many = [lm.Strategy.parse(text) for text in strategies]
    prompts = [[TOKEN + i] * (5 + i) for i in range(len(many))]
    for request in engine._requests(prompts, many, list(range(len(many))), 1, None, None, trace=False, echo=False):
        engine.loop.submit(request)
    events = engine.loop.step()
    assert not [event for event in events if event.completion is not None]
    for _ in range(count):
        with watched():
            events = engine.loop.step()
        assert [event.completion.error for event in events if event.completion is not None] == []
    assert {row.tokens[-1] for row in engine.loop.batch.rows} == {TOKEN}


USUAL = [
    "greedy until eos or max_tokens(99)",
    "temperature(0.8) | top_k(50) | top_p(0.95) | sample until eos or max_tokens(99)",
    "temperature(0.7) | top_p(0.9) | sample until max_tokens(99)",
    "min_p(0.05) | temperature(1.2) | sample until max_tokens(99)",
    "repetition(1.1) | frequency(0.2) | presence(0.1) | top_k(40) | sample until max_tokens(99)",
    "typical(0.9) | sample until max_tokens(99)",
    "top_n_sigma(1.0) | sample until max_tokens(99)",
    "gumbel until max_tokens(99)",
    "temperature(1.2 -> 0.6 over 64) | top_p(0.9) | sample until max_tokens(99)",
    "temperature(0.3 + 0.2*entropy) | sample until eos or max_tokens(99)",
    'top_k(50) | sample until stop("x") or max_tokens(99)',
    "temperature(0.8) | sample",
]


@pytest.mark.parametrize("strategy", USUAL)
def test_a_step_of_one_strategy_waits_for_nothing(engine: Engine, strategy: str) -> None:
    steps(engine, [strategy] * 2)


def test_a_captured_step_waits_for_nothing(engine: Engine) -> None:
    class Running:
        """A recorder without graphs."""

        def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
            result = run()
            return lambda: result.copy_(run()), result

        def forget(self) -> None:
            pass

    runner = engine.runner
    assert isinstance(runner, SlotRunner)
    runner.captured = CapturedDecode(engine.model, Running(), runner._recorded, runner._lengths)
    steps(engine, USUAL[:3])
    assert runner.captured.trouble is None
    assert list(runner.captured._recorded) == [(4, 256)], "three rows run as four"


def test_a_step_of_one_row_waits_for_nothing(engine: Engine) -> None:
    steps(engine, USUAL[1:2])


def test_a_step_of_mixed_strategies_waits_for_nothing(engine: Engine) -> None:
    steps(engine, USUAL[:3])


def test_rows_of_one_shape_with_numbers_of_their_own_wait_for_nothing(engine: Engine) -> None:
    steps(engine, [f"temperature({t}) | top_k({k}) | top_p({p}) | sample until max_tokens(99)"
                   for t, k, p in ((0.8, 50, 0.9), (1.1, 20, 0.95), (0.5, 40, 0.8))])  # fmt: skip


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).any()),
        lambda x: x[[0, 1]],
        lambda x: x[torch.tensor([0])],
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.tensor([1.0]).to(x.device),
        lambda x: x.nonzero(),
    ],
)
def test_the_watch_finds(look: Any) -> None:
    x = torch.zeros(4, 3, device="meta")
    with pytest.raises(AssertionError), watched(), suppress(RuntimeError, NotImplementedError):
        look(x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks CUDA itself: no CUDA device here")
@pytest.mark.parametrize("strategy", USUAL)
def test_cuda_itself_sees_no_wait(strategy: str) -> None:
    """Only the read of the step waits, and for its own copy: an event, which the debug mode does not count."""
    from logitmill.core.model.runner import make_runner
    from logitmill.plugins.testing import tiny

    model = tiny.llama().cuda()
    engine = Engine(tiny.loaded(model), make_runner(model, rows=4, max_length=256))
    whole = lm.Strategy.parse(strategy)
    for request in engine._requests([[65] * 5] * 2, [whole] * 2, [0, 1], 1, None, None, trace=False, echo=False):
        engine.loop.submit(request)
    for _ in range(3):
        engine.loop.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine.loop.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(engine.loop.batch) == 2
