"""Captured steps, with a recorder that has no graphs: it keeps what it was given and runs it on the same memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from logitmill.core.engine import Engine
from logitmill.core.model.captured import CapturedDecode, CudaRecorder, NoWaits, bucket, capturable
from logitmill.core.model.runner import make_runner
from logitmill.core.model.slotted import SlotRunner
from logitmill.plugins.testing import tiny

VOCAB = 320
Replay = Callable[[], None]


class Keeping:
    """As CUDA graphs do: the result lies in one place, and each replay overwrites it."""

    def __init__(self) -> None:
        self.recorded = self.replays = self.forgotten = 0

    def record(self, run: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        self.recorded += 1
        with NoWaits():
            result = run().clone()

        def replay() -> None:
            self.replays += 1
            result.copy_(run())

        result.fill_(float("nan"))  # a capture runs nothing
        return replay, result

    def forget(self) -> None:
        self.forgotten += 1


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB, n_embd=64, n_layer=2, n_head=4, n_positions=2048, initializer_range=0.2)
    return GPT2LMHeadModel(config).eval()


def capturing(model: PreTrainedModel, rows: int = 4, max_length: int = 1000) -> tuple[SlotRunner, Keeping]:
    runner, recorder = make_runner(model, rows=rows, max_length=max_length), Keeping()
    assert isinstance(runner, SlotRunner)
    runner.captured = CapturedDecode(model, recorder, runner._recorded, runner._lengths)
    return runner, recorder


def eager(model: PreTrainedModel, rows: int = 4, max_length: int = 1000) -> SlotRunner:
    runner = make_runner(model, rows=rows, max_length=max_length)
    assert isinstance(runner, SlotRunner)
    assert runner.captured is None, "nothing is captured on a CPU"
    return runner


def tokens(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=count)


def column(seed: int, count: int) -> Tensor:
    return torch.tensor(tokens(seed, count))[:, None]


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("length", "wanted"),
    [(1, 256), (256, 256), (257, 512), (513, 768), (769, 1024), (1025, 1536), (1537, 2048), (2049, 3072), (4000, 4096)],
)
def test_buckets_by_hand(length: int, wanted: int) -> None:
    assert bucket(length) == wanted


def test_few_buckets_none_too_small_and_none_half_as_long_again() -> None:
    lengths = range(1, 4097)
    assert len({bucket(length) for length in lengths}) == 8
    for length in lengths:
        assert length <= bucket(length) <= max(256, 1.5 * length + 256)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_any_history_gives_what_eager_steps_give(make: Callable[[], PreTrainedModel]) -> None:
    """Rows that join, leave, move, fork and rewind between replays: the graph reads what is there at each of them."""
    model, chance = make(), random.Random(5)
    (runner, recorder), plain = capturing(model), eager(model)
    live = 0
    for turn in range(150):
        act = chance.choice(["join", "join", "leave", "copy", "rewind", *["step"] * 6])
        if act == "join" and live < 4:
            prompt = tokens(turn, chance.randrange(1, 60))
            close(runner.prefill(live, prompt), plain.prefill(live, prompt))
            live += 1
        elif act == "leave" and live:
            parents = [live - 1, *range(1, live - 1)][: live - 1]
            for each in (runner, plain):
                if parents:
                    each.select(parents)
            live -= 1
        elif act == "copy" and 0 < live < 4:
            for each in (runner, plain):
                each.copy(0, live)
            live += 1
        elif act == "rewind" and live and runner.lengths[0] > 2:
            for each in (runner, plain):
                each.rewind(0, each.lengths[0] - 2)
        elif live:
            close(runner.decode(column(turn, live), live), plain.decode(column(turn, live), live))
        assert runner.lengths == plain.lengths
        assert runner._lengths.tolist() == runner.lengths
    assert runner.captured is not None
    assert runner.captured.trouble is None
    assert recorder.replays > 60 > 10 * recorder.recorded


FAMILIES = {
    "windows, lean": ("mistral", {"sliding_window": 16}),
    "norms of heads, lean": ("qwen3", {}),
    "windows": ("gemma3_text", {"sliding_window": 16}),
    "sinks and experts": ("gpt_oss", {"num_local_experts": 4, "sliding_window": 16}),
    "experts": ("mixtral", {"num_local_experts": 4}),
    "no positions": ("bloom", {}),
    "attention of its own": ("gptj", {"rotary_dim": 8, "n_inner": 128}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_any_family_are_captured_as_they_are(family: str) -> None:
    name, options = FAMILIES[family]
    small = {
        "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **small | options)).eval()
    (runner, recorder), plain = capturing(model), eager(model)
    for row, size in enumerate((5, 30, 17)):
        prompt = tokens(row, size)
        close(runner.prefill(row, prompt), plain.prefill(row, prompt))
    for turn in range(4):
        close(runner.decode(column(turn, 3), 3), plain.decode(column(turn, 3), 3))
    assert (recorder.recorded, recorder.replays) == (1, 4)


@pytest.mark.parametrize("lookahead", [False, True])
def test_an_engine_over_captured_steps_gives_the_same_text(lookahead: bool) -> None:
    model, found = tiny.llama(), []
    for captured in (False, True):
        runner = capturing(model, rows=3, max_length=256)[0] if captured else eager(model, rows=3, max_length=256)
        engine = Engine(tiny.loaded(model), runner)
        engine.loop.lookahead = lookahead
        prompts = ["Once", "A list of colors: red", "x", "The longest of these prompts, by far", "1 2 3 4", "!"]
        done = engine.generate(prompts, "temperature(0.9) | top_k(40) | sample until max_tokens(40)", seed=1)
        assert runner.captured is None or (captured and runner.captured.trouble is None)
        found.append([completion.tokens for completion in done])
    assert found[0] == found[1]


def test_one_recording_a_row_count_and_bucket() -> None:
    model = llama()
    (runner, recorder), plain = capturing(model, max_length=600), eager(model, max_length=600)
    for row, size in enumerate((250, 3)):
        runner.prefill(row, tokens(row, size))
        plain.prefill(row, tokens(row, size))
    runner._reserve(4, 600)
    for turn in range(12):  # the longer row passes 256 on the way
        close(runner.decode(column(turn, 2), 2), plain.decode(column(turn, 2), 2))
    assert (recorder.recorded, recorder.replays) == (2, 12)
    close(runner.decode(column(99, 1), 1), plain.decode(column(99, 1), 1))
    assert recorder.recorded == 3


def test_the_last_position_of_a_slot_is_reached() -> None:
    model = llama()
    (runner, _), plain = capturing(model, rows=2, max_length=300), eager(model, rows=2, max_length=300)
    for each in (runner, plain):
        each.prefill(0, tokens(0, 297))
    for turn in range(3):
        close(runner.decode(column(turn, 1), 1), plain.decode(column(turn, 1), 1))
    assert runner.lengths[0] == 300


def test_idle_rows_of_a_rounded_count_change_nothing() -> None:
    model = llama()
    (runner, _), plain = capturing(model), eager(model)
    for each in (runner, plain):
        for row in range(4):
            each.prefill(row, tokens(row, 9 + row))
    runner._exact = False  # as on a GPU: three rows run as four
    for turn in range(3):
        close(runner.decode(column(turn, 3), 3), plain.decode(column(turn, 3), 3))
    assert runner.lengths == [12, 13, 14, 12]
    held = tokens(3, 12)
    close(runner.prefill(3, [*held, 7], start=12), plain.prefill(3, [*held, 7], start=12))


def test_what_leaves_is_not_overwritten_by_the_next_replay() -> None:
    runner, _ = capturing(llama())
    runner.prefill(0, tokens(0, 5))
    first = runner.decode(column(1, 1), 1)
    kept = first.clone()
    runner.decode(column(2, 1), 1)
    assert torch.equal(first, kept)
    first.zero_()  # a stage may write to its logits
    assert runner.decode(column(3, 1), 1).abs().sum() > 0


def test_recordings_go_when_the_cache_moves_and_not_before() -> None:
    runner, recorder = capturing(llama())
    runner.bytes_by_device = {}  # as where memory is not known to suffice for all slots at once
    runner.prefill(0, tokens(0, 5))
    runner.decode(column(0, 1), 1)
    runner.decode(column(1, 1), 1)
    assert recorder.recorded == 1
    runner.prefill(1, tokens(1, 700))  # more than there is room for
    runner.prefill(0, tokens(0, 5))
    runner.decode(column(2, 1), 1)
    assert recorder.recorded == 2
    runner.reset()
    assert runner.captured is not None
    assert not runner.captured._recorded, "an emptied runner holds no memory of the cache before"
    runner.prefill(0, tokens(0, 5))
    runner.decode(column(3, 1), 1)
    assert recorder.recorded == 3


def test_a_cache_that_fits_is_made_whole_and_never_moves() -> None:
    runner, recorder = capturing(llama())
    for turn, size in enumerate((5, 300, 700, 9)):
        runner.prefill(turn, tokens(turn, size))
        runner.decode(column(turn, turn + 1), turn + 1)
    assert (runner.cache.rows, runner.cache.positions) == (4, 1024)
    assert runner.captured is not None
    assert len(runner.captured._recorded) == recorder.recorded


def test_a_model_that_waits_for_the_device_runs_uncaptured() -> None:
    class Curious(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            if bool((x > 1e9).any()):
                raise ValueError
            result: Tensor = self.inner(x)
            return result

    model = gpt2()
    block = model.transformer.h[0]
    block.mlp = Curious(block.mlp)
    (runner, recorder), plain = capturing(model), eager(model)
    for each in (runner, plain):
        each.prefill(0, tokens(0, 5))
    for turn in range(2):
        close(runner.decode(column(turn, 1), 1), plain.decode(column(turn, 1), 1))
    assert recorder.replays == 0
    assert recorder.recorded == 1, "it is not tried again"
    assert runner.captured is not None
    assert "_local_scalar_dense" in str(runner.captured.trouble)


def test_a_model_that_is_changed_is_recorded_anew_and_one_that_is_hooked_no_more() -> None:
    model = gpt2()
    (runner, recorder), plain = capturing(model), eager(model)

    def both(turn: int) -> None:
        for each in (runner, plain):
            each.prefill(0, tokens(turn, 5))
        close(runner.decode(column(turn, 1), 1), plain.decode(column(turn, 1), 1))

    both(0)
    mlp = model.transformer.h[1].mlp
    mlp.c_proj.weight = nn.Parameter(torch.randn_like(mlp.c_proj.weight))
    both(1)
    assert recorder.recorded == 2
    model.transformer.h[0].mlp.register_forward_hook(lambda module, args, out: out * 0.5)
    both(2)
    assert recorder.recorded == 2
    assert runner.captured is not None
    assert runner.captured.trouble == "the model has been changed"


def test_hooked_and_spread_models_are_not_capturable() -> None:
    model = llama()
    assert capturable(model)
    handle = model.model.layers[0].register_forward_pre_hook(lambda module, args: None)
    assert not capturable(model)
    handle.remove()
    model.lm_head._hf_hook = object()
    assert not capturable(model)
    del model.lm_head._hf_hook
    model.lm_head.to("meta")
    assert not capturable(model)


def test_drafts_are_not_captured() -> None:
    runner, recorder = capturing(llama())
    runner.prefill(0, tokens(0, 5))
    runner.extend(torch.tensor([tokens(1, 3)]))
    assert (recorder.recorded, runner.lengths[0]) == (0, 8)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put((x > 0,), torch.zeros(())),
        lambda x: x.unique(),
        lambda x: x.long().abs().bincount(),
        lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.int64)),
        lambda x: torch.isin(x, torch.arange(40.0)),
        lambda x: torch.equal(x, x),
        lambda x: x.to("meta"),
    ],
)
def test_operations_that_wait_are_refused(operation: Callable[[Tensor], object]) -> None:
    x = torch.tensor([-1.0, 0.5, 2.0])
    with NoWaits(), pytest.raises(RuntimeError, match="waits for the device"):
        operation(x)


def test_operations_that_do_not_wait_are_let_through() -> None:
    x, rows = torch.tensor([[-1.0, 0.5, 2.0]]), torch.tensor([0])
    with NoWaits():
        y = torch.where(x > 0, x, 0.0)[rows].repeat_interleave(torch.tensor([2]), 0, output_size=2)
        y[rows, rows] = 4.0
        y = y.double().to(torch.float32) + torch.isin(x, torch.arange(3.0))
    assert y.tolist() == [[4.0, 0.5, 3.0], [0.0, 0.5, 3.0]]


class FakeCuda:
    """What ``CudaRecorder`` asks of torch.cuda, told in order; which stream is current while something runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, broken: bool = False) -> None:
        self.told: list[str] = []
        self.current, self.broken, self.pools = "now", broken, 0
        for name in ("Stream", "current_stream", "CUDAGraph", "graph_pool_handle", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, "make_" + name))

    def stream_named(self, name: str) -> Any:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.told.append(f"{name} waits for {other.name}"))

    def make_Stream(self, device: Any) -> Any:  # noqa: N802  # torch's name
        return self.stream_named("side")

    def make_current_stream(self, device: Any) -> Any:
        return self.stream_named(self.current)

    def make_CUDAGraph(self) -> Any:  # noqa: N802  # torch's name
        return SimpleNamespace(replay=lambda: self.told.append("replay"))

    def make_graph_pool_handle(self) -> int:
        self.pools += 1
        return self.pools

    @contextmanager
    def make_stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def make_graph(self, graph: Any, *, pool: int, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.told.append(f"capture on {stream.name} into pool {pool}, {capture_error_mode}")
        yield
        if self.broken:
            raise RuntimeError("operation failed due to a previous error during capture")
        self.told.append("captured")

    def run(self) -> Tensor:
        self.told.append(f"run on {self.current}")
        return torch.ones(1)


def test_the_recorder_runs_twice_beside_the_current_stream_and_then_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda"))
    replay, result = recorder.record(cuda.run)
    replay()
    assert result.tolist() == [1.0]
    assert cuda.told == [
        "side waits for now", "run on side", "run on side", "capture on side into pool 1, thread_local", "run on side",
        "captured", "now waits for side", "replay",
    ]  # fmt: skip
    recorder.forget()
    recorder.record(cuda.run)
    assert "capture on side into pool 2, thread_local" in cuda.told


def test_a_step_that_waits_is_never_captured_and_a_failed_capture_leaves_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)

    def waiting() -> Tensor:
        return cuda.run() * float(torch.ones(1).sum())

    with pytest.raises(RuntimeError, match="waits for the device"):
        CudaRecorder(torch.device("cuda")).record(waiting)
    assert cuda.told == ["side waits for now", "run on side", "now waits for side"]
    cuda = FakeCuda(monkeypatch, broken=True)
    with pytest.raises(RuntimeError, match="during capture"):
        CudaRecorder(torch.device("cuda")).record(cuda.run)
    assert (cuda.current, cuda.told[-1]) == ("now", "now waits for side")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures CUDA graphs: no CUDA device here")
@pytest.mark.parametrize("make", [llama, gpt2])
def test_graphs_give_what_eager_steps_give_and_wait_for_nothing(make: Callable[[], PreTrainedModel]) -> None:
    model = make().cuda()
    runner = make_runner(model, rows=4, max_length=600)
    assert isinstance(runner, SlotRunner)
    assert runner.captured is not None
    assert isinstance(runner.captured._recorder, CudaRecorder)
    plain = make_runner(model, rows=4, max_length=600)
    assert isinstance(plain, SlotRunner)
    plain.captured = None
    for row, size in enumerate((250, 3, 40)):
        prompt = tokens(row, size)
        close(runner.prefill(row, prompt), plain.prefill(row, prompt))
    for turn in range(12):
        fresh = column(turn, 3).cuda()
        wanted = plain.decode(fresh, 3)
        if turn in (2, 3, 4, 9, 10):  # between captures
            torch.cuda.set_sync_debug_mode("error")
        try:
            found = runner.decode(fresh, 3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        close(found, wanted)
    assert runner.captured.trouble is None
    assert len(runner.captured._recorded) == 2
